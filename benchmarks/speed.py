"""Prefill and decode speed beside llama.cpp on the same file: the tables of docs/speed.md.

The targets and llama.cpp take turns (A B C A B C) in one run, each in a process of its
own, with 2 threads, pp512 and tg128. From the repository's root, on a quiet machine:

    python -m benchmarks.speed MODEL.gguf [MODEL.gguf ...] --json FOLDER

Packages that are missing are exported first. A busy machine is refused unless --busy is given.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.common import WORK, package_for
from ondevice.runtime.bench import Settings, check_load
from ondevice.runtime.bench_result import EngineResult, Metric, Result
from ondevice.runtime.bench_setup import bench_packages

TARGETS = ("cpu-as-is", "cpu-int8", "cpu-int4")
_PEER = "llamacpp"
_QUIET_S = 30.0  # how long to wait for the machine to calm down after exporting


def measure(gguf: Path, work: Path, settings: Settings) -> Result:
    """Both packages and llama.cpp on one GGUF file, interleaved."""
    packages = [package_for(gguf, target, work) for target in TARGETS]
    return bench_packages(packages, ("ort", _PEER), gguf, settings, _progress)


def wait_until_quiet(busy_allowed: bool) -> None:
    """Return when nothing else runs; exit when it stays busy for half a minute.

    Only processor time now in use counts: the load average still remembers an export.
    """
    deadline = time.monotonic() + _QUIET_S
    load = check_load()
    while not busy_allowed and (load.cpu_percent_before or 0) > 10:
        if time.monotonic() > deadline:
            raise SystemExit(
                f"the machine is busy ({load.cpu_percent_before:.0f}% of its processors in use); "
                "stop what runs, or measure all the same with --busy"
            )
        time.sleep(2)
        load = check_load()


def table(result: Result) -> str:
    """Medians and spread by engine, with the ratio to llama.cpp, in Markdown."""
    prefill, decode = (
        f"pp{result.protocol.prompt_tokens}",
        f"tg{result.protocol.generated_tokens}",
    )
    lines = [
        f"| engine, weights | {prefill} tokens/s | {decode} tokens/s | load ms | peak MB | file MB "
        f"| {prefill} / llama.cpp | {decode} / llama.cpp |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for engine in result.engines:
        cells = [
            _label(engine),
            _cell(engine.metric(prefill)),
            _cell(engine.metric(decode)),
            _cell(engine.metric("load")),
            f"{engine.peak_memory.bytes / 1e6:.0f}" if engine.peak_memory else "-",
            f"{engine.model.bytes / 1e6:.0f}",
            ratio_cell(result, engine.label, prefill),
            ratio_cell(result, engine.label, decode),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def page(result: Result, model: str) -> str:
    """A heading, what it was measured on and how, and the table."""
    return "\n".join([f"### {model}", "", *_circumstances(result), "", table(result), ""])


def _circumstances(result: Result) -> Iterator[str]:
    device, how = result.device, result.protocol
    versions = {f"{e.engine} {e.engine_version}": None for e in result.engines}
    yield (
        f"{device.cpu} ({device.usable_cpus} usable processors, {device.memory_gib} GiB; "
        f"{', '.join(device.instruction_sets)}), {device.system_version}; "
        f"{result.tool}, {', '.join(versions)}."
    )
    yield (
        f"{result.engines[0].threads} threads, interleaved, {how.warmups} warm-up and "
        f"{how.repetitions} measured rounds; median (least to most). Processors in use before: "
        f"{result.load.cpu_percent_before:.0f}%. {result.created}."
    )
    for pair in result.agreement:
        yield f"Top-1 agreement of {pair.a} and {pair.b}: {pair.top1:.2%} of {pair.tokens} tokens."
    for note in result.notes:
        yield f"Note: {note}"


def _label(engine: EngineResult) -> str:
    if engine.engine == _PEER:
        return f"llama.cpp {engine.model.name}"
    return f"ondevice {engine.model.target}"


def _cell(metric: Metric | None) -> str:
    if metric is None:
        return "-"
    found = metric.statistics
    return f"{found.median:.0f} ({found.minimum:.0f}-{found.maximum:.0f})"


def ratio_cell(result: Result, label: str, metric: str) -> str:
    """Of an engine over llama.cpp: the median of the rounds, least and most."""
    for ratio in result.ratios:
        if (ratio.metric, ratio.numerator, ratio.denominator) == (metric, label, _PEER):
            return f"**{ratio.median:.2f}** ({ratio.minimum:.2f}-{ratio.maximum:.2f})"
    return "1"


def _progress(stage: str, done: int, total: int) -> None:
    print(f"{done}/{total} {stage:<40}", file=sys.stderr, end="\r")


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        prompt_tokens=512,
        generated_tokens=128,
        chat_tokens=0,
        repetitions=options.repetitions,
        threads=options.threads,
        agreement=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("gguf", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for packages")
    parser.add_argument("--json", type=Path, metavar="FOLDER", help="keep the results here too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--busy", action="store_true", help="measure on a busy machine too")
    options = parser.parse_args(arguments)
    for gguf in options.gguf:
        for target in TARGETS:
            package_for(gguf, target, options.work)
    for gguf in options.gguf:
        wait_until_quiet(options.busy)
        result = measure(gguf, options.work, _settings(options))
        if options.json is not None:
            result.write(options.json / f"{gguf.stem}.json")
        print(page(result, gguf.name))


if __name__ == "__main__":
    main()
