"""The packaged assistant measured: what it weighs, how soon it answers, that it needs no network.

Packs SmolLM2, or takes a program that is packed already. `python -m benchmarks.bundle --help`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import bundle_probe
from ondevice import store
from ondevice.bundle.build import build, size_of
from ondevice.bundle.plan import make_plan

MODEL = "smollm2-135m-instruct"
QUESTION = "What is the capital of France?"
NOBODY = 65534

# First match wins; the rest is counted as "other".
GROUPS = (
    ("model", r"_internal/models/"),
    ("onnxruntime", r"_internal/onnxruntime/"),
    ("numpy with OpenBLAS", r"_internal/numpy"),
    ("Python's modules, packed with the program", r"[^/]+$"),
    ("tokenizers", r"_internal/tokenizers/"),
    ("llguidance", r"_internal/llguidance/"),
    ("exporter: onnx, ml_dtypes, protobuf", r"_internal/(onnx/|ml_dtypes|google/)"),
    ("cloud client: pydantic_core, jiter", r"_internal/(pydantic_core|jiter)"),
    ("Python itself", r"_internal/(libpython|python3|base_library)"),
    ("OpenSSL, SQLite, libstdc++ and others", r"_internal/lib[^/]*$"),
    ("licence texts", r"licences/"),
    ("the page and ondevice's data", r"_internal/ondevice/"),
)


@dataclass(frozen=True)
class Times:
    """Seconds from the start of the process to the first token: each run, median, and range."""

    what: str
    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    def line(self) -> str:
        return f"{self.median:.2f} s (from {min(self.runs):.2f} to {max(self.runs):.2f})"


def sizes(program: Path) -> dict[str, int]:
    """Bytes by group, links not counted."""
    found: Counter[str] = Counter()
    for path in program.rglob("*"):
        if path.is_file() and not path.is_symlink():
            name = path.relative_to(program).as_posix()
            group = next((g for g, pattern in GROUPS if re.match(pattern, name)), "other")
            found[group] += path.stat().st_size
    return dict(found.most_common())


def time_ask(program: Path) -> float:
    """Start to the first character on stdout."""
    start = time.perf_counter()
    command = [program, "ask", "--max-tokens", "4", QUESTION]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - start
        process.stdout.read()
    if process.returncode != 0 or not first:
        raise SystemExit(f"{program} ask ended with {process.returncode}")
    return seconds


def time_window(program: Path) -> float:
    """Start to the first token of the window's own stream."""
    return bundle_probe.probe([str(program)], QUESTION).first_token_s


def repeat(what: str, runs: int, once: Callable[[], float]) -> Times:
    """One run to warm up, then `runs`."""
    once()
    return Times(what, tuple(once() for _ in range(runs)))


def isolated(folder: Path, slug: str) -> dict[str, Any]:
    """The folder copied to an empty one, read-only, run as nobody in a new network namespace,
    every socket call recorded. Needs root, `unshare`, `setpriv` and `strace`."""
    tools = [tool for tool in ("unshare", "setpriv", "strace") if shutil.which(tool) is None]
    if os.geteuid() != 0 or tools:
        return {"skipped": f"needs root and {', '.join(tools) or 'nothing else'}"}
    with tempfile.TemporaryDirectory(prefix="bundle-") as name:
        root = Path(name)
        root.chmod(0o755)
        copy = root / "installed"
        shutil.copytree(folder, copy, symlinks=True)
        for path in (copy, *copy.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o555)
        home = root / "home"
        home.mkdir()
        os.chown(home, NOBODY, NOBODY)
        return _run_isolated(copy / slug, home, root / "probe.py")


def _run_isolated(program: Path, home: Path, script: Path) -> dict[str, Any]:
    shutil.copyfile(bundle_probe.__file__, script)
    trace = home / "sockets"
    as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env", "-i",
                 f"HOME={home}", "PATH=/usr/bin:/bin", "LANG=C.UTF-8"]  # fmt: skip
    traced = ["strace", "-f", "-qq", "-e", "trace=socket,connect,bind,sendto", "-o", str(trace)]
    command = ["unshare", "-n", sys.executable, "-P", str(script), "--loopback-up", QUESTION]
    done = subprocess.run(
        [*command, *as_nobody, *traced, str(program)],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"the isolated run failed: {done.stderr.strip()[-500:]}")
    return {**json.loads(done.stdout), **sockets(trace.read_text(errors="replace"))}


