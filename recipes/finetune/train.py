"""LoRA training (Hu et al., 2021) on question and answer pairs, on the CPU; killed, it goes on.

Knows lessons and a torch model; nothing about where they come from.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.finetune import state
from recipes.finetune.examples import Lesson, batches
from recipes.finetune.state import Progress

if TYPE_CHECKING:
    import torch

_PADDING = 0  # seen by no token that counts: attention is causal and padding comes last


@dataclass(frozen=True)
class Schedule:
    """How to learn.

    steps: batches in all; three times through the set, after which held-out lessons are
    forgotten again (of 500 steps the best was 190). rate: the highest learning rate; it rises
    for the first `warmup` of the steps and falls to a tenth along a cosine. clip: the longest
    gradient. seed: of the adapter's beginning, the order and the dropout. bf16: matrix products
    in bfloat16.
    save_every, held_out_every: in steps.
    """

    steps: int = 190
    batch: int = 8
    rate: float = 5e-4
    warmup: float = 0.06
    clip: float = 1.0
    seed: int = 2026
    bf16: bool = True
    save_every: int = 10
    held_out_every: int = 63

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        rising = max(1, round(self.steps * self.warmup))
        if step < rising:
            return self.rate * (step + 1) / rising
        done = (step - rising) / max(1, self.steps - rising)
        return self.rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))


def train(
    model: Any,
    lessons: Sequence[Lesson],
    held_out: Sequence[Lesson],
    schedule: Schedule,
    path: Path,
    identity: Mapping[str, Any],
    tell: Callable[[Progress], None],
) -> Progress:
    """Train the adapter of a peft model in place, from where `path` stands to the last step.

    `identity` is what the result depends on; `tell` is called whenever the state was saved.
    Raises `RequestError` when `path` is of another training.
    """
    import torch

    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=schedule.rate, weight_decay=0.0)
    progress = state.restore(path, identity, trained, optimizer)
    following = batches(lessons, schedule.batch, schedule.seed, progress.step)
    last = time.monotonic()
    while True:
        _look(model, held_out, schedule, progress)
        if progress.step % schedule.save_every == 0 or progress.step == schedule.steps:
            now = time.monotonic()
            progress.seconds, last = progress.seconds + now - last, now
            state.save(path, identity, progress, trained, optimizer)
            tell(progress)
        if progress.step >= schedule.steps:
            return progress
        _step(model, next(following), trained, optimizer, schedule, progress)


def _step(
    model: Any,
    batch: Sequence[Lesson],
    trained: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    progress: Progress,
) -> None:
    import torch

    torch.manual_seed(schedule.seed + progress.step)  # the dropout's: a step is the same again
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate_at(progress.step)
    optimizer.zero_grad()
    loss = answer_losses(model, batch, schedule.bf16).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(trained.values(), schedule.clip)
    optimizer.step()
    progress.step += 1
    progress.losses.append(round(loss.item(), 5))
    progress.tokens += sum(lesson.tokens for lesson in batch)


def _look(model: Any, held_out: Sequence[Lesson], schedule: Schedule, progress: Progress) -> None:
    """Note the loss on held-out lessons when it is time and not done yet."""
    due = progress.step % schedule.held_out_every == 0 or progress.step == schedule.steps
    if held_out and due and progress.step not in dict(progress.held_out):
        loss = mean_loss(model, held_out, schedule)
        progress.held_out.append((progress.step, round(loss, 5)))


def mean_loss(model: Any, lessons: Sequence[Lesson], schedule: Schedule) -> float:
    """Mean over lessons of the loss on their answers, in nats per token, without dropout."""
    import torch

    model.eval()
    total = 0.0
    with torch.no_grad():
        for batch in _cut(sorted(lessons, key=lambda one: one.tokens), schedule.batch):
            total += float(answer_losses(model, batch, schedule.bf16).sum())
    return total / len(lessons)


def _cut(lessons: Sequence[Lesson], size: int) -> Iterator[Sequence[Lesson]]:
    for start in range(0, len(lessons), size):
        yield lessons[start : start + size]


def answer_losses(model: Any, batch: Sequence[Lesson], bf16: bool) -> torch.Tensor:
    """The loss of each lesson, float32 (batch,): mean over its answer's tokens, in nats.

    Short and long answers count the same, as they do in the evaluation. Logits are computed for
    the answers only.
    """
    import torch
    from torch.nn.functional import cross_entropy

    width = max(lesson.tokens for lesson in batch)
    rows = [[*one.prompt, *one.answer, *[_PADDING] * (width - one.tokens)] for one in batch]
    before = [  # the positions whose next token is one of the answer's
        row * width + len(one.prompt) - 1 + place
        for row, one in enumerate(batch)
        for place in range(len(one.answer))
    ]
    answers = torch.tensor([token for one in batch for token in one.answer])
    decoder = model.get_base_model()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        hidden = decoder.model(input_ids=torch.tensor(rows)).last_hidden_state
        logits = decoder.lm_head(hidden.flatten(0, 1)[before])
    losses = cross_entropy(logits.float(), answers, reduction="none")
    return torch.stack([part.mean() for part in losses.split([len(one.answer) for one in batch])])
