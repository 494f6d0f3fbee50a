import pytest

from serve.multi_model.residency.versions import Versions, is_settled


def test_version_is_odd_while_it_changes_and_new_afterwards(versions: Versions) -> None:
    """Whoever looks during a change cannot take what he sees for settled."""
    place = versions.index("m")
    before = versions.cells[place]

    with versions.change("m"):
        during = versions.cells[place]

    assert is_settled(before)
    assert not is_settled(during)
    assert is_settled(versions.cells[place])
    assert versions.cells[place] > before


def test_version_stays_odd_when_its_writer_dies_until_the_next_change(versions: Versions) -> None:
    """A change that was begun and never ended is noticed for ever; the next one mends it."""
    change = versions.change("m")
    change.__enter__()
    place = versions.index("m")
    assert not is_settled(versions.cells[place])

    with versions.change("m"):
        assert not is_settled(versions.cells[place])

    assert is_settled(versions.cells[place])


def test_change_that_fails_settles_under_a_new_version(versions: Versions) -> None:
    """Nobody keeps trusting what was seen before it."""
    before = versions.cells[versions.index("m")]

    with pytest.raises(KeyError), versions.change("m"):
        raise KeyError

    assert versions.cells[versions.index("m")] == before + 2