def sockets(trace: str) -> dict[str, Any]:
    """What a strace of socket calls shows: families, and addresses bound or connected to."""
    families = Counter(re.findall(r"socket\((AF_\w+)", trace))
    addresses = re.findall(r"inet_addr\(\"([^\"]+)\"\)|inet_pton\(AF_INET6, \"([^\"]+)\"", trace)
    seen = sorted({a or b for a, b in addresses})
    strangers = [a for a in seen if not a.startswith("127.") and a != "::1"]
    return {"families": dict(families), "addresses": seen, "not_loopback": strangers}


def measure(folder: Path, slug: str, runs: int) -> dict[str, Any]:
    """All figures of a packed folder."""
    program = folder / slug
    groups = sizes(folder)
    total = size_of(folder)
    with tempfile.TemporaryDirectory(prefix="bundle-home-") as home:
        os.environ["ONDEVICE_HOME"] = home
        times = [
            repeat("first token, NAME ask", runs, lambda: time_ask(program)),
            repeat("first token, window's server", runs, lambda: time_window(program)),
        ]
    return {
        "bytes": total,
        "bytes_beside_model": total - groups.get("model", 0),
        "groups": groups,
        "times": [asdict(t) | {"median": t.median} for t in times],
        "isolated": isolated(folder, slug),
        "load": os.getloadavg()[0],
    }


def measure_onefile(file: Path, runs: int) -> dict[str, Any]:
    """Size and first token of a onefile, which unpacks itself first."""
    with tempfile.TemporaryDirectory(prefix="bundle-home-") as home:
        os.environ["ONDEVICE_HOME"] = home
        times = repeat("first token, onefile", runs, lambda: time_ask(file))
    return {"bytes": size_of(file), "times": [asdict(times) | {"median": times.median}]}


def show(figures: dict[str, Any]) -> None:
    """A table for a person."""
    print(f"{figures['bytes'] / 1e6:8.1f} MB in all")
    print(f"{figures['bytes_beside_model'] / 1e6:8.1f} MB beside the model")
    for name, size in figures["groups"].items():
        print(f"{size / 1e6:8.1f} MB   {name}")
    onefile = figures.get("onefile")
    if onefile:
        print(f"{onefile['bytes'] / 1e6:8.1f} MB as one file, the model inside")
    for times in [*figures["times"], *(onefile["times"] if onefile else [])]:
        print(f"{times['what']}: {Times(times['what'], tuple(times['runs'])).line()}")
    print(f"load average {figures['load']:.1f}")
    away = figures["isolated"]
    if "skipped" in away:
        print(f"isolated run skipped: {away['skipped']}")
        return
    print(f"isolated, as nobody: {away['answer']!r}; page {away['page']}")
    print(f"addresses used: {', '.join(away['addresses'])}; listening {away['listening']}")
    print(f"not loopback: {', '.join(away['not_loopback']) or 'none'}; {away['families']}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Pack if need be, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=MODEL, help="a pulled model or a package folder")
    parser.add_argument("--program", type=Path, help="a packed program's folder; none is built")
    parser.add_argument("--onefile", action="store_true", help="pack and measure one file too")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    model = store.find(options.model)
    with tempfile.TemporaryDirectory(prefix="bundle-build-") as work:
        folder = options.program
        if folder is None:
            plan = make_plan("Assistant", model=model)
            folder = build(plan, Path(work) / "folder").program
        figures = measure(folder, folder.name, options.runs)
        if options.onefile:
            one = build(make_plan("Assistant", model=model, onefile=True), Path(work) / "file")
            figures["onefile"] = measure_onefile(one.program, options.runs)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
