"""What the decoders of the Llama line share: reading their numbers, naming their tensors.

Knows config.json and GGUF keys; knows nothing about files or tokenizers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import SourceError
from ondevice.export.architecture import Architecture, Llama3Scaling, Rope

# Largest numbers that are believed; they keep a damaged file from asking for the impossible.
MAX_LAYERS = 1 << 10
MAX_WIDTH = 1 << 24

GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
GGUF_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@dataclass(frozen=True)
class Fields:
    """Values of a config.json or of GGUF keys, read with the type they should have.

    Every reader raises `SourceError` that names the value and `where` it stands.
    """

    values: Mapping[str, object]
    where: str

    def present(self, name: str) -> bool:
        return self.values.get(name) is not None

    def integer(
        self, name: str, default: int | None = None, low: int = 1, high: int = MAX_WIDTH
    ) -> int:
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, "a whole number")
        if not low <= value <= high:
            raise self.wrong(name, f"a whole number from {low} to {high}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A positive finite number."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "a number")
        if not 0 < value < 1e300 or not math.isfinite(value):
            raise self.wrong(name, "a positive number")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        return value

    def texts(self, name: str) -> list[str]:
        value = self._value(name, None)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a list of texts")
        return value

    def numbers(self, name: str, count: int) -> list[float] | None:
        """A list of `count` numbers, or None when there is none."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != count:
            raise self.wrong(name, f"a list of {count} numbers")
        if not all(isinstance(item, int | float) and math.isfinite(item) for item in value):
            raise self.wrong(name, f"a list of {count} numbers")
        return value

    def section(self, name: str) -> Fields | None:
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return Fields(value, f"{name} of {self.where}")

    def wrong(self, name: str, wanted: str) -> SourceError:
        shown = repr(self.values.get(name))
        shown = shown if len(shown) <= 60 else shown[:60] + "..."
        return SourceError(
            f"{name} of {self.where} is {shown}, not {wanted}; the checkpoint is damaged or not "
            "of a kind this version reads"
        )

    def refuse(self, name: str, reason: str) -> SourceError:
        shown = repr(self.values.get(name))[:60]
        return SourceError(
            f"{self.where} sets {name} to {shown}: {reason}; choose another checkpoint"
        )

    def _value(self, name: str, default: object) -> object:
        value = self.values.get(name)
        if value is None:
            value = default
        if value is None:
            raise SourceError(f"{self.where} has no {name}; the checkpoint is incomplete")
        return value


@dataclass(frozen=True)
class Family:
    """One architecture: how its checkpoints are described and stored.

    `name` is config.json's `model_type` and GGUF's `general.architecture`.
    `from_gguf` gets the keys, the names of the tensors in the file, the rows of the token
    embedding and the values of `rope_freqs.weight` (empty when there are none).
    `gguf_row_order` says which row of a stored GGUF tensor each row of the Hugging Face
    tensor is; None when the rows are in the same order.
    """

    name: str
    from_config: Callable[[Fields], Architecture]
    from_gguf: Callable[[Fields, Collection[str], int, tuple[float, ...]], Architecture]
    gguf_row_order: Callable[[Architecture, str], NDArray[np.intp] | None]


def same_order(architecture: Architecture, name: str) -> None:
    """The row order of families whose GGUF tensors are stored as Hugging Face has them."""


def gguf_name(name: str) -> str:
    """The GGUF name of a tensor given by its Hugging Face name."""
    stem, _, kind = name.rpartition(".")
    if stem in GGUF_NAMES:
        return f"{GGUF_NAMES[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{GGUF_LAYER_NAMES[part]}.{kind}"


