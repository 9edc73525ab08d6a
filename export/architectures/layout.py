"""Where the decoder's weights lie in a checkpoint: names of tensors, parts of fused ones.

Knows the names that Hugging Face and GGUF use; knows nothing about bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ondevice.export.architecture import Architecture

_GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
GGUF_LAYER_NAMES: Mapping[str, str] = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@dataclass(frozen=True)
class Stored:
    """Where one weight lies in a checkpoint.

    rows: the rows of the tensor called `name` that it is; None is all of them.
    plus: what is added to the stored values.
    order: which of those rows each row of the weight is; None where they are in order.
    """

    name: str
    rows: slice | None = None
    plus: float = 0.0
    order: NDArray[np.intp] | None = None


def in_safetensors(architecture: Architecture, name: str) -> Stored:
    """Of families that store every weight as this program names it."""
    return Stored(name)


def in_gguf(
    architecture: Architecture, name: str, layer_names: Mapping[str, str] = GGUF_LAYER_NAMES
) -> Stored:
    """Of families whose GGUF files differ from Hugging Face's in the names only."""
    stem, _, kind = name.rpartition(".")
    if stem in _GGUF_NAMES:
        return Stored(f"{_GGUF_NAMES[stem]}.{kind}")
    _, _, layer, part = stem.split(".", 3)
    return Stored(f"blk.{layer}.{layer_names[part]}.{kind}")


def interleaved_in_gguf(architecture: Architecture, name: str) -> Stored:
    """Of families whose query and key rows llama.cpp's converter reorders.

    It interleaves the two halves of each head, for its way of rotating.
    """
    stored = in_gguf(architecture, name)
    if ".q_proj." in name:
        heads = architecture.heads
    elif ".k_proj." in name:
        heads = architecture.kv_heads
    else:
        return stored
    rows = np.arange(heads * architecture.head_dim, dtype=np.intp)
    return Stored(stored.name, order=rows.reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1))
