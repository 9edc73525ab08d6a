"""Time and peak memory of exporting true shapes with random weights, beside the model builder.

For each model: a checkpoint is made (benchmarks/shapes.py), exported in a process of its own,
answered with in both engines, and, where memory allows, built by onnxruntime-genai's model
builder in the same run. Random weights prove nothing, so the proof is run but its gate is not.
From the repository's root, on a quiet machine:

    python -m benchmarks.export_shapes qwen2.5-0.5b llama-3.2-1b --work FOLDER --results FILE

An interrupted run goes on with the model it was at. Limit: 2.5 GB for each, the 7Bs included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import WORK, Lines
from benchmarks.export_cost import Stages
from benchmarks.shapes import SHAPES, make_checkpoint
from ondevice.export.convert import convert
from ondevice.package import open_package
from ondevice.runtime.device import instruction_sets
from ondevice.runtime.engines import open_engine

LIMIT_BYTES = 2_500_000_000
BUILDER_LIMIT = 20_000_000_000  # the builder is stopped above it
WITH_BUILDER = ("qwen2.5-0.5b", "llama-3.2-1b", "llama-3.2-3b")
TARGET = "cpu-int4"
_ROOT = Path(__file__).parents[1]
_ENGINES = ("ort", "genai")
_TOKENS = 8
_SAMPLE_S = 0.1


@dataclass(frozen=True)
class Watched:
    """A process from start to end: wall-clock seconds, the most memory that it held.

    peak_bytes: resident, mapped files included; anon_bytes and file_bytes: the most that was its
    own and the most that was mapped from files, each by itself. `stopped` above a limit.
    """

    seconds: float
    peak_bytes: int
    anon_bytes: int
    file_bytes: int
    code: int
    stopped: bool
    output: str


def watch(command: Sequence[str], limit: int | None = None, cwd: Path = _ROOT) -> Watched:
    """Run a command to its end, or until it holds more than `limit` bytes."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=cwd, text=True) as process:
        lines: list[str] = []
        assert process.stdout is not None
        reader = threading.Thread(target=lines.extend, args=(process.stdout,))
        reader.start()
        peaks = {"VmHWM": 0, "RssAnon": 0, "RssFile": 0}
        stopped = False
        while process.poll() is None:
            for name, size in _memory(process.pid).items():
                peaks[name] = max(peaks[name], size)
            if limit is not None and peaks["VmHWM"] > limit:
                stopped = True
                process.kill()
            time.sleep(_SAMPLE_S)
        reader.join()
    seconds = round(time.perf_counter() - start, 2)
    code = process.returncode
    return Watched(seconds, *peaks.values(), code, stopped, "".join(lines)[-4000:])


def _memory(process: int) -> dict[str, int]:
    found: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name in ("VmHWM", "RssAnon", "RssFile"):
                found[name] = 1024 * int(value.split()[0])
    return found


def measure(name: str, work: Path, builder: bool) -> dict[str, Any]:
    """Everything about one model; its files are removed afterwards."""
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    try:
        start = time.perf_counter()
        weights = make_checkpoint(name, folder / "checkpoint")
        made = round(time.perf_counter() - start, 1)
        result = {"weights": weights, "checkpoint_s": made, "load_before": os.getloadavg()[0]}
        result["export"] = _export(folder, weights)
        for engine in _ENGINES:
            result[engine] = _child("generate", folder / "package", engine)
        shutil.rmtree(folder / "package", ignore_errors=True)
        if builder:
            result["builder"] = _build(folder)
            result["ratio"] = _ratio(result["export"], result["builder"])
        return result | {"instruction_sets": instruction_sets()}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _export(folder: Path, weights: int) -> dict[str, Any]:
    found = _child("export", folder / "checkpoint", str(folder / "package"))
    if found["code"]:
        return found
    quantizing = found["stages"].get("quantizing", found["seconds"])
    return found | {
        "weights_per_s": round(weights / quantizing),
        "within_limit": found["peak_bytes"] <= LIMIT_BYTES,
    }


def _child(task: str, path: Path, argument: str) -> dict[str, Any]:
    """One of this module's tasks in a process of its own; its JSON and what it took."""
    command = [sys.executable, "-m", "benchmarks.export_shapes", "--child", task]
    found = asdict(watch([*command, str(path), argument]))
    output = found.pop("output")
    return found | (json.loads(output.splitlines()[-1]) if not found["code"] else {})


def _build(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    command += ["-i", str(folder / "checkpoint"), "-o", str(folder / "built")]
    command += ["-p", "int4", "-e", "cpu", "-c", str(folder / "cache")]
    command += ["--extra_options", "accuracy_level=4", "block_size=32", "hf_remote=false"]
    found = asdict(watch(command, BUILDER_LIMIT))
    if not found["code"]:
        del found["output"]
    return found


def _ratio(export: dict[str, Any], builder: dict[str, Any]) -> dict[str, float]:
    """The builder's seconds over ours: without our proof, which it has none of, and with it."""
    if export["code"] or builder["code"]:
        return {}
    proof = sum(s for stage, s in export["stages"].items() if stage in _PROOF_STAGES)
    return {
        "without_proof": round(builder["seconds"] / (export["seconds"] - proof), 2),
        "with_proof": round(builder["seconds"] / export["seconds"], 2),
        "memory": round(builder["peak_bytes"] / export["peak_bytes"], 2),
    }


_PROOF_STAGES = ("comparing layers", "comparing logits")


def _export_here(checkpoint: Path, out: Path) -> dict[str, Any]:
    stages = Stages()
    package = convert(checkpoint, TARGET, out, accept=True, progress=stages)
    stages("end", 0, 0)
    return {
        "stages": {stage: round(seconds, 2) for stage, seconds in stages.seconds.items()},
        "package_bytes": package.total_bytes,
        "bits_per_weight": package.manifest.recipe.bits_per_weight,
    }


def _generate_here(folder: Path, name: str) -> dict[str, Any]:
    package = open_package(folder)
    threads = len(psutil.Process().cpu_affinity())
    start = time.perf_counter()
    opened = open_engine(package, name, threads=threads, context_length=256)
    with contextlib.closing(opened) as engine:
        loaded = time.perf_counter()
        logits = engine.prefill(list(range(32)))
        tokens = []
        for _ in range(_TOKENS):
            tokens.append(int(logits.argmax()))
            logits = engine.decode(tokens[-1])
        done = time.perf_counter()
    return {
        "load_s": round(loaded - start, 2),
        "generate_s": round(done - loaded, 2),
        "tokens": tokens,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for checkpoints")
    parser.add_argument("--results", type=Path, default=WORK / "export_shapes.jsonl")
    parser.add_argument("--no-builder", action="store_true", help="leave the model builder out")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        task, path, argument = options.child
        run = {"export": lambda: _export_here(Path(path), Path(argument))}
        run["generate"] = lambda: _generate_here(Path(path), argument)
        print(json.dumps(run[task]()))
        return
    results = Lines(options.results)
    for name in options.models or SHAPES:
        if results.get(name) is None:
            builder = name in WITH_BUILDER and not options.no_builder
            results.add(name, **measure(name, options.work.resolve(), builder))
        print(json.dumps(results.get(name)), flush=True)


if __name__ == "__main__":
    main()
