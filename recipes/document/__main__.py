"""Writes the handbook: `python -m recipes.document --out recipes/document/handbook.pdf`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ondevice.files import write_bytes
from recipes.document.build import FOLDER, SOURCE, build


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.document", description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER / "handbook.pdf")
    arguments = parser.parse_args()
    write_bytes(arguments.out, build(SOURCE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
