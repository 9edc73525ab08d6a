"""Runs a sidecar and hands its stdout on a few bytes at a time: no frame arrives whole."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time

SIZES = (1, 2, 3, 5, 7)  # bytes; a character of UTF-8 has up to 4
PAUSE = 0.0005  # seconds, so that the reader sees the parts one by one


def main(command: list[str]) -> int:
    """Stdin is the sidecar's own; the exit code too."""
    sidecar = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert sidecar.stdout is not None
    sizes = itertools.cycle(SIZES)
    while chunk := os.read(sidecar.stdout.fileno(), next(sizes)):
        os.write(1, chunk)
        time.sleep(PAUSE)
    return sidecar.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
