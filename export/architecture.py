"""What a decoder is: one small description that sources fill and emitters read.

Knows nothing about files, quantization or graphs.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's stretching of low rotary frequencies (Grattafiori et al., 2024)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context_length: int


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding (Su et al., 2021), halves rotated against each other.

    `frequency_factors` divide the inverse frequencies (GGUF's `rope_freqs.weight`);
    shape (dim / 2,), empty where there are none.
    """

    theta: float
    dim: int
    scaling: Llama3Scaling | None = None
    frequency_factors: tuple[float, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """A decoder-only transformer with RMS norms, grouped-query attention and a SwiGLU MLP."""

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

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight the decoder needs, by its Hugging Face name, with its (out, in) shape."""
        hidden, inner = self.hidden_size, self.intermediate_size
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (self.vocab_size, hidden)}
        for layer in range(self.layers):
            shapes |= {
                layer_tensor(layer, "input_layernorm.weight"): (hidden,),
                layer_tensor(layer, "post_attention_layernorm.weight"): (hidden,),
                layer_tensor(layer, "self_attn.q_proj.weight"): (q, hidden),
                layer_tensor(layer, "self_attn.k_proj.weight"): (kv, hidden),
                layer_tensor(layer, "self_attn.v_proj.weight"): (kv, hidden),
                layer_tensor(layer, "self_attn.o_proj.weight"): (hidden, q),
                layer_tensor(layer, "mlp.gate_proj.weight"): (inner, hidden),
                layer_tensor(layer, "mlp.up_proj.weight"): (inner, hidden),
                layer_tensor(layer, "mlp.down_proj.weight"): (hidden, inner),
            }
            if self.qkv_bias:
                shapes[layer_tensor(layer, "self_attn.q_proj.bias")] = (q,)
                shapes[layer_tensor(layer, "self_attn.k_proj.bias")] = (kv,)
                shapes[layer_tensor(layer, "self_attn.v_proj.bias")] = (kv,)
            if self.output_bias:
                shapes[layer_tensor(layer, "self_attn.o_proj.bias")] = (hidden,)
            if self.mlp_bias:
                shapes[layer_tensor(layer, "mlp.gate_proj.bias")] = (inner,)
                shapes[layer_tensor(layer, "mlp.up_proj.bias")] = (inner,)
                shapes[layer_tensor(layer, "mlp.down_proj.bias")] = (hidden,)
        shapes[FINAL_NORM] = (hidden,)
        if not self.tied_embeddings:
            shapes[HEAD] = (self.vocab_size, hidden)
        return shapes


EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"


def layer_tensor(layer: int, name: str) -> str:
    """The Hugging Face name of a weight of one layer."""
    return f"model.layers.{layer}.{name}"
