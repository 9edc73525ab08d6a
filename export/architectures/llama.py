"""Llama (Touvron et al., 2023; Grattafiori et al., 2024) and models of its shape, SmolLM2 too."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ondevice.export.architecture import Architecture
from ondevice.export.architectures.family import (
    Family,
    Fields,
    decoder_from_config,
    decoder_from_gguf,
)


def _from_config(config: Fields) -> Architecture:
    bias = config.flag("attention_bias")
    return replace(
        decoder_from_config(config, "llama"),
        qkv_bias=bias,
        output_bias=bias,
        mlp_bias=config.flag("mlp_bias"),
    )


def _from_gguf(
    keys: Fields, tensors: Collection[str], vocab_size: int, factors: tuple[float, ...]
) -> Architecture:
    return decoder_from_gguf(keys, "llama", tensors, vocab_size, factors)


def _gguf_row_order(architecture: Architecture, name: str) -> NDArray[np.intp] | None:
    """GGUF interleaves the two halves of each query and key head, for its way of rotating."""
    if ".q_proj." in name:
        heads = architecture.heads
    elif ".k_proj." in name:
        heads = architecture.kv_heads
    else:
        return None
    rows = np.arange(heads * architecture.head_dim, dtype=np.intp)
    return rows.reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)


FAMILY = Family("llama", _from_config, _from_gguf, _gguf_row_order)
