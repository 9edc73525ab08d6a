"""Phi-3, Phi-3.5-mini (Abdin et al., 2024) and Phi-4-mini: fused weights, LongRoPE.

Queries, keys and values are one matrix, gate and up another, in GGUF files too.
"""

from __future__ import annotations

from dataclasses import replace

from ondevice.export.architecture import Architecture
from ondevice.export.architectures import layout
from ondevice.export.architectures.config import decoder_from_config, head_dim, with_windows
from ondevice.export.architectures.config_rope import rope_from_config
from ondevice.export.architectures.family import Family, GGUFHeader
from ondevice.export.architectures.fields import Fields
from ondevice.export.architectures.gguf_keys import decoder_from_gguf, with_gguf_windows
from ondevice.export.architectures.layout import Stored

_GGUF_NAMES = {
    **layout.GGUF_LAYER_NAMES,
    "self_attn.qkv_proj": "attn_qkv",
    "mlp.gate_up_proj": "ffn_up",
}


def _from_config(config: Fields) -> Architecture:
    config = config.or_else(
        max_position_embeddings=4096, original_max_position_embeddings=4096, rms_norm_eps=1e-5
    )
    rope = rope_from_config(config, head_dim(config), partial=True)
    decoder = decoder_from_config(config, "phi3", rope)
    return with_windows(decoder, config, lambda layer: config.present("sliding_window"))


def _from_gguf(header: GGUFHeader) -> Architecture:
    decoder = decoder_from_gguf(header, "phi3", "phi3", partial=True)
    return with_gguf_windows(header, decoder, "phi3", window=0, period=0)


def _fused(architecture: Architecture, name: str) -> Stored:
    """Under Hugging Face's names: the part of a fused matrix, or a weight of its own."""
    query = architecture.heads * architecture.head_dim
    key = query + architecture.kv_heads * architecture.head_dim
    inner = architecture.intermediate_size
    parts = {
        "q_proj": ("qkv_proj", slice(0, query)),
        "k_proj": ("qkv_proj", slice(query, key)),
        "v_proj": ("qkv_proj", slice(key, 2 * key - query)),
        "gate_proj": ("gate_up_proj", slice(0, inner)),
        "up_proj": ("gate_up_proj", slice(inner, 2 * inner)),
    }
    block, _, part = name.removesuffix(".weight").rpartition(".")
    if part not in parts:
        return Stored(name)
    matrix, rows = parts[part]
    return Stored(f"{block}.{matrix}.weight", rows)


def _in_gguf(architecture: Architecture, name: str) -> Stored:
    stored = _fused(architecture, name)
    return replace(layout.in_gguf(architecture, stored.name, _GGUF_NAMES), rows=stored.rows)


FAMILY = Family("phi3", _from_config, ("phi3", _from_gguf), _fused, _in_gguf)
