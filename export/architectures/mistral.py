"""Mistral 7B (Jiang et al., 2023) and Nemo: Llama's shape, a window on every layer where set.

GGUF files of Mistral call themselves Llama.
"""

from __future__ import annotations

from ondevice.export.architecture import Architecture
from ondevice.export.architectures.config import decoder_from_config, with_windows
from ondevice.export.architectures.family import Family
from ondevice.export.architectures.fields import Fields


def _from_config(config: Fields) -> Architecture:
    config = config.or_else(
        num_key_value_heads=8, max_position_embeddings=131072, sliding_window=4096
    )
    decoder = decoder_from_config(config, "mistral")
    return with_windows(decoder, config, lambda layer: config.present("sliding_window"))


FAMILY = Family("mistral", _from_config, gguf=None)
