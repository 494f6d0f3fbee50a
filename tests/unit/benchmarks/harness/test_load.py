"""Arguments of wrk, and the parsing of its output."""

import pytest

from benchmarks.harness import load
from benchmarks.harness.load import LoadError

FIGURES = (
    '{"requests": 3000, "duration_us": 1500000, "p50_us": 1250, "p99_us": 4000,'
    ' "connect": 1, "read": 2, "write": 3, "timeout": 4, "status": 5}'
)


def test_parse_reads_figures_and_converts_units() -> None:
    """Microseconds become milliseconds and seconds; all kinds of errors are summed."""
    result = load.parse(f"Running 1s test @ http://127.0.0.1\n{FIGURES}\n", cpu_seconds=0.5)

    assert (result.requests, result.seconds) == (3000, 1.5)
    assert (result.p50_ms, result.p99_ms) == (1.25, 4.0)
    assert result.errors.total == 15
    assert result.cpu_seconds == 0.5


def test_refused_and_late_answers_are_no_good_ones() -> None:
    """Five and four of 3,000 in 1.5 s; what brought no answer at all is not among the 3,000."""
    result = load.parse(FIGURES, cpu_seconds=0)

    assert result.good_answers == 2991
    assert result.requests_per_second == pytest.approx(1994)


@pytest.mark.parametrize("output", ["", "unable to connect to 127.0.0.1:1 Connection refused\n"])
def test_parse_without_figures_is_an_error(output: str) -> None:
    """The error shows the output of wrk."""
    with pytest.raises(LoadError, match=output.strip() or "no figures"):
        load.parse(output, cpu_seconds=0)
