"""Gemma 3's text models, 270M and 1B (Gemma Team, 2025): Gemma 2 with norms over query and key
heads in place of attention's soft cap, and another rotary embedding in windowed layers."""

from __future__ import annotations

from dataclasses import replace

from ondevice.export.architecture import Architecture, Rope
from ondevice.export.architectures.config import head_dim, with_windows
from ondevice.export.architectures.config_rope import rope_section, scaled_rope
from ondevice.export.architectures.family import Family, GGUFHeader
from ondevice.export.architectures.fields import Fields
from ondevice.export.architectures.gemma2 import (
    gemma_from_config,
    gemma_from_gguf,
    in_gguf,
    in_safetensors,
    soft_cap,
)
from ondevice.export.architectures.gguf_keys import with_gguf_windows

_PERIOD = 6  # every sixth layer sees everything
_LOCAL_THETA = 10000.0


def _from_config(config: Fields) -> Architecture:
    config = config.or_else(
        head_dim=256, max_position_embeddings=131072, sliding_window=4096, rope_theta=1e6
    )
    rope, local = _ropes(config)
    decoder = replace(
        gemma_from_config(config, "gemma3_text", rope),
        qk_norm=True,
        local_rope=local,
        logit_softcap=soft_cap(config, "final_logit_softcapping"),
    )
    period = config.integer("sliding_window_pattern", default=_PERIOD)
    return with_windows(decoder, config, lambda layer: (layer + 1) % period != 0)


def _ropes(config: Fields) -> tuple[Rope, Rope]:
    """Of layers that see everything, and of windowed ones; scaling is written for the former."""
    theta, dim = config.number("rope_theta"), head_dim(config)
    local_theta = config.number("rope_local_base_freq", default=_LOCAL_THETA)
    section = rope_section(config)
    full, local = section.section("full_attention"), section.section("sliding_attention")
    if full is None and local is None:
        return scaled_rope(section, config, theta, dim), Rope(local_theta, dim)
    return (
        _nested(full or Fields({}, config.where), config, theta, dim),
        _nested(local or Fields({}, config.where), config, local_theta, dim),
    )


def _nested(section: Fields, config: Fields, theta: float, dim: int) -> Rope:
    return scaled_rope(section, config, section.number("rope_theta", default=theta), dim)


def _from_gguf(header: GGUFHeader) -> Architecture:
    keys = header.keys.under("gemma3.")
    decoder = gemma_from_gguf(header, "gemma3", "gemma3_text")
    local_theta = keys.number("rope.freq_base_swa", default=_LOCAL_THETA)
    decoder = replace(
        decoder,
        qk_norm=True,
        local_rope=Rope(local_theta, decoder.head_dim),
        logit_softcap=soft_cap(keys, "final_logit_softcapping"),
    )
    return with_gguf_windows(header, decoder, "gemma3", window=0, period=_PERIOD)


FAMILY = Family("gemma3_text", _from_config, ("gemma3", _from_gguf), in_safetensors, in_gguf)
