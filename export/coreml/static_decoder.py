"""The decoder in the Neural Engine's layout: every shape is fixed, every product a 1x1 convolution.

The residual stream is (1, channels, 1, tokens), as Apple's guide to transformers on that
processor has it ("Deploying Transformers on the Apple Neural Engine", 2022).
"""

from __future__ import annotations

from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb  # noqa: N813
from coremltools.converters.mil.mil import types

from ondevice.errors import ExportError
from ondevice.export.architecture import EMBEDDING, FINAL_NORM, HEAD, Architecture, layer_tensor
from ondevice.export.coreml.decoder import (
    HIDDEN,
    LAST_HIDDEN,
    OPSET,
    Decoder,
    Function,
    cache_shape,
    capped,
)
from ondevice.export.coreml.weights import Weights

_MULTIPLE = 32  # of which sizes of states have to be (coremltools issue 2631)
_MOST_CHANNELS = 1 << 14  # that a convolution gives: larger ones do not run on the Neural Engine


def check_sizes(arch: Architecture, context: int) -> None:
    """Raise `ExportError` for a size that the Neural Engine's layout cannot have."""
    sizes = {
        "the hidden size": arch.hidden_size,
        "the intermediate size": arch.intermediate_size,
        "a head's width": arch.head_dim,
        "the vocabulary": arch.vocab_size,
        "the context": context,
    }
    for what, size in sizes.items():
        if size % _MULTIPLE:
            advice = (
                f"choose a --context that is one, such as {size + -size % _MULTIPLE}"
                if what == "the context"
                else "choose --target coreml-gpu"
            )
            raise ExportError(
                f"{what} of {size} is no multiple of {_MULTIPLE}, which --target coreml-ane "
                f"needs; {advice}"
            )


def build_static_program(
    arch: Architecture, weights: Weights, function: Function
) -> tuple[Any, Any]:
    """The MIL program of one function, and its inputs as `coremltools.convert` wants them.

    Inputs: `inputIds` int32 (1, tokens); `position` int32 (1,), of the first of them;
    `causalMask` float16 (1, 1, tokens, context), 0 where a token sees a position and very
    negative where not. States: as in `decoder.build_program`. Output of a function of one token:
    `logits` float16 (1, vocab, 1, 1); of one of several, which only fills the KV cache: `hidden`,
    float16 (1, hidden, 1, tokens).
    """
    count = function.tokens
    assert count is not None
    shapes = {"inputIds": (1, count), "causalMask": (1, 1, count, function.context)}
    cache = cache_shape(arch, function)

    @mb.program(  # type: ignore[untyped-decorator]
        input_specs=[
            mb.TensorSpec(shapes["inputIds"], dtype=types.int32),
            mb.TensorSpec((1,), dtype=types.int32),
            mb.TensorSpec(shapes["causalMask"], dtype=types.fp16),
            mb.StateTensorSpec(cache, dtype=types.fp16),
            mb.StateTensorSpec(cache, dtype=types.fp16),
        ],
        opset_version=OPSET,
    )
    def program(
        inputIds: Any, position: Any, causalMask: Any, keyCache: Any, valueCache: Any
    ) -> Any:
        return StaticDecoder(arch, weights, function).output(
            inputIds, position, causalMask, (keyCache, valueCache)
        )

    inputs = [
        ct.TensorType("inputIds", shape=shapes["inputIds"], dtype=np.int32),
        ct.TensorType("position", shape=(1,), dtype=np.int32),
        ct.TensorType("causalMask", shape=shapes["causalMask"], dtype=np.float16),
    ]
    return program, inputs


class StaticDecoder(Decoder):
    """Writes the operators of one function of a fixed number of tokens."""

    channels = 1
    channel_shape = (-1, 1, 1)

    def __init__(self, arch: Architecture, weights: Weights, function: Function) -> None:
        super().__init__(arch, weights, function.context)
        assert function.tokens is not None
        self._tokens = function.tokens
        self._shared = arch.heads // arch.kv_heads  # query heads to a KV head
        self._shared_masks: dict[int, Any] = {}

    def output(self, ids: Any, position: Any, mask: Any, states: tuple[Any, Any]) -> Any:
        """Logits of one token, or the last norm's output of several."""
        arch, weights = self._arch, self._weights
        before = mb.squeeze(x=position, axes=[0])
        self.start(mask, states, before, mb.add(x=before, y=self._tokens))
        embedded = mb.gather(x=weights.matrix(EMBEDDING), indices=ids, axis=0)
        embedded = mb.expand_dims(x=mb.transpose(x=embedded, perm=[0, 2, 1]), axes=[2])
        hidden = self.layers(embedded)
        if self._tokens > 1:
            return self.hidden_norm(hidden, FINAL_NORM, HIDDEN)
        last = self.hidden_norm(hidden, FINAL_NORM, LAST_HIDDEN)
        head = EMBEDDING if arch.tied_embeddings else HEAD
        parts = weights.convolutions(head, _MOST_CHANNELS)
        capping = bool(arch.logit_softcap)
        name = {} if capping else {"name": "logits"}
        if len(parts) == 1:
            scores = mb.conv(x=last, weight=parts[0], **name)
        else:
            scores = [mb.conv(x=last, weight=part) for part in parts]
            scores = mb.concat(values=scores, axis=1, **name)
        return capped(scores, arch.logit_softcap, "logits") if capping else scores

    def _linear(self, layer: int, name: str, values: Any) -> Any:
        matrix = layer_tensor(layer, f"{name}.weight")
        rows = self._weights.shapes[matrix][0]
        parts = self._weights.convolutions(matrix, rows)
        return mb.conv(x=values, weight=parts[0], **self._bias(layer, name))

    def _heads(self, values: Any, count: int) -> Any:
        shape = [1, count, self._arch.head_dim, self._tokens]
        return mb.transpose(x=mb.reshape(x=values, shape=shape), perm=[0, 1, 3, 2])

    def _side_by_side(self, values: Any) -> Any:
        shape = [1, self._arch.heads * self._arch.head_dim, 1, self._tokens]
        return mb.reshape(x=mb.transpose(x=values, perm=[0, 1, 3, 2]), shape=shape)

    def _filled(self, layer: int, cache: Any, end: Any) -> Any:
        _, heads, context, width = cache.shape
        return mb.slice_by_index(
            x=cache, begin=[layer, 0, 0, 0], end=[layer + 1, heads, context, width]
        )

    def _rows(self, table: Any, width: int) -> Any:
        begin = mb.concat(values=[self._before, 0], axis=0)
        return mb.slice_by_size(x=table, begin=begin, size=[self._tokens, width])

    def _distances(self) -> Any:
        rows = mb.add(x=np.arange(self._tokens, dtype=np.int32)[:, None], y=self._before)
        return mb.sub(x=rows, y=np.arange(self._context, dtype=np.int32))

    def _mask(self, window: int) -> Any:
        """A row for each query head that shares a KV head, and token."""
        if window not in self._shared_masks:
            mask = super()._mask(window)
            self._shared_masks[window] = mb.tile(x=mask, reps=[1, 1, self._shared, 1])
        return self._shared_masks[window]

    def _attention(self, query: Any, keys: Any, values: Any, mask: Any) -> Any:
        """Query heads that share a KV head are rows beside each other: no head is copied."""
        arch, width = self._arch, self._arch.head_dim
        rows = [1, arch.kv_heads, self._shared * self._tokens, width]
        context = self._weighed(mb.reshape(x=query, shape=rows), keys, values, mask)
        return mb.reshape(x=context, shape=[1, arch.heads, self._tokens, width])
