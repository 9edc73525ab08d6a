"""The parts of config.json that the families share.

Meanings and defaults are those of transformers 5.24. Knows nothing about files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from ondevice.errors import SourceError
from ondevice.export.architecture import Architecture, Rope
from ondevice.export.architectures.config_rope import rope_from_config
from ondevice.export.architectures.fields import Fields

MAX_LAYERS = 1 << 10  # more are not believed
_ACTIVATIONS: dict[str, Literal["silu", "gelu_tanh"]] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_FULL, _SLIDING = "full_attention", "sliding_attention"


def decoder_from_config(
    config: Fields, name: str, rope: Rope | None = None, activation: str = "hidden_act"
) -> Architecture:
    """What every decoder has; no windows, biases or norms that Llama has not.

    `rope`: where it is not read as `rope_from_config` does. `activation`: the field that names
    the gate's. Raises `SourceError` for what cannot be exported.
    """
    if config.present("quantization_config"):
        raise config.refuse(
            "quantization_config", "the weights are already quantized in a way not read here"
        )
    gate = config.or_else(hidden_act="silu").text(activation)
    if gate not in _ACTIVATIONS:
        raise config.refuse(activation, f"only {', '.join(_ACTIVATIONS)} can be exported")
    heads = config.integer("num_attention_heads")
    return checked(
        config,
        Architecture(
            name=name,
            vocab_size=config.integer("vocab_size"),
            hidden_size=config.integer("hidden_size"),
            intermediate_size=config.integer("intermediate_size"),
            layers=config.integer("num_hidden_layers", high=MAX_LAYERS),
            heads=heads,
            kv_heads=config.integer("num_key_value_heads", default=heads),
            head_dim=head_dim(config),
            context_length=config.integer("max_position_embeddings", default=2048),
            norm_eps=config.number("rms_norm_eps", default=1e-6),
            rope=rope or rope_from_config(config, head_dim(config)),
            tied_embeddings=config.flag("tie_word_embeddings"),
            activation=_ACTIVATIONS[gate],
        ),
    )


def head_dim(config: Fields) -> int:
    width = config.integer("hidden_size") // config.integer("num_attention_heads")
    return config.integer("head_dim", default=max(width, 1))


def with_biases(architecture: Architecture, config: Fields, mlp: bool = False) -> Architecture:
    """`attention_bias` is one for queries, keys, values and output; `mlp_bias` where `mlp`."""
    bias = config.flag("attention_bias")
    mlp_bias = mlp and config.flag("mlp_bias")
    return replace(architecture, qkv_bias=bias, output_bias=bias, mlp_bias=mlp_bias)


def with_windows(
    architecture: Architecture, config: Fields, by_default: Callable[[int], bool]
) -> Architecture:
    """`sliding_window` on the layers that `layer_types` names, or else `by_default` of a layer."""
    layers = range(architecture.layers)
    windowed = tuple(by_default(layer) for layer in layers)
    if config.present("layer_types"):
        types = config.texts("layer_types")
        if len(types) != len(layers) or set(types) - {_FULL, _SLIDING}:
            raise config.wrong("layer_types", f"{_FULL} or {_SLIDING} for each layer")
        windowed = tuple(kind == _SLIDING for kind in types)
    window = config.integer("sliding_window") if any(windowed) else 0
    return windows(architecture, window, windowed)


def windows(architecture: Architecture, window: int, windowed: tuple[bool, ...]) -> Architecture:
    """The decoder with windows; those that no context outgrows are none.

    Where windowed layers have a rotary embedding of their own, they stay windowed.
    """
    if not any(windowed):
        return replace(architecture, local_rope=None)
    if window >= architecture.context_length and architecture.local_rope is None:
        return architecture
    return replace(architecture, window=window, windowed=windowed)


def with_optional_windows(
    architecture: Architecture, config: Fields, by_default: Callable[[int], bool]
) -> Architecture:
    """`with_windows` where `use_sliding_window` is set."""
    if not config.flag("use_sliding_window"):
        values = {**config.values, "sliding_window": None}
        return with_windows(architecture, replace(config, values=values), lambda layer: False)
    return with_windows(architecture, config, by_default)


def without_windows(architecture: Architecture, config: Fields) -> Architecture:
    """Raises `SourceError` for a window in a family that has none."""
    for name in ("sliding_window", "layer_types"):
        if config.present(name) and config.value(name) != [_FULL] * architecture.layers:
            raise config.refuse(name, f"windowed attention is no part of {architecture.name}")
    return architecture


def checked(fields: Fields, architecture: Architecture) -> Architecture:
    """The decoder if its numbers fit together; raises `SourceError`."""
    heads, kv_heads, width = architecture.heads, architecture.kv_heads, architecture.head_dim
    if heads % kv_heads:
        raise SourceError(
            f"{fields.where} has {heads} attention heads and {kv_heads} for keys and values; "
            "the first must be a multiple of the second"
        )
    if width % 2:
        raise SourceError(f"{fields.where} has heads of {width} values; they must be even")
    return architecture
