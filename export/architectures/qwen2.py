"""Qwen2 and Qwen2.5 (Yang et al., 2024): Llama's shape with biases on queries, keys and values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ondevice.export.architecture import Architecture
from ondevice.export.architectures.family import (
    Family,
    Fields,
    decoder_from_config,
    decoder_from_gguf,
    same_order,
)


def _from_config(config: Fields) -> Architecture:
    # Qwen2 writes a sliding_window that is in use only where use_sliding_window says so.
    window = config.flag("use_sliding_window", default=False)
    values = {**config.values, "use_sliding_window": window}
    return replace(decoder_from_config(Fields(values, config.where), "qwen2"), qkv_bias=True)


def _from_gguf(
    keys: Fields, tensors: Collection[str], vocab_size: int, factors: tuple[float, ...]
) -> Architecture:
    return decoder_from_gguf(keys, "qwen2", tensors, vocab_size, factors)


FAMILY = Family("qwen2", _from_config, _from_gguf, same_order)
