"""`ondevice stdio` with a scripted model: `scripted_server.py PACKAGE [JSON of Behaviour]`.

Everything but the model is as in the command: the pipes, the threads, the end.
"""

# ruff: noqa: E402 - what is imported must be found first
from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))
sys.path.append(str(ROOT / "tests" / "runtime"))

from ondevice.host import Host
from ondevice.package import Package, open_package
from ondevice.runtime.fallback.fallback import Fallback
from ondevice.stdio import process
from tests.stdio.scripted_host import Scripted


@dataclass(frozen=True)
class Behaviour:
    """Seconds for each token and for loading; whether loading prints to stdout in every way."""

    token_s: float = 0.0
    load_s: float = 0.0
    noisy: bool = False


def main() -> None:
    pipes = process.take_pipes()
    process.ignore_interrupts()
    behaviour = Behaviour(**json.loads(sys.argv[2] if len(sys.argv) > 2 else "{}"))
    scripted = Scripted(lambda: time.sleep(behaviour.token_s))

    def open_model(package: Package) -> Fallback:
        time.sleep(behaviour.load_s)
        if behaviour.noisy:
            make_noise()
        return scripted.open(package)

    host = Host([open_package(Path(sys.argv[1]))], open_model=open_model)
    end = process.serve(host, pipes)
    print(end.message, file=sys.stderr, flush=True)
    os._exit(end.code)


def make_noise() -> None:
    """All the ways in which a library could print, and one in which it could read."""
    print("noise of print", flush=True)
    os.write(1, b"noise of a descriptor\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"noise of C")
    libc.fflush(None)
    subprocess.run(["echo", "noise of a child"], check=True)
    subprocess.run(["cat"], check=True, timeout=10)  # would take the client's messages


if __name__ == "__main__":
    main()
