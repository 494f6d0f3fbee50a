"""The targets, and a run held against them, in Markdown."""

import statistics
from collections.abc import Iterator

from benchmarks.multi_model.cycles import SETTLING_CYCLES, growth_per_cycle
from benchmarks.multi_model.fleet_results import CodeModels, Cycles, Latency, Results
from benchmarks.serving.report import table

RESIDENT_KB = 60.0
TOTAL_MB = 800.0
TOTAL_MODELS = 10_000
FIRST_LOAD_MS = (40.0, 150.0)
EVICTED_MS = (5.0, 25.0)
PAGE_MS = 10.0
WARM_RATIO = 1.15
AT_ONCE_LOADS = 1
# A tenth of a percent of the model, or little more. What it holds on to it holds on to every time.
GROWTH_KB = 27.0
CODE_MB = 25.0
CODE_LOAD_MS = 60.0
BORDER_US = 200.0
LARGE_BORDER_US = 1000.0

Line = tuple[str, str, str, bool | None]
VERDICTS = {True: "met", False: "MISSED", None: "not measured"}


def lines(results: Results) -> list[Line]:
    """Return a line a target: subject, limit, measured figure, and True if it is met."""
    return [*_resident(results), *_latencies(results), *_others(results)]


def render(results: Results) -> str:
    """Write the report."""
    machine = results.machine
    head = (
        f"{results.began}, {results.duration_seconds / 60:.0f} minutes;"
        f" {machine['cpus']} CPUs ({machine['cpu']}), {machine['memory_bytes'] / 1e9:.0f} GB,"
        f" kernel {machine['kernel']}, Python {machine['python']}. Meanwhile others used so many"
        f" CPUs: {', '.join(f'{part} {cpus:.2f}' for part, cpus in results.foreign_cpus.items())}."
    )
    targets = table(
        ["", "target", "measured", ""],
        (
            [subject, target, found, VERDICTS[is_met]]
            for subject, target, found, is_met in lines(results)
        ),
    )
    title = f"### Engine `{results.engine}`"
    parts = [title, head, targets, _article(results), _traffic(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _resident(results: Results) -> Iterator[Line]:
    found = results.resident
    subject = "a resident small model, PSS"
    if found is None:
        yield subject, f"≤ {RESIDENT_KB:g} kB", "-", None
        return
    file = f"file {found.model_file_bytes / 1000:.0f} kB"
    each = found.pss_each / 1000
    yield subject, f"≤ {RESIDENT_KB:g} kB", f"{each:.1f} kB ({file})", each <= RESIDENT_KB
    total = found.pss / 1e6
    is_met = total <= TOTAL_MB if found.models >= TOTAL_MODELS else None
    subject = f"{TOTAL_MODELS:,} resident in one worker, PSS of all processes"
    yield subject, f"≤ {TOTAL_MB:g} MB", f"{total:.0f} MB ({found.models:,} models)", is_met


def _latencies(results: Results) -> Iterator[Line]:
    resident, crowded = results.resident, results.crowded
    first = resident.first_loads if resident else None
    yield _latency("POST /models, first time", first, *FIRST_LOAD_MS)
    evicted = crowded.evicted if crowded else None
    yield _latency("invocation of a registered, evicted model", evicted, *EVICTED_MS)
    pages = resident.pages if resident else None
    count = f"{resident.models:,}" if resident else "10,000"
    yield _latency(f"GET /models, a page of 100 among {count}", pages, PAGE_MS, None)


def _latency(subject: str, found: Latency | None, p50_ms: float, p99_ms: float | None) -> Line:
    target = f"p50 ≤ {p50_ms:g} ms" + (f", p99 ≤ {p99_ms:g}" if p99_ms else "")
    if found is None:
        return subject, target, "-", None
    is_met = found.p50_ms <= p50_ms and (p99_ms is None or found.p99_ms <= p99_ms)
    measured = f"p50 {found.p50_ms:.1f} ms, p99 {found.p99_ms:.1f} ({found.count:,})"
    return subject, target, measured, is_met


def _others(results: Results) -> Iterator[Line]:
    subject, target = "warm invocation, CPU", f"≤ {WARM_RATIO:g} × the single-model server"
    if warm := results.warm:
        multi, single = statistics.median(warm.multi_us), statistics.median(warm.single_us)
        measured = f"{warm.ratio:.2f} × ({multi:.0f} against {single:.0f} µs)"
        yield subject, target, measured, warm.ratio <= WARM_RATIO
    else:
        yield subject, target, "-", None
    subject, target = "50 first invocations at once", f"{AT_ONCE_LOADS} load"
    if crowded := results.crowded:
        loads = crowded.loads_of_50_at_once
        yield subject, target, f"{loads}", loads == AT_ONCE_LOADS
    else:
        yield subject, target, "-", None
    yield _growth(results.cycles, "a 25 MB model")
    yield _growth(results.code_cycles, "a model with its own code")
    yield from _code(results.code)


def _code(found: CodeModels | None) -> Iterator[Line]:
    subjects = (
        ("a model with code, PSS", f"≤ {CODE_MB:g} MB"),
        ("POST /models of one with code", f"p50 ≤ {CODE_LOAD_MS:g} ms"),
        ("its process border, CPU of one record", f"≤ {BORDER_US:g} µs"),
        ("its process border, CPU of a body of 1 MB", f"≤ {LARGE_BORDER_US:,.0f} µs"),
    )
    if found is None:
        yield from ((subject, target, "-", None) for subject, target in subjects)
        return
    megabytes, p50 = found.pss_each / 1e6, found.loads.p50_ms
    measured = (
        (f"{megabytes:.1f} MB ({found.models:,} models)", megabytes <= CODE_MB),
        (f"p50 {p50:.1f} ms, p99 {found.loads.p99_ms:.1f}", p50 <= CODE_LOAD_MS),
        (f"{found.border_us:+.0f} µs", found.border_us <= BORDER_US),
        (f"{found.large_border_us:+,.0f} µs", found.large_border_us <= LARGE_BORDER_US),
    )
    for (subject, target), (text, is_met) in zip(subjects, measured, strict=True):
        yield subject, target, text, is_met


def _growth(cycles: Cycles | None, what: str) -> Line:
    target = f"≤ {GROWTH_KB:g} kB a cycle after {SETTLING_CYCLES}"
    growth = growth_per_cycle(cycles) if cycles else None
    if cycles is None or growth is None:
        return f"loads and unloads of {what}, RSS", target, "-", None
    subject = f"{len(cycles.rss)} loads and unloads of {what}, RSS"
    return subject, target, f"{growth / 1000:+.1f} kB a cycle", growth <= 1000 * GROWTH_KB


def _article(results: Results) -> str:
    article = results.article
    if article is None:
        return ""
    half = article.models // 2
    passes = (article.steps[:half], article.steps[half : 2 * half], article.steps[2 * half :])
    hits = [statistics.mean(step.is_hit for step in steps) for steps in passes]
    return (
        f"**{article.models} copies of one model.** The platform loads what is invoked: the first"
        f" {half}, again the first {half}, then all."
        f" At most {article.most_loaded} were loaded at once; {hits[0]:.0%}, {hits[1]:.0%} and"
        f" {hits[2]:.0%} of the invocations of the three passes found their model loaded. A copy is"
        f" measured at {article.model_bytes / 1e6:.2f} MB."
    )


def _traffic(results: Results) -> str:
    crowded = results.crowded
    if crowded is None:
        return ""
    first, last = crowded.stretches[0], crowded.stretches[-1]
    return (
        f"**{crowded.models:,} models, memory for half of them.** With {crowded.budget_mebibytes}"
        f" MiB, invocations by Zipf's law (exponent 1.1):"
        f" {first.hit_share:.1%} found their model resident in the first"
        f" {first.invocations:,}, {last.hit_share:.1%} in the last; {last.resident:,} models were"
        f" resident. One connection, p50 {last.latency.p50_ms:.2f} ms, p99"
        f" {last.latency.p99_ms:.2f} ms."
    )
