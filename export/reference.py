"""The unquantized model, layer by layer in numpy: what a package is proved against.

Independent of the emitter on purpose, and never more than one layer in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ondevice.export import rotary
from ondevice.export.architecture import EMBEDDING, FINAL_NORM, HEAD, Architecture, layer_tensor
from ondevice.export.source import Source

_Floats = NDArray[np.float32]


def reference_hidden(
    source: Source,
    windows: Sequence[Sequence[int]],
    on_layer: Callable[[int], None] | None = None,
) -> list[_Floats]:
    """Final hidden states after the last norm, float32 (tokens, hidden), one per window.

    Each window of token ids starts from an empty KV cache. The weights of each layer are read
    once for all windows.
    """
    arch = source.architecture
    embedding = source.read(EMBEDDING)
    states = [embedding[np.asarray(window, np.int64)] for window in windows]
    del embedding
    cos, sin = rotary.tables(arch.rope, max(len(window) for window in windows))
    for layer in range(arch.layers):
        if on_layer is not None:
            on_layer(layer)
        weights = _Layer(source, layer)
        states = [_apply_layer(arch, weights, state, cos, sin) for state in states]
    norm = source.read(FINAL_NORM)
    return [_rms_norm(state, norm, arch.norm_eps) for state in states]


def output_matrix(source: Source) -> _Floats:
    """The matrix of the logits, float32 (vocab, hidden): logits = hidden @ matrix.T."""
    return source.read(EMBEDDING if source.architecture.tied_embeddings else HEAD)


class _Layer:
    """The weights of one layer."""

    def __init__(self, source: Source, layer: int) -> None:
        prefix = layer_tensor(layer, "")
        names = [n for n in source.architecture.tensor_shapes() if n.startswith(prefix)]
        self._weights = {name.removeprefix(prefix): source.read(name) for name in names}

    def norm(self, name: str) -> _Floats:
        return self._weights[f"{name}.weight"]

    def linear(self, name: str, values: _Floats) -> _Floats:
        product = values @ self._weights[f"{name}.weight"].T
        bias = self._weights.get(f"{name}.bias")
        return product if bias is None else product + bias


def _apply_layer(
    arch: Architecture, layer: _Layer, hidden: _Floats, cos: _Floats, sin: _Floats
) -> _Floats:
    normed = _rms_norm(hidden, layer.norm("input_layernorm"), arch.norm_eps)
    query, key, value = (layer.linear(f"self_attn.{part}_proj", normed) for part in "qkv")
    context = _attention(
        _rotate(_heads(query, arch.heads), cos, sin),
        _rotate(_heads(key, arch.kv_heads), cos, sin),
        _heads(value, arch.kv_heads),
    )
    hidden = hidden + layer.linear("self_attn.o_proj", context)
    normed = _rms_norm(hidden, layer.norm("post_attention_layernorm"), arch.norm_eps)
    gate = layer.linear("mlp.gate_proj", normed)
    with np.errstate(over="ignore"):  # exp of a very negative gate: silu is 0 there
        gated = gate / (1 + np.exp(-gate)) * layer.linear("mlp.up_proj", normed)
    return hidden + layer.linear("mlp.down_proj", gated)


def _attention(query: _Floats, key: _Floats, value: _Floats) -> _Floats:
    """Causal grouped-query attention (Ainslie et al., 2023): (heads, tokens, head_dim) each."""
    heads, tokens, width = query.shape
    future = np.triu(np.ones((tokens, tokens), bool), 1)
    contexts = []
    for head in range(heads):
        group = head * key.shape[0] // heads
        scores = query[head] @ key[group].T / np.float32(width**0.5)
        scores[future] = -np.inf
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        contexts.append(weights / weights.sum(axis=1, keepdims=True) @ value[group])
    return np.stack(contexts, axis=1).reshape(tokens, heads * width)


def _heads(values: _Floats, heads: int) -> _Floats:
    return values.reshape(values.shape[0], heads, -1).transpose(1, 0, 2)


def _rotate(values: _Floats, cos: _Floats, sin: _Floats) -> _Floats:
    """Rotate the two halves of each head against each other (Su et al., 2021)."""
    tokens, half = values.shape[1], cos.shape[1]
    cos, sin = cos[:tokens], sin[:tokens]
    low, high = values[..., :half], values[..., half:]
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def _rms_norm(values: _Floats, weight: _Floats, eps: float) -> _Floats:
    """Zhang and Sennrich, 2019."""
    mean = np.mean(np.square(values), axis=-1, keepdims=True)
    normed: _Floats = values / np.sqrt(mean + np.float32(eps)) * weight
    return normed
