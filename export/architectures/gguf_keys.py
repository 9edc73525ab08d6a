"""The GGUF keys that the families share, with the meanings and defaults of llama.cpp.

Knows nothing about files.
"""

from __future__ import annotations

from ondevice.errors import SourceError
from ondevice.export.architecture import Architecture, LinearScaling, LongRope, Rope
from ondevice.export.architectures.config import MAX_LAYERS, checked, windows
from ondevice.export.architectures.family import GGUFHeader
from ondevice.export.architectures.fields import Fields

ROPE_FREQUENCIES = "rope_freqs.weight"
ROPE_LONG, ROPE_SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
ROPE_VECTORS = (ROPE_FREQUENCIES, ROPE_LONG, ROPE_SHORT)
_WINDOW, _PATTERN = "attention.sliding_window", "attention.sliding_window_pattern"


def decoder_from_gguf(
    header: GGUFHeader, prefix: str, name: str, partial: bool = False
) -> Architecture:
    """What every decoder has; biases and a tied head by the tensors there are; no windows.

    `prefix`: the keys' first part. `partial`: whether a part of each head may be rotated.
    Raises `SourceError` for what cannot be exported.
    """
    keys = header.keys.under(f"{prefix}.")
    _refuse(keys)
    hidden, heads = keys.integer("embedding_length"), keys.integer("attention.head_count")
    head_dim = keys.integer("attention.key_length", default=max(hidden // heads, 1))
    return checked(
        keys,
        Architecture(
            name=name,
            vocab_size=header.vocab_size,
            hidden_size=hidden,
            intermediate_size=keys.integer("feed_forward_length"),
            layers=keys.integer("block_count", high=MAX_LAYERS),
            heads=heads,
            kv_heads=keys.integer("attention.head_count_kv", default=heads),
            head_dim=head_dim,
            context_length=keys.integer("context_length"),
            norm_eps=keys.number("attention.layer_norm_rms_epsilon"),
            rope=_rope(header, keys, head_dim, partial),
            qkv_bias="blk.0.attn_q.bias" in header.tensors,
            output_bias="blk.0.attn_output.bias" in header.tensors,
            mlp_bias="blk.0.ffn_gate.bias" in header.tensors,
            tied_embeddings="output.weight" not in header.tensors,
        ),
    )


def without_gguf_windows(
    header: GGUFHeader, architecture: Architecture, prefix: str
) -> Architecture:
    """Raises `SourceError` for a window in a family whose GGUF files have none."""
    keys = header.keys.under(f"{prefix}.")
    if keys.integer(_WINDOW, default=0, low=0):
        raise keys.refuse(_WINDOW, "it does not say which layers have it")
    return architecture


def with_gguf_windows(
    header: GGUFHeader, architecture: Architecture, prefix: str, window: int, period: int
) -> Architecture:
    """The decoder with windows of `window` tokens where the file does not say.

    All but every `period`-th layer have them where the file does not say; 0 is all layers.
    """
    keys = header.keys.under(f"{prefix}.")
    window = keys.integer(_WINDOW, default=window, low=0)
    if isinstance(keys.value(_PATTERN), list):
        windowed = keys.flags(_PATTERN, architecture.layers)
    else:
        period = keys.integer(_PATTERN, default=period, low=0)
        layers = range(1, architecture.layers + 1)
        windowed = tuple(period == 0 or layer % period != 0 for layer in layers)
    return windows(architecture, window, windowed if window else ())


def _refuse(keys: Fields) -> None:
    if keys.integer("expert_count", default=0, low=0):
        raise keys.refuse("expert_count", "layers of experts cannot be exported")
    length = "attention.key_length"
    if keys.value(length) != keys.value("attention.value_length"):
        raise keys.refuse(length, "keys and values must have one length")


def _rope(header: GGUFHeader, keys: Fields, head_dim: int, partial: bool) -> Rope:
    name = "rope.dimension_count"
    dim = keys.integer(name, default=head_dim)
    if dim != head_dim and (not partial or dim > head_dim or dim % 2):
        raise keys.refuse(name, "this partial rotation cannot be exported")
    theta = keys.number("rope.freq_base", default=10000.0)
    frequencies = _vector(header, ROPE_FREQUENCIES, dim)
    return Rope(theta, dim, _scaling(header, keys, dim), frequencies)


def _scaling(header: GGUFHeader, keys: Fields, dim: int) -> LinearScaling | LongRope | None:
    long, short = _vector(header, ROPE_LONG, dim), _vector(header, ROPE_SHORT, dim)
    if bool(long) != bool(short):
        raise SourceError(
            f"{keys.where} has one of {ROPE_LONG} and {ROPE_SHORT} only; the file is incomplete"
        )
    if long:
        return LongRope(
            short_factors=short,
            long_factors=long,
            original_context_length=keys.integer("rope.scaling.original_context_length", low=2),
            attention_factor=keys.number("rope.scaling.attn_factor", default=1.0),
        )
    name = "rope.scaling.type"
    factor = keys.number(
        "rope.scaling.factor", default=keys.number("rope.scale_linear", default=1.0)
    )
    kind = keys.text(name, default="linear")
    if kind not in ("none", "linear"):
        raise keys.refuse(name, "this rope scaling cannot be exported")
    return None if kind == "none" or factor == 1 else LinearScaling(factor)


def _vector(header: GGUFHeader, name: str, dim: int) -> tuple[float, ...]:
    values = header.rope_vectors.get(name, ())
    if values and (len(values) != dim // 2 or not all(0 < value < 1e30 for value in values)):
        raise SourceError(
            f"{name} of {header.keys.where} is not {dim // 2} positive numbers; the file is damaged"
        )
    return values
