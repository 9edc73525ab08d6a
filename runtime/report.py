"""One self-contained HTML page of a benchmark result: charts, tables beside them, the device.

Turns figures into rows and bar lengths; `report.html` holds the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ondevice import files
from ondevice.runtime.bench_result import EngineResult, Metric, Result
from ondevice.runtime.page import Bar, Chart, Segment, Table, percent_of, template

_TTFT_PARTS = (
    ("chat.tokenize", "tokenization"),
    ("chat.prefill", "prefill"),
    ("chat.first_sample", "first sample"),
)
_TITLES = {
    "load": "Loading the model",
    "import": "Importing the engine's library",
    "chat.ttft": "Time to first token, chat",
    "chat.prefill_speed": "Prefill, chat",
    "chat.decode_speed": "Decode, chat",
    "chat.tokenize": "Tokenization, chat",
    "chat.prefill": "Prefill time, chat",
    "chat.first_sample": "First sample, chat",
}


def write(result: Result, path: Path) -> None:
    """Write the page atomically. Raises `OndeviceError` where the place cannot be written."""
    files.write_text(path, render(result))


def render(result: Result) -> str:
    """The page as HTML text. Everything that comes from the result is escaped."""
    models = list(dict.fromkeys(_model_name(engine) for engine in result.engines))
    return template("ondevice.runtime", "report.html").render(
        title=f"{', '.join(models)}: benchmark",
        heading=", ".join(models),
        notes=result.notes,
        result=result,
        charts=charts(result),
        ratios=_ratio_table(result),
        agreement=_agreement_table(result),
        device=_device_table(result),
        method=_method_table(result),
        subjects=_subject_table(result),
    )


def charts(result: Result) -> tuple[Chart, ...]:
    """The charts for what was measured, in the order of the page."""
    names = dict.fromkeys(m.name for engine in result.engines for m in engine.metrics)
    speeds = [n for n in names if n.startswith(("pp", "tg"))]
    speeds += [n for n in ("chat.prefill_speed", "chat.decode_speed") if n in names]
    found = [_metric_chart(result, name) for name in speeds]
    if "chat.ttft" in names:
        found.append(_ttft_chart(result))
    workloads = dict.fromkeys(g.workload for e in result.engines for g in e.inter_token)
    found += [_gap_chart(result, workload) for workload in workloads]
    found += [_metric_chart(result, name) for name in ("load", "import") if name in names]
    found.append(_memory_chart(result))
    return tuple(chart for chart in found if chart.bars)


def number(value: float) -> str:
    """About four significant digits, thousands separated."""
    if value == 0:
        return "0"
    for limit, digits in ((1000, 0), (100, 1), (1, 2)):
        if abs(value) >= limit:
            return f"{value:,.{digits}f}"
    return f"{value:.3g}"


def megabytes(count: float) -> str:
    """Bytes in MB (10^6)."""
    return f"{count / 1e6:,.0f} MB"


def metric_title(name: str) -> str:
    """A metric's name in words."""
    if name[:2] in ("pp", "tg") and "+" not in name and name[2:].split(" ")[0].isdigit():
        count, _, rest = name[2:].partition(" ")
        kind = "Prefill of" if name.startswith("pp") else "Decode of"
        return f"{kind} {count} tokens ({name})" + (f" {rest}" if rest else "")
    return _TITLES.get(name, name)


def _metric_chart(result: Result, name: str) -> Chart:
    found = [(e, m) for e in result.engines if (m := e.metric(name)) is not None]
    unit, better = found[0][1].unit, "Higher" if found[0][1].higher_is_better else "Lower"
    scale = max((m.statistics.maximum for _, m in found), default=0.0)
    return Chart(
        title=metric_title(name),
        explanation=f"{unit}; bar: median, line: least to most. {better} is better.",
        bars=tuple(_metric_bar(engine, metric, scale) for engine, metric in found),
        table=Table(
            f"{metric_title(name)}, {unit}",
            ("engine", "median", "p95", "least", "most", "rel. IQR", "n"),
            tuple(_metric_row(engine, metric) for engine, metric in found),
        ),
    )


