"""Time and peak memory from a pulled GGUF file to a ready package, and whether the bytes repeat.

Two child processes export the same file: the first runs the proof, the second finds it recorded
for the same hashes, as `ondevice pull` does. From the repository's root:

    python -m benchmarks.export_cost MODEL.gguf --target cpu-as-is --json

Limits for Qwen 0.5B on 2 cores: 90 s and 3 GB.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.common import print_json
from ondevice import files
from ondevice.export.convert import convert
from ondevice.package import Proof, open_package
from ondevice.runtime.measure import peak_memory

LIMIT_S = 90.0
LIMIT_BYTES = 3_000_000_000
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cost:
    """One export in a process of its own.

    Wall-clock seconds in all and by stage, without the interpreter's start, and the high-water
    mark of resident memory, mapped files included.
    """

    proof: str
    seconds: float
    stages: dict[str, float]
    peak_bytes: int

    @property
    def within_limits(self) -> bool:
        return self.seconds <= LIMIT_S and self.peak_bytes <= LIMIT_BYTES


class Stages:
    """Seconds spent since each stage's first report."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage = "opening"
        self._since = time.perf_counter()

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.perf_counter()
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now


def export(gguf: Path, target: str, out: Path, recorded: Path | None) -> Cost:
    """Export in this process; `recorded` is a package whose proof holds for equal hashes."""

    def recall(hashes: dict[str, str]) -> Proof | None:
        if recorded is None:
            return None
        manifest = open_package(recorded).manifest
        return manifest.proof if manifest.content_hashes() == hashes else None

    stages = Stages()
    start = time.perf_counter()
    convert(gguf, target, out, name="cost", accept=True, recorded=recall, progress=stages)
    seconds = time.perf_counter() - start
    stages("end", 0, 0)
    peak = peak_memory()
    rounded = {stage: round(spent, 2) for stage, spent in stages.seconds.items()}
    proof = "run" if recorded is None else "recorded"
    return Cost(proof, round(seconds, 2), rounded, peak.bytes if peak else 0)


def export_in_child(gguf: Path, target: str, out: Path, recorded: Path | None) -> Cost:
    """Export in a new process, so that its peak memory is its own."""
    command = [sys.executable, "-m", "benchmarks.export_cost", str(gguf), "--target", target]
    command += ["--child", str(out)]
    if recorded is not None:
        command += ["--recorded", str(recorded)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=_ROOT)
    return Cost(**json.loads(done.stdout))


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder, the manifest included."""
    return {
        path.relative_to(folder).as_posix(): files.sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run(gguf: Path, target: str, work: Path | None) -> dict[str, object]:
    """Export twice and compare; the packages are removed afterwards."""
    if work is not None:
        work = work.resolve()
        work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="export-cost-", dir=work) as folder:
        first, second = Path(folder) / "first", Path(folder) / "second"
        costs = [
            export_in_child(gguf, target, first, None),
            export_in_child(gguf, target, second, first),
        ]
        found = hashes(first)
        return {
            "model": gguf.name,
            "target": target,
            "exports": [asdict(cost) for cost in costs],
            "within_limits": all(cost.within_limits for cost in costs),
            "same_bytes": found == hashes(second),
            "sha256": found,
            "proof": dataclasses.asdict(open_package(first).manifest).get("proof"),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--target", default="cpu-as-is")
    parser.add_argument("--work", type=Path, help="folder for the temporary packages")
    parser.add_argument("--json", action="store_true", help="print everything, hashes included")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--recorded", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        cost = export(options.gguf, options.target, options.child, options.recorded)
        print(json.dumps(asdict(cost)))
        return
    found = run(options.gguf.resolve(), options.target, options.work)
    if options.json:
        print_json(found)
        return
    for cost in (Cost(**values) for values in found["exports"]):  # type: ignore[attr-defined]
        print(f"proof {cost.proof}: {cost.seconds:.1f} s, {cost.peak_bytes / 1e6:,.0f} MB at most")
        print("  " + ", ".join(f"{stage} {s:.1f} s" for stage, s in cost.stages.items()))
    print(f"same bytes: {found['same_bytes']}, within limits: {found['within_limits']}")


if __name__ == "__main__":
    main()
