"""Gemma 2 (Gemma Team, 2024): norms before and after, soft caps, every second layer windowed.

What it shares with Gemma 3 is here. Norm weights are stored less one in safetensors; GGUF files
have the one added.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ondevice.export.architecture import Architecture, Rope
from ondevice.export.architectures import layout
from ondevice.export.architectures.config import decoder_from_config, with_biases, with_windows
from ondevice.export.architectures.family import Family, GGUFHeader
from ondevice.export.architectures.fields import Fields
from ondevice.export.architectures.gguf_keys import decoder_from_gguf, with_gguf_windows
from ondevice.export.architectures.layout import Stored

_GGUF_NAMES = {
    **layout.GGUF_LAYER_NAMES,
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
# Of the 27B models only: their scores are scaled by the width per head, not by the head's.
# GGUF files do not say; llama.cpp goes by the number of layers too.
_LAYERS_OF_27B = {"gemma2": 46, "gemma3": 62}


def gemma_from_config(config: Fields, name: str, rope: Rope | None = None) -> Architecture:
    """What Gemma 2 and 3 share, without windows; `config` has the defaults of the family."""
    config = config.or_else(
        num_key_value_heads=4,
        head_dim=256,
        hidden_activation="gelu_pytorch_tanh",
        tie_word_embeddings=True,
        query_pre_attn_scalar=256,
    )
    if config.present("use_bidirectional_attention") and config.flag("use_bidirectional_attention"):
        raise config.refuse("use_bidirectional_attention", "only causal decoders can be exported")
    decoder = with_biases(
        decoder_from_config(config, name, rope, activation="hidden_activation"), config
    )
    return _gemma(decoder, config.number("query_pre_attn_scalar"))


def gemma_from_gguf(header: GGUFHeader, prefix: str, name: str) -> Architecture:
    """What Gemma 2 and 3 share, without windows."""
    decoder = replace(decoder_from_gguf(header, prefix, name), activation="gelu_tanh")
    width = decoder.head_dim
    if decoder.layers == _LAYERS_OF_27B[prefix]:
        width = decoder.hidden_size // decoder.heads
    return _gemma(decoder, width)


def _gemma(decoder: Architecture, scored_width: float) -> Architecture:
    return replace(
        decoder,
        post_norms=True,
        embedding_scale=math.sqrt(decoder.hidden_size),
        attention_scale=None if scored_width == decoder.head_dim else scored_width**-0.5,
    )


def soft_cap(fields: Fields, name: str, default: float | None = None) -> float:
    """A soft cap, 0 where there is none."""
    return fields.number(name, default) if fields.present(name) or default else 0.0


def in_safetensors(architecture: Architecture, name: str) -> Stored:
    return Stored(name, plus=1.0 if name.endswith("norm.weight") else 0.0)


def in_gguf(architecture: Architecture, name: str) -> Stored:
    return layout.in_gguf(architecture, name, _GGUF_NAMES)


def _from_config(config: Fields) -> Architecture:
    config = config.or_else(
        max_position_embeddings=8192,
        sliding_window=4096,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
    )
    decoder = replace(
        gemma_from_config(config, "gemma2"),
        attention_softcap=soft_cap(config, "attn_logit_softcapping"),
        logit_softcap=soft_cap(config, "final_logit_softcapping"),
    )
    return with_windows(decoder, config, lambda layer: layer % 2 == 0)


def _from_gguf(header: GGUFHeader) -> Architecture:
    keys = header.keys.under("gemma2.")
    decoder = replace(
        gemma_from_gguf(header, "gemma2", "gemma2"),
        attention_softcap=soft_cap(keys, "attn_logit_softcapping", 50.0),
        logit_softcap=soft_cap(keys, "final_logit_softcapping", 30.0),
    )
    return with_gguf_windows(header, decoder, "gemma2", window=4096, period=2)


FAMILY = Family("gemma2", _from_config, ("gemma2", _from_gguf), in_safetensors, in_gguf)