def _metric_bar(engine: EngineResult, metric: Metric, scale: float) -> Bar:
    s = metric.statistics
    value = f"{number(s.median)} {metric.unit}"
    return Bar(
        label=engine.label,
        value=value,
        spoken=f"{engine.label}: median {value}, {number(s.minimum)} to {number(s.maximum)}",
        segments=(Segment(0, percent_of(s.median, scale), 0),),
        low=percent_of(s.minimum, scale),
        high=percent_of(s.maximum, scale),
    )


def _metric_row(engine: EngineResult, metric: Metric) -> tuple[str, ...]:
    s = metric.statistics
    figures = (number(v) for v in (s.median, s.p95, s.minimum, s.maximum))
    return (engine.label, *figures, f"{s.relative_iqr:.1%}", str(s.n))


def _ttft_chart(result: Result) -> Chart:
    found = [(e, m) for e in result.engines if (m := e.metric("chat.ttft")) is not None]
    parts = {e.label: [_median(e, name) for name, _ in _TTFT_PARTS] for e, _ in found}
    scale = max((sum(values) for values in parts.values()), default=0.0)
    bars = []
    for engine, metric in found:
        value = f"{number(metric.statistics.median)} ms"
        spoken = ", ".join(
            f"{words} {number(v)} ms"
            for (_, words), v in zip(_TTFT_PARTS, parts[engine.label], strict=True)
        )
        segments = _stack(parts[engine.label], scale)
        bars.append(Bar(engine.label, value, f"{engine.label}: {value}; {spoken}", segments))
    rows = [
        (e.label, *(number(v) for v in (m.statistics.median, *parts[e.label], m.statistics.p95)))
        for e, m in found
    ]
    return Chart(
        title="Time to first token, chat",
        explanation="ms, medians of each part. Lower is better.",
        bars=tuple(bars),
        table=Table(
            "Time to first token, ms",
            ("engine", "median", *(words for _, words in _TTFT_PARTS), "p95"),
            tuple(rows),
        ),
        legend=tuple(words for _, words in _TTFT_PARTS),
    )


def _gap_chart(result: Result, workload: str) -> Chart:
    found = [(e, g.gaps) for e in result.engines for g in e.inter_token if g.workload == workload]
    scale = max((gaps.p99 for _, gaps in found), default=0.0)
    bars = []
    for engine, gaps in found:
        pieces = (gaps.p50, gaps.p95 - gaps.p50, gaps.p99 - gaps.p95)
        spoken = f"{number(gaps.p50)}, {number(gaps.p95)} and {number(gaps.p99)} ms"
        value = f"{number(gaps.p50)} ms"
        bars.append(Bar(engine.label, value, f"{engine.label}: {spoken}", _stack(pieces, scale)))
    rows = [(e.label, *(number(v) for v in (g.p50, g.p95, g.p99)), f"{g.n:,}") for e, g in found]
    return Chart(
        title=f"Time between tokens, {workload}",
        explanation="ms; the bar's parts end at the 50th, 95th and 99th percentile. "
        "Lower is better.",
        bars=tuple(bars),
        table=Table(
            f"Time between tokens, {workload}, ms",
            ("engine", "p50", "p95", "p99", "n"),
            tuple(rows),
        ),
        legend=("up to p50", "to p95", "to p99"),
    )


