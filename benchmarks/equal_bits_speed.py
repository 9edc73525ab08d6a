"""Tokens per second beside the fidelity of benchmarks.quantizers: ours and llama.cpp's, in pairs.

Each of llama.cpp's file types and our package of as many bits per weight take turns (A B A B) in
one run, each in a process of its own. What is missing is made first, as `benchmarks.quantizers`
makes it in the same work folder. From the repository's root, on a quiet machine:

    python -m benchmarks.equal_bits_speed MODEL.gguf --work FOLDER
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.common import WORK
from benchmarks.quantizers import FILE_TYPES, equal, float_file, gguf_bits_per_weight, requantized
from benchmarks.speed import ratio_cell, wait_until_quiet
from ondevice.export.source import open_source
from ondevice.runtime.bench import Settings
from ondevice.runtime.bench_result import Metric, Result
from ondevice.runtime.bench_setup import bench_packages
from ondevice.runtime.device import instruction_sets


def measure(floats: Path, name: str, work: Path, settings: Settings, busy: bool) -> str:
    """A row of the table: one of `FILE_TYPES` and ours at equal bits, from a float32 GGUF file."""
    file = requantized(floats, name, work, settings.threads or 2)
    bits = gguf_bits_per_weight(file)
    candidate = equal(open_source(floats), bits)
    package = candidate.package(floats, work)
    wait_until_quiet(busy)
    result = bench_packages([package], ("ort", "llamacpp"), file, settings)
    ours = package.manifest.recipe.bits_per_weight
    cells = [f"{name}, {bits:.2f}", f"{candidate.label}, {ours:.2f}"]
    for metric in (f"pp{settings.prompt_tokens}", f"tg{settings.generated_tokens}"):
        cells += _speeds(result, metric)
    return "| " + " | ".join(cells) + " |"


def _speeds(result: Result, name: str) -> list[str]:
    """Medians of both, and the ratio of the rounds."""
    metrics = {engine.engine: engine.metric(name) for engine in result.engines}
    ratio = ratio_cell(result, "ort", name)
    return [_median(metrics["ort"]), _median(metrics["llamacpp"]), ratio]


def _median(metric: Metric | None) -> str:
    assert metric is not None
    return f"{metric.statistics.median:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--work", type=Path, default=WORK, help="folder of benchmarks.quantizers")
    parser.add_argument("--prompt", type=int, default=256, metavar="TOKENS")
    parser.add_argument("--generated", type=int, default=64, metavar="TOKENS")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", action="store_true", help="measure on a busy machine too")
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    floats = float_file(options.gguf, work, dithered=True)
    settings = Settings(options.prompt, options.generated, 0, threads=options.threads)
    print(f"instruction sets: {', '.join(instruction_sets())}", file=sys.stderr)
    pp, tg = f"pp{options.prompt}", f"tg{options.generated}"
    print(
        f"| llama.cpp, bits | ondevice, bits | {pp} ondevice | {pp} llama.cpp | ratio "
        f"| {tg} ondevice | {tg} llama.cpp | ratio |\n|---|---|---|---|---|---|---|---|"
    )
    for name in FILE_TYPES:
        print(measure(floats, name, work, settings, options.busy), flush=True)


if __name__ == "__main__":
    main()
