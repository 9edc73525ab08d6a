"""Qwen2 and Qwen2.5 (Yang et al., 2024): Llama's shape with biases on queries, keys and values."""

from __future__ import annotations

from dataclasses import replace

from ondevice.export.architecture import Architecture
from ondevice.export.architectures.config import decoder_from_config, with_optional_windows
from ondevice.export.architectures.family import Family, GGUFHeader
from ondevice.export.architectures.fields import Fields
from ondevice.export.architectures.gguf_keys import decoder_from_gguf, without_gguf_windows


def _from_config(config: Fields) -> Architecture:
    config = config.or_else(
        num_key_value_heads=32,
        max_position_embeddings=32768,
        sliding_window=4096,
        max_window_layers=28,
    )
    decoder = replace(decoder_from_config(config, "qwen2"), qkv_bias=True)
    return with_optional_windows(
        decoder, config, lambda layer: layer >= config.integer("max_window_layers", low=0)
    )


def _from_gguf(header: GGUFHeader) -> Architecture:
    return without_gguf_windows(header, decoder_from_gguf(header, "qwen2", "qwen2"), "qwen2")


FAMILY = Family("qwen2", _from_config, ("qwen2", _from_gguf))