def _memory_chart(result: Result) -> Chart:
    known = [(e, e.peak_memory) for e in result.engines]
    peaks = [(e, memory) for e, memory in known if memory is not None]
    scale = float(max((memory.bytes for _, memory in peaks), default=0))
    bars = []
    for engine, memory in peaks:
        value = megabytes(memory.bytes)
        segments = (Segment(0, percent_of(memory.bytes, scale), 0),)
        bars.append(Bar(engine.label, value, f"{engine.label}: {value}", segments))
    return Chart(
        title="Peak memory",
        explanation="Interpreter, engine, weights, KV cache and tokenizer. Lower is better.",
        bars=tuple(bars),
        table=Table(
            "Peak memory",
            ("engine", "peak", "model file", "measured as"),
            tuple(
                (e.label, megabytes(m.bytes), megabytes(e.model.bytes), m.kind) for e, m in peaks
            ),
        ),
    )


def _stack(values: Sequence[float], scale: float) -> tuple[Segment, ...]:
    segments, start = [], 0.0
    for colour, value in enumerate(values):
        width = percent_of(value, scale)
        segments.append(Segment(round(start, 3), width, colour))
        start += width
    return tuple(segments)


def _median(engine: EngineResult, name: str) -> float:
    metric = engine.metric(name)
    return metric.statistics.median if metric is not None else 0.0


def _model_name(engine: EngineResult) -> str:
    model = engine.model
    return f"{model.name} ({model.target})" if model.target else model.name


def _ratio_table(result: Result) -> Table:
    rows = tuple(
        (
            f"{metric_title(r.metric)}: {r.numerator} / {r.denominator}",
            *(f"{v:.3f}" for v in (r.median, r.minimum, r.maximum)),
        )
        for r in result.ratios
    )
    return Table("Ratios, taken round by round", ("what", "median", "least", "most"), rows)


def _agreement_table(result: Result) -> Table:
    rows = tuple((f"{g.a} and {g.b}", f"{g.top1:.2%}", f"{g.tokens:,}") for g in result.agreement)
    return Table("Same most probable token", ("engines", "top-1 agreement", "tokens"), rows)


def _device_table(result: Result) -> Table:
    d = result.device
    memory = None if d.memory_gib is None else f"{d.memory_gib} GiB"
    fields = (
        ("processor", d.cpu),
        ("architecture", d.architecture),
        ("logical cores", d.logical_cores),
        ("physical cores", d.physical_cores),
        ("processors this process may use", d.usable_cpus),
        ("processor quota", d.cpu_quota),
        ("instruction sets", ", ".join(d.instruction_sets) or None),
        ("memory", memory),
        ("system", " ".join(filter(None, (d.system, d.system_version))) or None),
        ("Python", d.python),
        ("onnxruntime", d.onnxruntime),
    )
    return _fields("Device", fields)


def _method_table(result: Result) -> Table:
    p, load = result.protocol, result.load
    used = None if load.cpu_percent_before is None else f"{load.cpu_percent_before:g}%"
    during = load.other_cpu_percent_during
    others = None if during is None else f"{during:g}%"
    fields = (
        ("measured by", result.tool),
        ("at (UTC)", result.created),
        ("repetitions", p.repetitions),
        ("warm-ups", p.warmups),
        ("order", "alternating engines" if p.interleaved else "one engine"),
        ("seed of the random tokens", p.seed),
        ("load average before", load.load_average_before),
        ("processor time in use before", used),
        ("processor time others used meanwhile", others),
    )
    return _fields("Method", fields)


def _fields(caption: str, fields: Sequence[tuple[str, object]]) -> Table:
    rows = tuple((name, str(value)) for name, value in fields if value is not None)
    return Table(caption, ("what", "value"), rows)


def _subject_table(result: Result) -> Table:
    rows = tuple(
        (
            e.label,
            " ".join(filter(None, (e.engine, e.engine_version))),
            _model_name(e),
            megabytes(e.model.bytes),
            "" if e.threads is None else str(e.threads),
            "" if e.context_length is None else f"{e.context_length:,}",
        )
        for e in result.engines
    )
    head = ("label", "engine", "model", "size", "threads", "context")
    return Table("What was measured", head, rows)
