"""`python -m recipes.finetune train --out DIR`, then `evaluate`; see docs/finetune.md."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ondevice.errors import OndeviceError
from recipes.finetune import run
from recipes.finetune.base import LoraShape
from recipes.finetune.evaluate import SPLITS, TARGET, compare, told
from recipes.finetune.train import Schedule


def main() -> None:
    arguments = _parser().parse_args()
    if hasattr(os, "nice"):
        os.nice(10)
    try:
        if arguments.command == "train":
            _train(arguments)
        else:
            _evaluate(arguments)
    except OndeviceError as error:
        sys.exit(f"finetune: {error}")


def _train(arguments: argparse.Namespace) -> None:
    schedule = Schedule(
        steps=arguments.steps, batch=arguments.batch, rate=arguments.rate, seed=arguments.seed
    )
    lora = LoraShape(rank=arguments.rank, alpha=2 * arguments.rank)
    run.train_adapter(arguments.base, arguments.out, schedule, lora, threads=arguments.threads)


def _evaluate(arguments: argparse.Namespace) -> None:
    told(
        compare(
            arguments.base,
            arguments.out,
            splits=arguments.split or SPLITS,
            limit=arguments.limit,
            threads=arguments.threads,
            target=arguments.target,
            progress=_show,
        )
    )


def _show(stage: str, done: int, total: int) -> None:
    """One line for every twentieth part of the work."""
    if done % max(1, total // 20) == 0:
        print(f"{stage} {done}/{total}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m recipes.finetune", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train the adapter; goes on where it was")
    train.add_argument("--steps", type=int, default=Schedule.steps)
    train.add_argument("--batch", type=int, default=Schedule.batch)
    train.add_argument("--rate", type=float, default=Schedule.rate)
    train.add_argument("--rank", type=int, default=LoraShape.rank)
    train.add_argument("--seed", type=int, default=Schedule.seed)
    evaluate = commands.add_parser("evaluate", help="export base and fine-tuned and ask both")
    evaluate.add_argument("--split", action="append", choices=SPLITS)
    evaluate.add_argument("--limit", type=int, help="only the first questions")
    evaluate.add_argument("--target", default=TARGET)
    for command in (train, evaluate):
        command.add_argument("--base", type=Path, required=True, metavar="SOURCE")
        command.add_argument("--out", type=Path, required=True, metavar="DIR")
        command.add_argument("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    main()