def decoder_from_config(config: Fields, name: str) -> Architecture:
    """The parts of config.json that all families here share; no biases."""
    _refuse_config(config)
    hidden = config.integer("hidden_size")
    heads = config.integer("num_attention_heads")
    head_dim = config.integer("head_dim", default=max(hidden // heads, 1))
    return _checked(
        config,
        Architecture(
            name=name,
            vocab_size=config.integer("vocab_size"),
            hidden_size=hidden,
            intermediate_size=config.integer("intermediate_size"),
            layers=config.integer("num_hidden_layers", high=MAX_LAYERS),
            heads=heads,
            kv_heads=config.integer("num_key_value_heads", default=heads),
            head_dim=head_dim,
            context_length=config.integer("max_position_embeddings", default=2048),
            norm_eps=config.number("rms_norm_eps", default=1e-6),
            rope=rope_from_config(config, head_dim),
            tied_embeddings=config.flag("tie_word_embeddings"),
        ),
    )


def rope_from_config(config: Fields, head_dim: int) -> Rope:
    """`rope_scaling` with `rope_theta` beside it, or the newer `rope_parameters` holding both."""
    name = "rope_parameters" if config.present("rope_parameters") else "rope_scaling"
    section = config.section(name)
    theta = config.number("rope_theta", default=10000.0)
    if section is None:
        return Rope(theta, head_dim)
    theta = section.number("rope_theta", default=theta)
    key = "rope_type" if section.present("rope_type") else "type"
    kind = section.text(key, default="default")
    if kind == "default":
        return Rope(theta, head_dim)
    if kind != "llama3":
        raise section.refuse(key, "only the rope types default and llama3 can be exported")
    low, high = section.number("low_freq_factor"), section.number("high_freq_factor")
    if low >= high:
        raise section.wrong("low_freq_factor", f"less than high_freq_factor {high:g}")
    scaling = Llama3Scaling(
        factor=section.number("factor"),
        low_freq_factor=low,
        high_freq_factor=high,
        original_context_length=section.integer("original_max_position_embeddings"),
    )
    return Rope(theta, head_dim, scaling)


def decoder_from_gguf(
    keys: Fields, name: str, tensors: Collection[str], vocab_size: int, factors: tuple[float, ...]
) -> Architecture:
    """The GGUF keys that all families here share; biases and tying by the tensors there are."""
    _refuse_keys(keys, name)
    hidden = keys.integer(f"{name}.embedding_length")
    heads = keys.integer(f"{name}.attention.head_count")
    head_dim = keys.integer(f"{name}.attention.key_length", default=max(hidden // heads, 1))
    rope_dim = keys.integer(f"{name}.rope.dimension_count", default=head_dim)
    if rope_dim != head_dim:
        raise keys.refuse(f"{name}.rope.dimension_count", "partial rotation cannot be exported")
    if factors and (len(factors) != head_dim // 2 or not all(0 < f < 1e30 for f in factors)):
        raise SourceError(
            f"rope_freqs.weight of {keys.where} is not {head_dim // 2} positive numbers; "
            "the file is damaged"
        )
    return _checked(
        keys,
        Architecture(
            name=name,
            vocab_size=vocab_size,
            hidden_size=hidden,
            intermediate_size=keys.integer(f"{name}.feed_forward_length"),
            layers=keys.integer(f"{name}.block_count", high=MAX_LAYERS),
            heads=heads,
            kv_heads=keys.integer(f"{name}.attention.head_count_kv", default=heads),
            head_dim=head_dim,
            context_length=keys.integer(f"{name}.context_length"),
            norm_eps=keys.number(f"{name}.attention.layer_norm_rms_epsilon"),
            rope=Rope(
                theta=keys.number(f"{name}.rope.freq_base", default=10000.0),
                dim=head_dim,
                frequency_factors=factors,
            ),
            qkv_bias="blk.0.attn_q.bias" in tensors,
            output_bias="blk.0.attn_output.bias" in tensors,
            mlp_bias="blk.0.ffn_gate.bias" in tensors,
            tied_embeddings="output.weight" not in tensors,
        ),
    )


def _refuse_config(config: Fields) -> None:
    if config.text("hidden_act", default="silu") != "silu":
        raise config.refuse("hidden_act", "only silu can be exported")
    if config.present("quantization_config"):
        raise config.refuse(
            "quantization_config", "the weights are already quantized in a way not read here"
        )
    if config.present("partial_rotary_factor") and config.number("partial_rotary_factor") != 1:
        raise config.refuse("partial_rotary_factor", "partial rotation cannot be exported")
    if config.present("sliding_window") and config.flag("use_sliding_window", default=True):
        raise config.refuse("sliding_window", "windowed attention cannot be exported")
    if config.present("layer_types") and set(config.texts("layer_types")) - {"full_attention"}:
        raise config.refuse("layer_types", "only full attention can be exported")


def _refuse_keys(keys: Fields, name: str) -> None:
    scaling = f"{name}.rope.scaling.type"
    if keys.text(scaling, default="none") != "none":
        raise keys.refuse(scaling, "this rope scaling cannot be exported")
    for key in ("expert_count", "attention.sliding_window"):
        if keys.integer(f"{name}.{key}", default=0, low=0):
            raise keys.refuse(f"{name}.{key}", "such layers cannot be exported")
    key_length = f"{name}.attention.key_length"
    if keys.values.get(key_length) != keys.values.get(f"{name}.attention.value_length"):
        raise keys.refuse(key_length, "keys and values must have one length")


def _checked(fields: Fields, architecture: Architecture) -> Architecture:
    heads, kv_heads, head_dim = architecture.heads, architecture.kv_heads, architecture.head_dim
    if heads % kv_heads:
        raise SourceError(
            f"{fields.where} has {heads} attention heads and {kv_heads} for keys and values; "
            "the first must be a multiple of the second"
        )
    if head_dim % 2:
        raise SourceError(f"{fields.where} has heads of {head_dim} values; they must be even")
    return architecture
