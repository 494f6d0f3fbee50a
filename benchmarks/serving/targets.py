"""The targets that this server set itself, and whether a run has met them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from benchmarks.serving.results import Point, Results, Sample
from benchmarks.serving.summary import CPU_CONNECTIONS, FLOOD_CONNECTIONS, Spread, Summary

CPU_RATIOS = {1: 0.20, 100: 0.45, 1000: 0.70}
RATE_RATIO = 6.0
TAIL_RATIO = 4.0
START_SECONDS = 0.9
PSS_BYTES = 110_000_000
MODEL_COPIES = 1.3

Figure = Callable[[str], Spread | None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target; ``is_met`` is ``None`` where the run has not measured it."""

    subject: str
    target: str
    measured: str
    best_peer: str
    is_met: bool | None


def judge(results: Results) -> list[Verdict]:
    """Hold a run against every target."""
    summary = Summary(results)
    return [
        *_cpu_verdicts(summary),
        _rate_verdict(summary),
        *_tail_verdicts(summary),
        _start_verdict(summary),
        _memory_verdict(summary),
        _sharing_verdict(results),
    ]


def _cpu_verdicts(summary: Summary) -> Iterator[Verdict]:
    for n_rows, ratio in CPU_RATIOS.items():
        point = Point(n_rows, CPU_CONNECTIONS)

        def cpu_us(server: str, point: Point = point) -> Spread | None:
            return summary.spread(server, point, lambda sample: sample.cpu_us)

        verdict = _ratio_verdict(
            summary,
            f"CPU per request, {rows(n_rows)}, {CPU_CONNECTIONS} connections",
            cpu_us,
            unit=lambda value: f"{value:,.0f} µs",
            limit=ratio,
        )
        yield _unless_failed(summary, point, verdict)


def _rate_verdict(summary: Summary) -> Verdict:
    point = Point(1, FLOOD_CONNECTIONS)
    verdict = _ratio_verdict(
        summary,
        f"requests/s, 1 row, {FLOOD_CONNECTIONS} connections",
        lambda server: summary.spread(server, point, lambda sample: sample.requests_per_second),
        unit=lambda value: f"{value:,.0f}/s",
        limit=RATE_RATIO,
        highest=True,
    )
    return _unless_failed(summary, point, verdict)


def _unless_failed(summary: Summary, point: Point, verdict: Verdict) -> Verdict:
    """Call nothing met at a point where this server had errors, and say how many."""
    failed, total = summary.errors(summary.ours.name, point) if summary.ours else (0, 0)
    if not failed or verdict.is_met is None:
        return verdict
    measured = f"{verdict.measured}, {failed:,} of {total:,} failed"
    return replace(verdict, measured=measured, is_met=False)


def _ratio_verdict(
    summary: Summary,
    subject: str,
    figure: Figure,
    *,
    unit: Callable[[float], str],
    limit: float,
    highest: bool = False,
) -> Verdict:
    sign = "≥" if highest else "≤"
    target = f"{sign} {limit:g} × the best peer"
    ours = figure(summary.ours.name) if summary.ours else None
    best = summary.best_peer(figure, highest=highest)
    best_peer = f"{best[0].title} {unit(best[1])}" if best else "-"
    if ours is None or best is None:
        return Verdict(subject, target, "-", best_peer, None)
    ratio = ours.median / best[1]
    is_met = ratio >= limit if highest else ratio <= limit
    return Verdict(subject, target, f"{ratio:.2f} × ({unit(ours.median)})", best_peer, is_met)


def _tail_verdicts(summary: Summary) -> Iterator[Verdict]:
    for n_rows in CPU_RATIOS:
        point = Point(n_rows, CPU_CONNECTIONS)
        verdict = _limit_verdict(
            summary,
            f"p99 ÷ p50, {rows(n_rows)}, {CPU_CONNECTIONS} connections",
            lambda server, point=point: summary.spread(server, point, tail),  # type: ignore[misc]
            unit=lambda value: f"{value:.1f}",
            limit=TAIL_RATIO,
        )
        yield _unless_failed(summary, point, verdict)


def _start_verdict(summary: Summary) -> Verdict:
    return _limit_verdict(
        summary,
        "start to first right answer",
        summary.start_seconds,
        unit=lambda value: f"{value:.2f} s",
        limit=START_SECONDS,
    )


def _memory_verdict(summary: Summary) -> Verdict:
    return _limit_verdict(
        summary,
        "PSS, two workers",
        summary.pss_bytes,
        unit=lambda value: f"{value / 1e6:.0f} MB",
        limit=PSS_BYTES,
    )


def _limit_verdict(
    summary: Summary, subject: str, figure: Figure, *, unit: Callable[[float], str], limit: float
) -> Verdict:
    ours = figure(summary.ours.name) if summary.ours else None
    best = summary.best_peer(figure)
    return Verdict(
        subject,
        f"≤ {unit(limit)}",
        unit(ours.median) if ours else "-",
        f"{best[0].title} {unit(best[1])}" if best else "-",
        ours.median <= limit if ours else None,
    )


def _sharing_verdict(results: Results) -> Verdict:
    sharing = results.sharing
    subject = "a 500 MB model, four workers, PSS"
    target = f"≤ {MODEL_COPIES} × one copy"
    if sharing is None:
        return Verdict(subject, target, "-", "-", None)
    measured = f"{sharing.copies:.2f} × ({sharing.pss / 1e6:,.0f} MB)"
    return Verdict(subject, target, measured, "-", sharing.copies <= MODEL_COPIES)


def tail(sample: Sample) -> float:
    """Ratio of the 99th percentile of the latency to the median."""
    return sample.p99_ms / max(sample.p50_ms, 1e-3)


def rows(n_rows: int) -> str:
    return f"{n_rows} row" if n_rows == 1 else f"{n_rows} rows"
