"""The unquantized model, layer by layer in numpy: what a package is proved against.

Independent of the emitter on purpose, and never more than one layer in memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ondevice.export import rotary
from ondevice.export.architecture import EMBEDDING, FINAL_NORM, HEAD, Architecture, layer_tensor
from ondevice.export.source import Source
from ondevice.runtime.device import usable_cores

_Floats = NDArray[np.float32]
_CHUNK = 1 << 23  # values of an embedding or output matrix read at a time by a thread
_READERS = 4  # threads at most that read: each holds a chunk or a matrix

# Called with the name of a matrix and its inputs, float32 (tokens, columns).
Observe = Callable[[str, _Floats], None]


def reference_hidden(
    source: Source,
    windows: Sequence[Sequence[int]],
    on_layer: Callable[[int], None] | None = None,
) -> list[_Floats]:
    """Final hidden states after the last norm, float32 (tokens, hidden), one per window.

    Each window of token ids starts from an empty KV cache. The weights of each layer are read
    once for all windows.
    """
    states = embed(source, windows)
    for layer in range(source.architecture.layers):
        if on_layer is not None:
            on_layer(layer)
        states = Layer(source, layer).apply(states)
    return final_norm(source, states)


def embed(source: Source, windows: Sequence[Sequence[int]]) -> list[_Floats]:
    """Embeddings of the tokens of each window, float32 (tokens, hidden)."""
    arch = source.architecture
    ids = np.unique(np.concatenate([np.asarray(window, np.int64) for window in windows]))
    rows = np.empty((len(ids), arch.hidden_size), np.float32)
    for part, matrix in _row_chunks(source, EMBEDDING):
        inside = (ids >= part.start) & (ids < part.stop)
        rows[inside] = matrix[ids[inside] - part.start]
    rows *= np.float32(arch.embedding_scale)
    return [rows[np.searchsorted(ids, window)] for window in windows]


def final_norm(source: Source, states: Sequence[_Floats]) -> list[_Floats]:
    weight = source.read(FINAL_NORM)
    return [_rms_norm(state, weight, source.architecture.norm_eps) for state in states]


def logits(source: Source, hidden: _Floats) -> _Floats:
    """Logits float32 (tokens, vocab) of final hidden states (tokens, hidden).

    The output matrix is read in parts: it may be larger than memory allows.
    """
    arch = source.architecture
    found = np.empty((len(hidden), arch.vocab_size), np.float32)
    for part, matrix in _row_chunks(source, EMBEDDING if arch.tied_embeddings else HEAD):
        np.matmul(hidden, matrix.T, out=found[:, part])
    _soft_cap(found, arch.logit_softcap)
    return found


def _row_chunks(source: Source, name: str) -> Iterator[tuple[slice, _Floats]]:
    rows, columns = source.architecture.tensor_shapes()[name]
    step = max(1, _CHUNK // columns)
    parts = [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
    with _readers() as pool:
        for first in range(0, len(parts), _READERS):
            some = parts[first : first + _READERS]
            yield from zip(some, pool.map(lambda part: source.read(name, part), some), strict=True)


def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_READERS, usable_cores()), "reading")


class Layer:
    """One layer of a decoder, its weights in memory."""

    def __init__(self, source: Source, layer: int) -> None:
        self._arch: Architecture = source.architecture
        self._index = layer
        self._prefix = layer_tensor(layer, "")
        names = [n for n in self._arch.tensor_shapes() if n.startswith(self._prefix)]
        stems = [name.removeprefix(self._prefix) for name in names]
        with _readers() as pool:
            self._weights = dict(zip(stems, pool.map(source.read, names), strict=True))

    def weight(self, name: str) -> _Floats:
        """A matrix (out, in) of this layer by its full name."""
        return self._weights[name.removeprefix(self._prefix)]

    def replaced(self, name: str, values: _Floats) -> Layer:
        """This layer with another matrix in place of one."""
        other = copy.copy(self)
        other._weights = self._weights | {name.removeprefix(self._prefix): values}
        return other

    def apply(self, states: Sequence[_Floats], observe: Observe | None = None) -> list[_Floats]:
        """Hidden states (tokens, hidden) after this layer, each a sequence from position 0.

        `observe` sees the inputs of every matrix, one sequence after the other.
        """
        return [self._apply(state, observe or (lambda name, inputs: None)) for state in states]

    def _apply(self, hidden: _Floats, observe: Observe) -> _Floats:
        post_norms = self._arch.post_norms
        update = self._attend(self._norm("input_layernorm", hidden), observe)
        if post_norms:
            update = self._norm("post_attention_layernorm", update)
        hidden = hidden + update
        update = self._mlp(self._norm(self._arch.mlp_norm, hidden), observe)
        if post_norms:
            update = self._norm("post_feedforward_layernorm", update)
        return hidden + update

    def _attend(self, normed: _Floats, observe: Observe) -> _Floats:
        arch = self._arch
        query, key, value = (
            _heads(self._linear(f"self_attn.{part}_proj", normed, observe), count)
            for part, count in (("q", arch.heads), ("k", arch.kv_heads), ("v", arch.kv_heads))
        )
        if arch.qk_norm:
            query = self._norm("self_attn.q_norm", query)
            key = self._norm("self_attn.k_norm", key)
        rope = arch.rope_of(self._index)
        if rope is not None:
            cos, sin = rotary.tables(rope, len(normed))
            query, key = _rotate(query, cos, sin), _rotate(key, cos, sin)
        context = _attention(arch, query, key, value, arch.window_of(self._index))
        return self._linear("self_attn.o_proj", context, observe)

    def _mlp(self, normed: _Floats, observe: Observe) -> _Floats:
        gate = self._linear("mlp.gate_proj", normed, observe)
        activate = _silu if self._arch.activation == "silu" else _gelu_tanh
        gated = activate(gate) * self._linear("mlp.up_proj", normed, observe)
        return self._linear("mlp.down_proj", gated, observe)

    def _norm(self, name: str, values: _Floats) -> _Floats:
        return _rms_norm(values, self._weights[f"{name}.weight"], self._arch.norm_eps)

    def _linear(self, name: str, values: _Floats, observe: Observe) -> _Floats:
        observe(f"{self._prefix}{name}.weight", values)
        product: _Floats = values @ self._weights[f"{name}.weight"].T
        bias = self._weights.get(f"{name}.bias")
        return product if bias is None else product + bias


def _attention(
    arch: Architecture, query: _Floats, key: _Floats, value: _Floats, window: int
) -> _Floats:
    """Causal grouped-query attention (Ainslie et al., 2023): (heads, tokens, head_dim) each."""
    heads, tokens, width = query.shape
    unseen = ~np.tri(tokens, dtype=bool)
    if window:
        unseen |= np.tri(tokens, k=-window, dtype=bool)
    contexts = []
    for head in range(heads):
        group = head * key.shape[0] // heads
        scores = query[head] @ key[group].T * np.float32(arch.score_scale)
        _soft_cap(scores, arch.attention_softcap)
        scores[unseen] = -np.inf
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        contexts.append(weights / weights.sum(axis=1, keepdims=True) @ value[group])
    return np.stack(contexts, axis=1).reshape(tokens, heads * width)


def _heads(values: _Floats, heads: int) -> _Floats:
    return values.reshape(values.shape[0], heads, -1).transpose(1, 0, 2)


def _rotate(values: _Floats, cos: _Floats, sin: _Floats) -> _Floats:
    """Rotate the halves of each head's first dimensions against each other (Su et al., 2021)."""
    half = cos.shape[1]
    low, high, rest = values[..., :half], values[..., half : 2 * half], values[..., 2 * half :]
    return np.concatenate([low * cos - high * sin, high * cos + low * sin, rest], axis=-1)


def _rms_norm(values: _Floats, weight: _Floats, eps: float) -> _Floats:
    """Zhang and Sennrich, 2019."""
    mean = np.mean(np.square(values), axis=-1, keepdims=True)
    normed: _Floats = values / np.sqrt(mean + np.float32(eps)) * weight
    return normed


def _soft_cap(values: _Floats, cap: float) -> None:
    """In place: logits of a large vocabulary are hundreds of megabytes."""
    if cap:
        values /= np.float32(cap)
        np.tanh(values, out=values)
        values *= np.float32(cap)


def _silu(values: _Floats) -> _Floats:
    with np.errstate(over="ignore"):  # exp of a very negative gate: silu is 0 there
        activated: _Floats = values / (1 + np.exp(-values))
    return activated


def _gelu_tanh(values: _Floats) -> _Floats:
    """The tanh form of GELU (Hendrycks and Gimpel, 2016)."""
    inner = np.float32((2 / np.pi) ** 0.5) * (values + np.float32(0.044715) * values**3)
    activated: _Floats = values * (1 + np.tanh(inner)) * np.float32(0.5)
    return activated
