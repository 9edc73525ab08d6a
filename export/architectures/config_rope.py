"""The rotary embedding that config.json describes, in the forms it had over the years.

`rope_scaling` with `rope_theta` beside it, or `rope_parameters` that holds both.
"""

from __future__ import annotations

import math

from ondevice.export.architecture import LinearScaling, Llama3Scaling, LongRope, Rope
from ondevice.export.architectures.fields import Fields

_KINDS = ("default", "linear", "llama3", "longrope", "su")
_FULL = "full_attention"


def rope_from_config(config: Fields, head_dim: int, partial: bool = False) -> Rope:
    """The one rotary embedding of a decoder.

    `partial`: whether it may rotate a part of each head. Raises `SourceError` for kinds that
    cannot be exported.
    """
    section = rope_section(config)
    if section.present(_FULL):
        raise section.wrong(_FULL, "missing: layers with embeddings of their own are Gemma 3's")
    theta = section.number("rope_theta", default=config.number("rope_theta", default=10000.0))
    dim = _rotated(section if section.present("partial_rotary_factor") else config, head_dim)
    if dim != head_dim and not partial:
        raise config.refuse("partial_rotary_factor", "partial rotation is no part of this family")
    return scaled_rope(section, config, theta, dim)


def rope_section(config: Fields) -> Fields:
    """`rope_scaling` where it says something, else `rope_parameters`, else no fields."""
    name = "rope_scaling" if config.value("rope_scaling") else "rope_parameters"
    return config.section(name) or Fields({}, config.where)


def scaled_rope(section: Fields, config: Fields, theta: float, dim: int) -> Rope:
    """`dim` rotated dimensions, scaled as `section` says."""
    key = "rope_type" if section.present("rope_type") else "type"
    kind = section.text(key, default="default")
    if kind == "default":
        return Rope(theta, dim)
    if kind == "linear":
        return Rope(theta, dim, LinearScaling(section.number("factor")))
    if kind == "llama3":
        return Rope(theta, dim, _llama3(section, config))
    if kind in ("longrope", "su"):
        return Rope(theta, dim, _long_rope(section, config, dim))
    raise section.refuse(key, f"only the rope types {', '.join(_KINDS)} can be exported")


def long_rope_attention_factor(factor: float, original_context: int) -> float:
    """What cosines and sines are multiplied by (Ding et al., 2024), for a context `factor` times
    as long as the original one."""
    return math.sqrt(1 + math.log(factor) / math.log(original_context)) if factor > 1 else 1.0


def _rotated(fields: Fields, head_dim: int) -> int:
    share = fields.number("partial_rotary_factor", default=1.0)
    dim = int(head_dim * share)
    if share > 1 or dim < 2 or (dim % 2 and dim != head_dim):
        raise fields.wrong("partial_rotary_factor", "a share that rotates pairs of dimensions")
    return dim


def _llama3(section: Fields, config: Fields) -> Llama3Scaling:
    low, high = section.number("low_freq_factor"), section.number("high_freq_factor")
    if low >= high:
        raise section.wrong("low_freq_factor", f"less than high_freq_factor {high:g}")
    return Llama3Scaling(section.number("factor"), low, high, _original(section, config))


def _long_rope(section: Fields, config: Fields, dim: int) -> LongRope:
    original = _original(section, config)
    length = config.integer("max_position_embeddings")
    factor = section.number("factor", default=length / original)
    return LongRope(
        short_factors=section.factors("short_factor", dim // 2),
        long_factors=section.factors("long_factor", dim // 2),
        original_context_length=original,
        attention_factor=section.number(
            "attention_factor", default=long_rope_attention_factor(factor, original)
        ),
    )


def _original(section: Fields, config: Fields) -> int:
    """The value beside the section counts, as transformers has it."""
    name = "original_max_position_embeddings"
    for fields in (config, section):
        if fields.present(name):
            return fields.integer(name, low=2)
    return config.integer("max_position_embeddings", low=2)
