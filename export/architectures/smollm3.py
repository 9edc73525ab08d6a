"""SmolLM3 (Hugging Face, 2025): Llama's shape, some layers without rotary embedding."""

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
from ondevice.export.architectures.layout import interleaved_in_gguf

_STEP = 4  # every fourth layer is not rotated; llama.cpp knows no other step


def _from_config(config: Fields) -> Architecture:
    config = config.or_else(
        num_key_value_heads=4,
        max_position_embeddings=32768,
        rope_theta=2e6,
        tie_word_embeddings=True,
    )
    decoder = with_biases(decoder_from_config(config, "smollm3"), config, mlp=True)
    decoder = replace(decoder, unrotated=_unrotated(config, decoder.layers))
    # Where layer_types does not say, the window is on the layers that are not rotated.
    return with_optional_windows(decoder, config, lambda layer: layer in decoder.unrotated)


def _unrotated(config: Fields, layers: int) -> frozenset[int]:
    if config.present("no_rope_layers"):
        rotated = config.flags("no_rope_layers", layers)
        return frozenset(layer for layer in range(layers) if not rotated[layer])
    step = config.integer("no_rope_layer_interval", default=_STEP)
    return frozenset(range(step - 1, layers, step))


def _from_gguf(header: GGUFHeader) -> Architecture:
    decoder = decoder_from_gguf(header, "smollm3", "smollm3")
    decoder = without_gguf_windows(header, decoder, "smollm3")
    return replace(decoder, unrotated=frozenset(range(_STEP - 1, decoder.layers, _STEP)))


FAMILY = Family("smollm3", _from_config, ("smollm3", _from_gguf), in_gguf=interleaved_in_gguf)
