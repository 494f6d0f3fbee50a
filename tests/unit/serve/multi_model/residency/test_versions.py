import pytest

from serve.multi_model.residency.versions import Versions, is_settled


def test_version_is_odd_while_it_changes_and_new_afterwards(versions: Versions) -> None:
    """Is odd, and so not trusted, during a change."""
    place = versions.index("m")
    before = versions.cells[place]

    with versions.change("m"):
        during = versions.cells[place]

    assert is_settled(before)
    assert not is_settled(during)
    assert is_settled(versions.cells[place])
    assert versions.cells[place] > before


def test_version_stays_odd_when_its_writer_dies_until_the_next_change(versions: Versions) -> None:
    """Stays odd after a writer was killed; the next change makes it even."""
    change = versions.change("m")
    change.__enter__()
    place = versions.index("m")
    assert not is_settled(versions.cells[place])

    with versions.change("m"):
        assert not is_settled(versions.cells[place])

    assert is_settled(versions.cells[place])


def test_change_that_fails_settles_under_a_new_version(versions: Versions) -> None:
    """Is a new version also after a change that failed."""
    before = versions.cells[versions.index("m")]

    with pytest.raises(KeyError), versions.change("m"):
        raise KeyError

    assert versions.cells[versions.index("m")] == before + 2
