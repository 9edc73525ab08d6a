"""Qwen3 (Yang et al., 2025): Llama's shape with a norm over each query and key head."""

from __future__ import annotations

from dataclasses import replace

from ondevice.export.architecture import Architecture
from ondevice.export.architectures.config import (
    decoder_from_config,
    with_biases,
    with_optional_windows,
)
from ondevice.export.architectures.family import Family, GGUFHeader
from ondevice.export.architectures.fields import Fields
from ondevice.export.architectures.gguf_keys import decoder_from_gguf, without_gguf_windows


def _from_config(config: Fields) -> Architecture:
    config = config.or_else(
        num_key_value_heads=32,
        head_dim=128,
        max_position_embeddings=32768,
        sliding_window=4096,
        max_window_layers=28,
    )
    decoder = with_biases(decoder_from_config(config, "qwen3"), config)
    return with_optional_windows(
        replace(decoder, qk_norm=True),
        config,
        lambda layer: layer >= config.integer("max_window_layers", low=0),
    )


def _from_gguf(header: GGUFHeader) -> Architecture:
    decoder = without_gguf_windows(header, decoder_from_gguf(header, "qwen3", "qwen3"), "qwen3")
    return replace(decoder, qk_norm=True)


FAMILY = Family("qwen3", _from_config, ("qwen3", _from_gguf))
