"""The memory bound of the answers of one process."""

import pytest

from container import cgroup
from container.errors import OutOfMemoryError
from serve.runtime.answer_memory import SMALL, room_for


@pytest.fixture
def _two_gibibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container of two CPUs with a fixed amount of free memory."""
    monkeypatch.setattr(cgroup, "memory_available_bytes", lambda: 2 << 30)
    monkeypatch.setattr(cgroup, "cpu_count", lambda: 2)


@pytest.mark.usefixtures("_two_gibibytes")
def test_answer_that_is_too_large_is_refused_with_the_numbers() -> None:
    """One record more than the message allows is refused."""
    most = (1 << 30) // (64 * 1000)

    with room_for(most, 1000):
        pass
    with pytest.raises(OutOfMemoryError) as refused, room_for(most + 1, 1000):
        pass

    assert refused.value.message == (
        f"about 1024 MiB are needed for {most + 1} records of 1000 predicted values; an answer may "
        f"take 1024 MiB now; send at most {most} records at a time"
    )


@pytest.mark.usefixtures("_two_gibibytes")
def test_answer_of_one_record_that_is_too_large_is_refused_with_another_remedy() -> None:
    """The message does not ask for requests of no records."""
    with pytest.raises(OutOfMemoryError) as refused, room_for(1, (1 << 30) // 64 + 1):
        pass

    assert refused.value.message == (
        "about 1024 MiB are needed for 1 record of 16777217 predicted values; an answer may take "
        "1024 MiB now; try again later, or give the container more memory"
    )


@pytest.mark.usefixtures("_two_gibibytes")
def test_answers_in_hand_leave_less_for_the_next() -> None:
    """Released memory is available again, also after an error."""
    with room_for(10_000, 1000):
        with pytest.raises(OutOfMemoryError), room_for(10_000, 1000):
            pass
        with room_for(1000, 1000):
            pass
    with pytest.raises(ValueError, match="no"), room_for(10_000, 1000):
        raise ValueError("no")
    with room_for(10_000, 1000):
        pass


def test_small_answer_is_never_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small answers are not counted: looking at the memory costs more than a prediction."""
    monkeypatch.delattr(cgroup, "memory_available_bytes")

    with room_for(SMALL, 1):
        pass
