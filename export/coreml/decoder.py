"""A decoder as a MIL program: token ids and a mask in, logits out, the KV cache kept as state.

Everything is in half precision, which is what Core ML computes in on GPU and Neural Engine; the
norms are written so that squares do not overflow in it. docs/coreml.md describes inputs, states
and output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb  # noqa: N813
from coremltools.converters.mil.mil import types

from ondevice.export import rotary
from ondevice.export.architecture import (
    EMBEDDING,
    FINAL_NORM,
    HEAD,
    Architecture,
    Rope,
    layer_tensor,
)
from ondevice.export.coreml.weights import Weights, constant, half
from ondevice.runtime.coreml import MASKED

OPSET = ct.target.iOS18
# Values inside the program: after the last norm, of all tokens and of the last.
HIDDEN, LAST_HIDDEN = "hidden", "last_hidden"
_LEAST = 1e-3  # what norms divide by at least, so that its inverse fits half precision


@dataclass(frozen=True)
class Function:
    """One function of a package.

    tokens: run at a time; None is any number. context: positions of the KV cache.
    """

    name: str
    tokens: int | None
    context: int


def build_program(arch: Architecture, weights: Weights, function: Function) -> tuple[Any, Any]:
    """The MIL program of one function, and its inputs as `coremltools.convert` wants them.

    Inputs: `inputIds` int32 (1, tokens); `causalMask` float16 (1, 1, tokens, total), 0 where a
    token sees a position and very negative where not; total is the positions filled afterwards.
    States: `keyCache` and `valueCache`, float16 (layers, kv_heads, context, head_dim). Output:
    `logits` of the last token, float16 (1, 1, vocab).
    """
    total = ct.RangeDim(1, function.context, default=1)
    if function.tokens is None:
        tokens = ct.RangeDim(1, function.context, default=1)
        count = tokens.symbol
    else:
        tokens = count = function.tokens
    cache = cache_shape(arch, function)

    @mb.program(  # type: ignore[untyped-decorator]
        input_specs=[
            mb.TensorSpec((1, count), dtype=types.int32),
            mb.TensorSpec((1, 1, count, total.symbol), dtype=types.fp16),
            mb.StateTensorSpec(cache, dtype=types.fp16),
            mb.StateTensorSpec(cache, dtype=types.fp16),
        ],
        opset_version=OPSET,
    )
    def program(inputIds: Any, causalMask: Any, keyCache: Any, valueCache: Any) -> Any:
        return Decoder(arch, weights, function.context).logits(
            inputIds, causalMask, (keyCache, valueCache)
        )

    inputs = [
        ct.TensorType("inputIds", shape=(1, tokens), dtype=np.int32),
        ct.TensorType("causalMask", shape=(1, 1, tokens, total), dtype=np.float16),
    ]
    return program, inputs


def cache_shape(arch: Architecture, function: Function) -> tuple[int, int, int, int]:
    """Of keys, and of values."""
    return arch.layers, arch.kv_heads, function.context, arch.head_dim


class Decoder:
    """Writes the operators of one function, for any number of tokens.

    Residual stream: (1, tokens, channels).
    """

    channels = -1  # which axis of the residual stream they are
    channel_shape: tuple[int, ...] = (-1,)  # of a vector that is multiplied with it

    def __init__(self, arch: Architecture, weights: Weights, context: int) -> None:
        self._arch = arch
        self._weights = weights
        self._context = context
        self._masks: dict[int, Any] = {}
        self._tables: dict[str, tuple[Any, Any]] = {}

    def logits(self, ids: Any, mask: Any, states: tuple[Any, Any]) -> Any:
        arch = self._arch
        total = mb.gather(x=mb.shape(x=mask), indices=3, axis=0)
        before = mb.sub(x=total, y=mb.gather(x=mb.shape(x=ids), indices=1, axis=0))
        embedding = self._weights.matrix(EMBEDDING)
        self.start(mask, states, before, total)
        hidden = self.layers(mb.gather(x=embedding, indices=ids, axis=0))
        hidden = self.hidden_norm(hidden, FINAL_NORM, HIDDEN)
        last = mb.slice_by_index(
            x=hidden,
            begin=[0, -1, 0],
            end=[1, 0, arch.hidden_size],
            end_mask=[False, True, False],
            name=LAST_HIDDEN,
        )
        head = embedding if arch.tied_embeddings else self._weights.matrix(HEAD)
        if not arch.logit_softcap:
            return mb.linear(x=last, weight=head, name="logits")
        scores = mb.linear(x=last, weight=head)
        return capped(scores, arch.logit_softcap, "logits")

    def start(self, mask: Any, states: tuple[Any, Any], before: Any, total: Any) -> None:
        """Take the caller's mask, the states, and the positions where the tokens begin and end."""
        self._masks[0] = mask
        self._states = states
        self._caches = [mb.read_state(input=state) for state in states]
        self._before, self._total = before, total

    def layers(self, embedded: Any) -> Any:
        """The residual stream after all layers."""
        hidden = exactly_scaled(embedded, self._arch.embedding_scale)
        for layer in range(self._arch.layers):
            hidden = self._layer(layer, hidden)
        return hidden

    def _layer(self, layer: int, hidden: Any) -> Any:
        def norm(name: str, values: Any) -> Any:
            return self.hidden_norm(values, layer_tensor(layer, f"{name}.weight"))

        update = self._attend(layer, norm("input_layernorm", hidden))
        if self._arch.post_norms:
            update = norm("post_attention_layernorm", update)
        hidden = mb.add(x=hidden, y=update)
        update = self._mlp(layer, norm(self._arch.mlp_norm, hidden))
        if self._arch.post_norms:
            update = norm("post_feedforward_layernorm", update)
        return mb.add(x=hidden, y=update)

    def _mlp(self, layer: int, normed: Any) -> Any:
        gate = self._linear(layer, "mlp.gate_proj", normed)
        if self._arch.activation == "silu":
            gate = mb.silu(x=gate)
        else:
            gate = mb.gelu(x=gate, mode="TANH_APPROXIMATION")
        gated = mb.mul(x=gate, y=self._linear(layer, "mlp.up_proj", normed))
        return self._linear(layer, "mlp.down_proj", gated)

    def _attend(self, layer: int, normed: Any) -> Any:
        arch = self._arch
        query, key, value = (
            self._heads(self._linear(layer, f"self_attn.{part}_proj", normed), count)
            for part, count in (("q", arch.heads), ("k", arch.kv_heads), ("v", arch.kv_heads))
        )
        if arch.qk_norm:
            query = self._head_norm(query, layer_tensor(layer, "self_attn.q_norm.weight"))
            key = self._head_norm(key, layer_tensor(layer, "self_attn.k_norm.weight"))
        rope = arch.rope_of(layer)
        if rope is not None:
            query, key = self._rotate(query, rope), self._rotate(key, rope)
        keys, values = (self._cached(layer, part, new) for part, new in enumerate((key, value)))
        context = self._attention(query, keys, values, self._mask(arch.window_of(layer)))
        return self._linear(layer, "self_attn.o_proj", self._side_by_side(context))

    def _attention(self, query: Any, keys: Any, values: Any, mask: Any) -> Any:
        """Scaled dot-product attention, all of (1, heads, positions, head_dim)."""
        arch = self._arch
        keys, values = self._repeated(keys), self._repeated(values)
        if not arch.attention_softcap:
            # The operator scales by head_dim ** -0.5.
            query = exactly_scaled(query, arch.score_scale * arch.head_dim**0.5)
            return mb.scaled_dot_product_attention(
                query=query, key=keys, value=values, attn_mask=mask
            )
        return self._weighed(query, keys, values, mask)

    def _weighed(self, query: Any, keys: Any, values: Any, mask: Any) -> Any:
        """Attention in single operators, with the scale and the cap of the architecture."""
        scale, cap = self._arch.score_scale, self._arch.attention_softcap
        if not cap:  # before the product, which overflows half precision the later
            query = exactly_scaled(query, scale)
        scores = mb.matmul(x=query, y=keys, transpose_y=True)
        scores = capped(scores, cap, scale=scale) if cap else scores
        shares = mb.softmax(x=mb.add(x=scores, y=mask), axis=-1)
        return mb.matmul(x=shares, y=values)

    def _cached(self, layer: int, part: int, new: Any) -> Any:
        """Put new keys or values (1, kv_heads, tokens, head_dim) in the cache; all of the layer."""
        heads, width = self._arch.kv_heads, self._arch.head_dim
        begin = mb.concat(values=[layer, 0, self._before, 0], axis=0)
        end = mb.concat(values=[layer + 1, heads, self._total, width], axis=0)
        whole = mb.slice_update(x=self._caches[part], update=new, begin=begin, end=end)
        whole = mb.coreml_update_state(state=self._states[part], value=whole)
        self._caches[part] = whole
        return self._filled(layer, whole, end)

    def _filled(self, layer: int, cache: Any, end: Any) -> Any:
        """What a layer attends to."""
        return mb.slice_by_index(x=cache, begin=[layer, 0, 0, 0], end=end)

    def _repeated(self, values: Any) -> Any:
        """Each KV head as often as query heads share it (Ainslie et al., 2023)."""
        arch = self._arch
        group = arch.heads // arch.kv_heads
        if group == 1:
            return values
        values = mb.expand_dims(x=values, axes=[2])
        values = mb.tile(x=values, reps=[1, 1, group, 1, 1])
        return mb.reshape(x=values, shape=[1, arch.heads, -1, arch.head_dim])

    def _mask(self, window: int) -> Any:
        """The caller's mask, and what lies `window` tokens back or farther masked too."""
        if window not in self._masks:
            far = mb.greater_equal(x=self._distances(), y=window)
            share = mb.cast(x=far, dtype="fp16")
            hidden = mb.mul(x=share, y=np.float16(MASKED))
            self._masks[window] = mb.add(x=self._masks[0], y=hidden)
        return self._masks[window]

    def _distances(self) -> Any:
        """How far before each token (row) each position (column) lies."""
        columns = mb.range_1d(end=self._total, start=0, step=1)
        rows = mb.range_1d(end=self._total, start=self._before, step=1)
        return mb.sub(x=mb.expand_dims(x=rows, axes=[1]), y=columns)

    def _rotate(self, values: Any, rope: Rope) -> Any:
        """Rotate (1, heads, tokens, head_dim), halves against each other (Su et al., 2021)."""
        cos, sin = self._angles(rope)
        half_width, rest = rope.dim // 2, self._arch.head_dim - rope.dim
        sizes = [half_width, half_width] + ([rest] if rest else [])
        low, high, *passed = mb.split(x=values, split_sizes=sizes, axis=-1)
        turned = [
            mb.sub(x=mb.mul(x=low, y=cos), y=mb.mul(x=high, y=sin)),
            mb.add(x=mb.mul(x=high, y=cos), y=mb.mul(x=low, y=sin)),
        ]
        return mb.concat(values=[*turned, *passed], axis=-1)

    def _angles(self, rope: Rope) -> tuple[Any, Any]:
        """Cosines and sines (tokens, dim / 2) of the positions of the tokens."""
        name = "rotary" if rope == self._arch.rope else "local_rotary"
        if name not in self._tables:
            cos, sin = (
                self._rows(constant(half(table, part), part), rope.dim // 2)
                for part, table in zip(
                    (f"{name}_cos", f"{name}_sin"),
                    rotary.tables(rope, self._context),
                    strict=True,
                )
            )
            self._tables[name] = cos, sin
        return self._tables[name]

    def _rows(self, table: Any, width: int) -> Any:
        """Of a table with a row for each position, those of the tokens."""
        begin = mb.concat(values=[self._before, 0], axis=0)
        end = mb.concat(values=[self._total, width], axis=0)
        return mb.slice_by_index(x=table, begin=begin, end=end)

    def _heads(self, values: Any, count: int) -> Any:
        """(1, tokens, count * head_dim) as (1, count, tokens, head_dim)."""
        values = mb.reshape(x=values, shape=[1, -1, count, self._arch.head_dim])
        return mb.transpose(x=values, perm=[0, 2, 1, 3])

    def _side_by_side(self, values: Any) -> Any:
        """(1, heads, tokens, head_dim) as channels of the residual stream."""
        values = mb.transpose(x=values, perm=[0, 2, 1, 3])
        return mb.reshape(x=values, shape=[1, -1, self._arch.heads * self._arch.head_dim])

    def _linear(self, layer: int, name: str, values: Any) -> Any:
        matrix = self._weights.matrix(layer_tensor(layer, f"{name}.weight"))
        return mb.linear(x=values, weight=matrix, **self._bias(layer, name))

    def _bias(self, layer: int, name: str) -> dict[str, Any]:
        bias = layer_tensor(layer, f"{name}.bias")
        return {"bias": self._weights.vector(bias)} if bias in self._weights.shapes else {}

    def hidden_norm(self, values: Any, weight: str, name: str | None = None) -> Any:
        """The norm of the residual stream."""
        vector = self._weights.vector(weight, self.channel_shape)
        given = {} if name is None else {"name": name}
        return mb.mul(x=self._normed(values, self.channels), y=vector, **given)

    def _head_norm(self, values: Any, weight: str) -> Any:
        """The norm over each head (1, heads, tokens, head_dim)."""
        return mb.mul(x=self._normed(values, -1), y=self._weights.vector(weight))

    def _normed(self, values: Any, axis: int) -> Any:
        """RMS norm (Zhang and Sennrich, 2019), the mean taken of values over the largest of them.

        Squares of half-precision values above 255 overflow; the epsilon is divided alike.
        """
        largest = mb.reduce_max(x=mb.abs(x=values), axes=[axis], keep_dims=True)
        largest = mb.maximum(x=largest, y=np.float16(_LEAST))
        scaled = mb.real_div(x=values, y=largest)
        epsilon = mb.real_div(x=np.float16(self._arch.norm_eps**0.5), y=largest)
        mean = mb.reduce_mean(x=mb.mul(x=scaled, y=scaled), axes=[axis], keep_dims=True)
        shifted = mb.add(x=mean, y=mb.mul(x=epsilon, y=epsilon))
        share = mb.real_div(x=mb.rsqrt(x=shifted, epsilon=np.float16(0)), y=largest)
        return mb.mul(x=values, y=share)


def exactly_scaled(values: Any, factor: float) -> Any:
    """Multiplied by a number that half precision does not hold: by two that add up to it."""
    if factor == 1:
        return values
    high = np.float16(factor)
    scaled = mb.mul(x=values, y=high)
    low = np.float16(factor - float(high))
    return mb.add(x=scaled, y=mb.mul(x=values, y=low)) if low else scaled


def capped(values: Any, cap: float, name: str | None = None, scale: float = 1.0) -> Any:
    """c tanh(s x / c)."""
    given = {} if name is None else {"name": name}
    bounded = mb.tanh(x=exactly_scaled(values, scale / cap))
    return mb.mul(x=bounded, y=np.float16(cap), **given)
