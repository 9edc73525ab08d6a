"""Where a training stands, in one safetensors file that is replaced as a whole.

Knows torch's AdamW; nothing about models or questions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ondevice.errors import RequestError
from ondevice.files import write_bytes

if TYPE_CHECKING:
    import torch

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class Progress:
    """How far a training is.

    step: batches done. losses: of each of them. held_out: (step, loss) on questions that are not
    learnt from. tokens: learnt from, padding left out. seconds: spent in all runs together.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0


def save(
    path: Path,
    identity: Mapping[str, Any],
    progress: Progress,
    trained: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Replace the file: a kill leaves the old one or the new one."""
    from safetensors.torch import save as to_bytes

    tensors = {f"weight.{name}": value.detach().clone() for name, value in trained.items()}
    for name, value in trained.items():
        moments = optimizer.state.get(value, {})
        tensors |= {f"{kind}.{name}": moments[kind] for kind in _MOMENTS if kind in moments}
    about = json.dumps({"identity": dict(identity), "progress": asdict(progress)})
    write_bytes(path, to_bytes(tensors, {"training": about}))


def restore(
    path: Path,
    identity: Mapping[str, Any],
    trained: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> Progress:
    """Put weights and moments back where there is a file; at the beginning otherwise.

    Raises `RequestError` when the file is of another training or cannot be read.
    """
    if not path.exists():
        return Progress()
    about, tensors = _read(path)
    if about["identity"] != dict(identity):
        raise RequestError(
            f"{path} is of a training with other settings, data or base; choose another --out"
        )
    progress = Progress(**about["progress"])
    progress.held_out = [(step, loss) for step, loss in progress.held_out]
    _put_back(tensors, trained, optimizer, progress.step)
    return progress


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["training"])
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise RequestError(
            f"{path} is not the state of a training ({str(error)[:80]}); remove it to begin anew"
        ) from error


def _put_back(
    tensors: Mapping[str, torch.Tensor],
    trained: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    step: int,
) -> None:
    import torch

    with torch.no_grad():
        for name, value in trained.items():
            value.copy_(tensors[f"weight.{name}"])
            if f"{_MOMENTS[0]}.{name}" in tensors:
                moments = {kind: tensors[f"{kind}.{name}"] for kind in _MOMENTS}
                optimizer.state[value] = {"step": torch.tensor(float(step)), **moments}
