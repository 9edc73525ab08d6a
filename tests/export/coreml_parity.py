"""Core ML packages in the evaluator beside the same weights in transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import random_weights, write_checkpoint
from numpy.typing import NDArray

from ondevice.export import rotary
from ondevice.export.architecture import EMBEDDING, Architecture
from ondevice.export.convert import convert
from ondevice.export.coreml.model import EvaluatedModel
from ondevice.export.recipe import Options, Quantizer, find_target
from ondevice.export.source import open_source
from ondevice.package import Package

PREFILL, DECODE, CONTEXT = 12, 16, 48
FP32, FP16, CACHE = 5e-5, 0.02, 1e-3  # most that logits, and keys and values, may differ

Floats = NDArray[np.float32]
Weights = dict[str, Floats]


@dataclass
class Run:
    """Logits (17, vocab) after the prefill and each decoded token; the cache at the end.

    Keys and values of each layer (kv_heads, tokens, head_dim), the last tokens of windows.
    """

    logits: Floats
    cache: list[Floats]


def half_weights(architecture: Architecture) -> Weights:
    """Random weights that half precision holds, of a size that gives logits up to 4."""
    weights = random_weights(architecture)
    for name, values in weights.items():
        if name == EMBEDDING:
            values /= 8 if architecture.tied_embeddings else 1
        elif values.ndim == 2:
            values /= 1.5
    return {name: rounded(values) for name, values in weights.items()}


def rounded(values: Floats) -> Floats:
    return values.astype(np.float16).astype(np.float32)


def tokens(architecture: Architecture) -> list[int]:
    chance = np.random.default_rng(1)
    return [int(i) for i in chance.integers(0, architecture.vocab_size, PREFILL + DECODE)]


def export(checkpoint: Path, out: Path, target: str, **options: Any) -> Package:
    return convert(
        checkpoint, target, out, options=Options(**{"context": CONTEXT, **options}), accept=True
    )


def evaluated(package: Package, architecture: Architecture, precision: Any = "fp32") -> Run:
    model = EvaluatedModel(package, precision)
    ids = tokens(architecture)
    rows = [model.prefill(ids[:PREFILL]), *(model.decode(token) for token in ids[PREFILL:])]
    states = [model.state[name][:, :, : len(ids)] for name in ("keyCache", "valueCache")]
    return Run(np.stack(rows), [layer for state in states for layer in state])


def with_transformers(checkpoint: Path, architecture: Architecture) -> Run:
    """The same by transformers, with rotary tables in half precision as the package has them."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    for module in model.modules():
        if type(module).__name__.endswith("RotaryEmbedding"):
            module.register_forward_hook(lambda _, __, out: half_tables(architecture, out))
    ids = tokens(architecture)
    with torch.no_grad():
        found = model(torch.tensor([ids]), use_cache=True)
    layers = found.past_key_values.layers
    cache = [getattr(layer, part)[0].numpy() for part in ("keys", "values") for layer in layers]
    return Run(found.logits[0, PREFILL - 1 :].numpy(), cache)


def half_tables(architecture: Architecture, given: tuple[Any, Any]) -> tuple[Any, Any]:
    """Cosines and sines (1, tokens, dim) of transformers, or ours where both are the same.

    Rounded to half precision, two numbers that differ in float32's last place may lie apart.
    """
    import torch

    for rope in filter(None, (architecture.rope, architecture.local_rope)):
        ours = [
            torch.from_numpy(np.concatenate([table, table], axis=1))[None]
            for table in rotary.tables(rope, given[0].shape[1])
        ]
        pairs = list(zip(given, ours, strict=True))
        if all(a.shape == b.shape and (a - b).abs().max() < 1e-5 for a, b in pairs):
            return ours[0].half().float(), ours[1].half().float()
    raise AssertionError("transformers' rotary tables are others")


def difference(found: Run, expected: Run) -> float:
    return float(np.abs(found.logits - expected.logits).max())


def cache_difference(found: Run, expected: Run) -> float:
    """Of keys and values; transformers keeps those within a window only."""
    pairs = zip(found.cache, expected.cache, strict=True)
    return max(float(np.abs(one[:, -other.shape[1] :] - other).max()) for one, other in pairs)


def require_parity(package: Package, architecture: Architecture, expected: Run) -> None:
    """Logits in both precisions, the most probable tokens, keys and values."""
    found = evaluated(package, architecture)
    assert difference(found, expected) <= FP32
    assert (found.logits.argmax(axis=1) == expected.logits.argmax(axis=1)).all()
    assert difference(evaluated(package, architecture, "fp16"), expected) <= FP16
    assert cache_difference(found, expected) <= CACHE


def dequantized(checkpoint: Path, architecture: Architecture, target: str) -> Path:
    """A checkpoint of what a target's quantizer makes of another's matrices, beside it."""
    weights = half_weights(architecture)
    quantizer = Quantizer(open_source(checkpoint), find_target(target))
    for name, values in weights.items():
        if values.ndim == 2:
            made = quantizer.rows(name, slice(None)).values
            weights[name] = rounded(made.dequantize())
    return write_checkpoint(checkpoint.parent / "dequantized", architecture, weights)
