"""The number of processes that parse; their work is in `tests/integration`."""

import pytest

from container.codecs.records import Columns
from train.input.parsing.chunks import Chunk
from train.input.parsing.parallel_parser import parse, process_count


@pytest.mark.parametrize(
    ("n_cpus", "memory_mb", "expected"),
    [(1, 10**6, 0), (2, 2048, 1), (4, 1024, 2), (4, 512, 1), (4, 256, 0), (64, 10**6, 8)],
)
def test_processes_are_as_many_as_pay(n_cpus: int, memory_mb: int, expected: int) -> None:
    """One for every other CPU, eight at most, and an eighth of the memory."""
    assert process_count(n_cpus, memory_mb * 2**20) == expected


def test_few_chunks_start_no_process() -> None:
    """A process costs more than it saves; a unit test that starts one fails."""
    chunks = [Chunk("file 'a'", number, b"1,2\n") for number in range(3)]

    parsed = list(parse(chunks, "text/csv", Columns(), n_processes=2))

    assert [chunk for chunk, _ in parsed] == chunks
