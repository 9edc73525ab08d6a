"""What a decoder is: one small description that sources fill and emitters read.

Knows nothing about files, quantization or graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's stretching of low rotary frequencies (Grattafiori et al., 2024)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context_length: int


@dataclass(frozen=True)
class LinearScaling:
    """Positions divided by a factor (Chen et al., 2023)."""

    factor: float


@dataclass(frozen=True)
class LongRope:
    """LongRoPE (Ding et al., 2024), as Phi-3 has it: two sets of factors on the frequencies.

    `short_factors` and `long_factors`, shape (dim / 2,), divide the inverse frequencies: the
    short ones while the whole sequence has at most `original_context_length` tokens, the long
    ones for every position of a longer one. `attention_factor` multiplies cosines and sines.
    """

    short_factors: tuple[float, ...]
    long_factors: tuple[float, ...]
    original_context_length: int
    attention_factor: float


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding (Su et al., 2021), halves rotated against each other.

    `dim` of a head's dimensions, the first ones, are rotated; the others pass.
    `frequency_factors` divide the inverse frequencies (GGUF's `rope_freqs.weight`);
    shape (dim / 2,), empty where there are none.
    """

    theta: float
    dim: int
    scaling: Llama3Scaling | LinearScaling | LongRope | None = None
    frequency_factors: tuple[float, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """A decoder-only transformer with RMS norms, grouped-query attention and a gated MLP.

    window: tokens that a position of a windowed layer sees, itself included.
    windowed: whether each layer is windowed, shape (layers,); empty where none is.
    local_rope: the rotary embedding of windowed layers where it is not `rope` (Gemma 3).
    unrotated: layers without rotary embedding (SmolLM3).
    qk_norm: an RMS norm over each head of queries and keys before they are rotated (Qwen3).
    post_norms: a norm after attention and after the MLP too, before each sum (Gemma 2).
    activation: of the gate, `silu` or `gelu_tanh` (Hendrycks and Gimpel, 2016).
    embedding_scale: what token embeddings are multiplied by.
    attention_scale: what q k^T is multiplied by; None is head_dim ** -0.5.
    attention_softcap, logit_softcap: c in c tanh(x / c) on attention scores and logits; 0 is none.

    Norm weights are what the normed values are multiplied by: families that store the weight
    less one (Gemma) have it added when it is read.
    """

    name: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context_length: int
    norm_eps: float
    rope: Rope
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    tied_embeddings: bool = False
    window: int = 0
    windowed: tuple[bool, ...] = ()
    local_rope: Rope | None = None
    unrotated: frozenset[int] = frozenset()
    qk_norm: bool = False
    post_norms: bool = False
    activation: Literal["silu", "gelu_tanh"] = "silu"
    embedding_scale: float = 1.0
    attention_scale: float | None = None
    attention_softcap: float = 0.0
    logit_softcap: float = 0.0

    def window_of(self, layer: int) -> int:
        """Tokens that a position of this layer sees, itself included; 0 is all before it."""
        return self.window if self.windowed and self.windowed[layer] else 0

    def rope_of(self, layer: int) -> Rope | None:
        """The rotary embedding of this layer, None where it has none."""
        if layer in self.unrotated:
            return None
        return self.local_rope if self.local_rope and self.window_of(layer) else self.rope

    @property
    def rope_switch(self) -> int | None:
        """The sequence length above which LongRoPE turns to its long factors.

        None where one set of factors does for every length.
        """
        scaling = self.rope.scaling
        if not isinstance(scaling, LongRope):
            return None
        original = scaling.original_context_length
        return original if original < self.context_length else None

    @property
    def score_scale(self) -> float:
        """What q k^T is multiplied by."""
        return self.head_dim**-0.5 if self.attention_scale is None else self.attention_scale

    @property
    def mlp_norm(self) -> str:
        """The name, in a layer, of the norm before the MLP."""
        return "pre_feedforward_layernorm" if self.post_norms else "post_attention_layernorm"

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight the decoder needs, with its (out, in) shape.

        Names are Hugging Face's for Llama, Gemma 2 and Qwen3. Families that store fused weights
        (Phi-3) cut them when they are read.
        """
        shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (self.vocab_size, self.hidden_size)}
        for layer in range(self.layers):
            parts = self._norm_shapes() | self._attention_shapes() | self._mlp_shapes()
            shapes |= {layer_tensor(layer, name): shape for name, shape in parts.items()}
        shapes[FINAL_NORM] = (self.hidden_size,)
        if not self.tied_embeddings:
            shapes[HEAD] = (self.vocab_size, self.hidden_size)
        return shapes

    def _norm_shapes(self) -> dict[str, tuple[int, ...]]:
        names = ["input_layernorm", "post_attention_layernorm"]
        if self.post_norms:
            names += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
        shapes: dict[str, tuple[int, ...]] = {f"{n}.weight": (self.hidden_size,) for n in names}
        if self.qk_norm:
            shapes |= {f"self_attn.{part}_norm.weight": (self.head_dim,) for part in "qk"}
        return shapes

    def _attention_shapes(self) -> dict[str, tuple[int, ...]]:
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {}
        for part, rows in (("q", q), ("k", kv), ("v", kv)):
            shapes[f"self_attn.{part}_proj.weight"] = (rows, self.hidden_size)
            if self.qkv_bias:
                shapes[f"self_attn.{part}_proj.bias"] = (rows,)
        shapes["self_attn.o_proj.weight"] = (self.hidden_size, q)
        if self.output_bias:
            shapes["self_attn.o_proj.bias"] = (self.hidden_size,)
        return shapes

    def _mlp_shapes(self) -> dict[str, tuple[int, ...]]:
        hidden, inner = self.hidden_size, self.intermediate_size
        shapes: dict[str, tuple[int, ...]] = {}
        for part, rows, columns in (
            ("gate", inner, hidden),
            ("up", inner, hidden),
            ("down", hidden, inner),
        ):
            shapes[f"mlp.{part}_proj.weight"] = (rows, columns)
            if self.mlp_bias:
                shapes[f"mlp.{part}_proj.bias"] = (rows,)
        return shapes


EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"


def layer_tensor(layer: int, name: str) -> str:
    """The Hugging Face name of a weight of one layer."""
    return f"model.layers.{layer}.{name}"
