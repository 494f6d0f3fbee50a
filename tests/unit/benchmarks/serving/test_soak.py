"""Growth of a server under load: memory, files and threads."""

import pytest

from benchmarks.serving.soak import Look, Soak, Stretch, render, slope


def soak_of(rss: list[float], *, open_files: list[int] | None = None, errors: int = 0) -> Soak:
    """A quarter of an hour at 1,000 requests/s, looked at evenly."""
    step = 900 / (len(rss) - 1)
    files = open_files or [100] * len(rss)
    looks = [
        Look(seconds=step * i, rss=int(r), pss=int(r), open_files=f, threads=7, processes=3)
        for i, (r, f) in enumerate(zip(rss, files, strict=True))
    ]
    return Soak(looks, [Stretch(900.0, 1000.0, 2.0, errors)])


def test_slope_is_that_of_the_fitted_line() -> None:
    """Least squares of (0, 1), (1, 3), (2, 2), (3, 6), by hand: 7 / 5."""
    assert slope([(0, 1), (1, 3), (2, 2), (3, 6)]) == pytest.approx(1.4)


@pytest.mark.parametrize("points", [[], [(1.0, 5.0)], [(1.0, 5.0), (1.0, 9.0)]])
def test_slope_of_a_moment_is_zero(points: list[tuple[float, float]]) -> None:
    """Nothing is said of growth without time."""
    assert slope(points) == 0


def test_memory_of_the_last_five_minutes_is_compared_with_the_first_five() -> None:
    """2 MB are allowed, and a peak between them is none of a median's business."""
    text = render(soak_of([100e6, 100e6, 180e6, 101e6, 101e6, 101e6, 102e6]))

    assert "| RSS, last five minutes against the first five | +1.00 MB | flat |" in text


def test_steady_growth_is_found() -> None:
    """9 MB in 900,000 requests."""
    text = render(soak_of([100e6 + 1e6 * step for step in range(10)]))

    assert "| RSS, last five minutes against the first five | +6.00 MB | **grows** |" in text
    assert "| RSS, slope per million requests | +10.00 MB |  |" in text


def test_files_that_pile_up_are_found() -> None:
    """More in the later half than ever in the earlier."""
    text = render(soak_of([100e6] * 11, open_files=[*[100] * 10, 101], errors=3))

    assert "| open files, most in each half | 100, 101 | **grows** |" in text
    assert "| threads, most in each half | 7, 7 | flat |" in text
    assert "| errors | 3 | **errors** |" in text


def test_a_short_soak_says_nothing() -> None:
    """Allocators and pools take minutes."""
    soak = soak_of([100e6] * 11)
    soak.stretches = [Stretch(60.0, 1000.0, 2.0, 0)]

    assert "flat" not in render(soak)
