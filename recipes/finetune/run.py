"""The whole recipe: data, base and training to an adapter in a folder."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from ondevice import files
from ondevice.export.source import Source, open_source
from ondevice.runtime.evaluate import dataset
from recipes.finetune import base
from recipes.finetune.base import LoraShape
from recipes.finetune.examples import Lesson, Lessons, within
from recipes.finetune.state import Progress
from recipes.finetune.train import Schedule, train

EVALSET = Path(__file__).parents[1] / "evalset"
LEARNT = EVALSET / "train.jsonl.gz"
WATCHED = EVALSET / "threshold.jsonl.gz"  # for the curve: neither learnt from nor reported on
MOST_WATCHED = 100
LONGEST = 1024  # tokens of a lesson

STATE, ADAPTER, LOG = "training.safetensors", "adapter", "training.json"


def train_adapter(
    base_path: Path, out: Path, schedule: Schedule, lora: LoraShape, threads: int
) -> Path:
    """Train on the evaluation set's training split; returns the adapter's folder in `out`.

    Called again with the same arguments, it goes on from the last saved step. Raises
    `OndeviceError` when the base cannot be trained or `out` holds another training.
    """
    import torch

    torch.set_num_threads(threads)
    with contextlib.closing(open_source(base_path)) as source:
        origin = source.origin()
        learnt, watched = _lessons(source)
        torch.manual_seed(schedule.seed)
        model = base.load(source, lora, origin.id)
    identity = _identity(origin.files, schedule, lora)
    tell = _teller(schedule)
    progress = train(model, learnt, watched, schedule, out / STATE, identity, tell)
    with files.new_folder(out / ADAPTER, replace=True) as folder:
        model.save_pretrained(folder, save_embedding_layers=False)
    log = {**identity, "examples": len(learnt), "threads": threads, "versions": _versions()}
    log |= dataclasses.asdict(progress)
    files.write_text(out / LOG, json.dumps(log, indent=1) + "\n")
    return out / ADAPTER


def _lessons(source: Source) -> tuple[list[Lesson], list[Lesson]]:
    make = Lessons(source.tokenizer)
    learnt = [make.lesson(example) for example in dataset.read(LEARNT)]
    watched = [make.lesson(example) for example in dataset.read(WATCHED)[:MOST_WATCHED]]
    return within(learnt, LONGEST), within(watched, LONGEST)


def _identity(base_files: dict[str, str], schedule: Schedule, lora: LoraShape) -> dict[str, Any]:
    return {
        "base": base_files,
        "data": {path.name: files.sha256(path) for path in (LEARNT, WATCHED)},
        "schedule": dataclasses.asdict(schedule),
        "lora": dataclasses.asdict(lora),
    }


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("torch", "transformers", "peft")}


def _teller(schedule: Schedule) -> Callable[[Progress], None]:
    """Says after each saving how it goes; the speed is of all steps so far."""

    def tell(progress: Progress) -> None:
        recent = progress.losses[-schedule.save_every :]
        parts = [f"step {progress.step}/{schedule.steps}"]
        if recent:
            left = progress.seconds / progress.step * (schedule.steps - progress.step)
            parts += [
                f"loss {sum(recent) / len(recent):.4f}",
                f"{progress.tokens / progress.seconds:,.0f} tokens/s",
                f"{left / 60:.1f} min left",
            ]
        if progress.held_out and progress.held_out[-1][0] > progress.step - schedule.save_every:
            parts.append(f"held out {progress.held_out[-1][1]:.4f}")
        print("  ".join(parts), flush=True)

    return tell
