"""Writes the evaluation set: `python -m recipes.evalset --seed 2026 --out recipes/evalset`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ondevice.files import sha256, write_text
from ondevice.runtime.evaluate import dataset
from recipes.evalset.build import SEED, build


def write(out: Path, seed: int = SEED) -> dict[str, str]:
    """Write one file a split and `SHA256SUMS`; return the hash of each file by its name."""
    hashes: dict[str, str] = {}
    for split, examples in build(seed).items():
        path = out / f"{split}.jsonl.gz"
        dataset.write(path, examples)
        hashes[path.name] = sha256(path)
    write_text(out / "SHA256SUMS", "".join(f"{value}  {name}\n" for name, value in hashes.items()))
    return hashes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.evalset", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    for name, value in write(arguments.out, arguments.seed).items():
        print(f"{value}  {name}")


if __name__ == "__main__":
    main()
