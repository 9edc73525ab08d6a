"""How real checkpoints of each family are laid out: config.json, tensor names, GGUF keys.

Written from the formats' own definitions (transformers, llama.cpp's converters) and not from the
exporter's description of them, so that one can be tested against the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.export.architecture import (
    Architecture,
    LinearScaling,
    Llama3Scaling,
    LongRope,
    Rope,
)

Weights = Mapping[str, NDArray[np.float32]]

CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}
GGUF_ARCHITECTURES = {"mistral": "llama", "gemma3_text": "gemma3"}
GEMMA = ("gemma2", "gemma3_text")
INTERLEAVED = ("llama", "mistral", "smollm3")

_GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
}
_GEMMA_NAMES = _GGUF_NAMES | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def hf_config(architecture: Architecture, new_rope: bool = False) -> dict[str, Any]:
    """config.json without its tokens; `new_rope` writes `rope_parameters` as transformers 5."""
    name = architecture.name
    return {
        "architectures": [CLASSES[name]],
        "model_type": name,
        "vocab_size": architecture.vocab_size,
        "hidden_size": architecture.hidden_size,
        "intermediate_size": architecture.intermediate_size,
        "num_hidden_layers": architecture.layers,
        "num_attention_heads": architecture.heads,
        "num_key_value_heads": architecture.kv_heads,
        "head_dim": architecture.head_dim,
        "max_position_embeddings": architecture.context_length,
        "rms_norm_eps": architecture.norm_eps,
        "tie_word_embeddings": architecture.tied_embeddings,
        "torch_dtype": "float32",
        **_special(architecture),
        **_rope_config(architecture, new_rope),
    }


def _special(architecture: Architecture) -> dict[str, Any]:
    name = architecture.name
    biases = {"attention_bias": architecture.output_bias, "mlp_bias": architecture.mlp_bias}
    window = architecture.window or None
    types = ["sliding_attention" if w else "full_attention" for w in architecture.windowed]
    if name in GEMMA:
        return _gemma(architecture, window, types)
    if name in ("qwen2", "qwen3"):
        more = {"attention_bias": architecture.output_bias} if name == "qwen3" else {}
        use = {"use_sliding_window": window is not None, "sliding_window": window or 512}
        return {"hidden_act": "silu", **more, **use, **({"layer_types": types} if types else {})}
    if name == "smollm3":
        rotated = [int(i not in architecture.unrotated) for i in range(architecture.layers)]
        use = {"use_sliding_window": window is not None, "sliding_window": window}
        types = types or ["full_attention"] * architecture.layers
        return {"hidden_act": "silu", **biases, "no_rope_layers": rotated, **use} | (
            {"layer_types": types}
        )
    more = biases if name == "llama" else {"sliding_window": window}
    return {"hidden_act": "silu", **more}


def _gemma(architecture: Architecture, window: int | None, types: list[str]) -> dict[str, Any]:
    return {
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": architecture.output_bias,
        "query_pre_attn_scalar": round(architecture.score_scale**-2),
        "attn_logit_softcapping": architecture.attention_softcap or None,
        "final_logit_softcapping": architecture.logit_softcap or None,
        "sliding_window": window or 4096,
        "layer_types": types or ["full_attention"] * architecture.layers,
    }


def _rope_config(architecture: Architecture, new: bool) -> dict[str, Any]:
    rope, local = architecture.rope, architecture.local_rope
    section = _scaling(rope, architecture)
    partial = {}
    if rope.dim != architecture.head_dim:
        partial = {"partial_rotary_factor": rope.dim / architecture.head_dim}
    original: dict[str, Any] = {}
    if isinstance(rope.scaling, LongRope):
        original = {"original_max_position_embeddings": rope.scaling.original_context_length}
    if architecture.name == "gemma3_text":
        if new:
            full = {"rope_type": "default", **section, "rope_theta": rope.theta}
            sliding = {"rope_type": "default", "rope_theta": (local or rope).theta}
            return {"rope_parameters": {"full_attention": full, "sliding_attention": sliding}}
        return {
            "rope_theta": rope.theta,
            "rope_local_base_freq": (local or rope).theta,
            "rope_scaling": section or None,
        }
    if new:
        section = {"rope_type": "default", **section, "rope_theta": rope.theta, **partial}
        return {"rope_parameters": section, **original}
    if isinstance(rope.scaling, LongRope):
        section = {"type": section["rope_type"], **section}
    return {"rope_theta": rope.theta, "rope_scaling": section or None, **partial, **original}


def _scaling(rope: Rope, architecture: Architecture) -> dict[str, Any]:
    scaling = rope.scaling
    if isinstance(scaling, Llama3Scaling):
        return {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context_length,
        }
    if isinstance(scaling, LinearScaling):
        return {"rope_type": "linear", "factor": scaling.factor}
    if isinstance(scaling, LongRope):
        return {
            "rope_type": "longrope",
            "short_factor": list(scaling.short_factors),
            "long_factor": list(scaling.long_factors),
        }
    return {}


def hf_tensors(architecture: Architecture, weights: Weights) -> dict[str, NDArray[np.float32]]:
    """The weights under the names and in the shapes that transformers stores."""
    stored = fused(weights) if architecture.name == "phi3" else dict(weights)
    if architecture.name not in GEMMA:
        return stored
    return {name: v - 1 if name.endswith("norm.weight") else v for name, v in stored.items()}


def fused(weights: Weights) -> dict[str, NDArray[np.float32]]:
    """Phi-3's matrices: queries, keys and values in one, gate and up in one."""
    stored = {}
    for name, values in weights.items():
        if "q_proj" in name:
            parts = [weights[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            stored[name.replace("q_proj", "qkv_proj")] = np.concatenate(parts)
        elif "gate_proj" in name:
            parts = [values, weights[name.replace("gate_proj", "up_proj")]]
            stored[name.replace("gate_proj", "gate_up_proj")] = np.concatenate(parts)
        elif not any(part in name for part in ("k_proj", "v_proj", "up_proj")):
            stored[name] = values
    return stored


def gguf_architecture(architecture: Architecture) -> str:
    return GGUF_ARCHITECTURES.get(architecture.name, architecture.name)


def gguf_tensors(architecture: Architecture, weights: Weights) -> dict[str, NDArray[np.float32]]:
    """The weights as llama.cpp's converter writes them, by GGUF name."""
    stored = fused(weights) if architecture.name == "phi3" else dict(weights)
    if architecture.name in INTERLEAVED:
        stored = {
            n: interleaved(v, architecture, n) if "q_proj" in n or "k_proj" in n else v
            for n, v in stored.items()
        }
    return {gguf_name(architecture, n): v for n, v in stored.items()} | _rope_tensors(architecture)


def gguf_name(architecture: Architecture, name: str) -> str:
    stem, _, kind = name.rpartition(".")
    names = _GEMMA_NAMES if architecture.name in GEMMA else _GGUF_NAMES
    if stem in names:
        return f"{names[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{names[part]}.{kind}"


def interleaved(
    values: NDArray[np.float32], architecture: Architecture, name: str
) -> NDArray[np.float32]:
    """Rows of each query or key head as llama.cpp's converter orders them for Llama."""
    heads = architecture.heads if "q_proj" in name else architecture.kv_heads
    halves = values.reshape(heads, 2, architecture.head_dim // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))


def _rope_tensors(architecture: Architecture) -> dict[str, NDArray[np.float32]]:
    scaling = architecture.rope.scaling
    if isinstance(scaling, LongRope):
        return {
            "rope_factors_long.weight": np.array(scaling.long_factors, np.float32),
            "rope_factors_short.weight": np.array(scaling.short_factors, np.float32),
        }
    factors = rope_factors(architecture)
    return {} if factors is None else {"rope_freqs.weight": factors}


def rope_factors(architecture: Architecture) -> NDArray[np.float32] | None:
    """What llama.cpp's converter writes as `rope_freqs.weight` for llama3 scaling."""
    scaling = architecture.rope.scaling
    if not isinstance(scaling, Llama3Scaling):
        return None
    dim = architecture.rope.dim
    wavelengths = 2 * np.pi * architecture.rope.theta ** (np.arange(0, dim, 2) / dim)
    turns = scaling.original_context_length / wavelengths
    span = scaling.high_freq_factor - scaling.low_freq_factor
    smooth = np.clip((turns - scaling.low_freq_factor) / span, 0, 1)
    factors: NDArray[np.float32] = (1 / ((1 - smooth) / scaling.factor + smooth)).astype(np.float32)
    return factors


def gguf_numbers(architecture: Architecture) -> dict[str, Any]:
    """The keys that describe the decoder, with their prefix."""
    keys: dict[str, Any] = {
        "block_count": architecture.layers,
        "context_length": architecture.context_length,
        "embedding_length": architecture.hidden_size,
        "feed_forward_length": architecture.intermediate_size,
        "attention.head_count": architecture.heads,
        "attention.head_count_kv": architecture.kv_heads,
        "attention.layer_norm_rms_epsilon": architecture.norm_eps,
        "rope.freq_base": architecture.rope.theta,
        "rope.dimension_count": architecture.rope.dim,
        **_gguf_special(architecture),
    }
    if architecture.name != "phi3":  # llama.cpp's converter leaves them out there
        keys["attention.key_length"] = keys["attention.value_length"] = architecture.head_dim
    prefix = gguf_architecture(architecture)
    return {f"{prefix}.{key}": value for key, value in keys.items()}


def _gguf_special(architecture: Architecture) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    scaling = architecture.rope.scaling
    if isinstance(scaling, LinearScaling):
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": scaling.factor}
    if isinstance(scaling, LongRope):
        keys["rope.scaling.attn_factor"] = scaling.attention_factor
        keys["rope.scaling.original_context_length"] = scaling.original_context_length
    if architecture.window or architecture.name == "phi3":
        keys["attention.sliding_window"] = architecture.window
    if architecture.name in GEMMA and architecture.windowed:
        first = (*architecture.windowed, False).index(False)
        keys["attention.sliding_window_pattern"] = (first + 1) % (architecture.layers + 1)
    if architecture.local_rope is not None:
        keys["rope.freq_base_swa"] = architecture.local_rope.theta
    if architecture.attention_softcap:
        keys["attn_logit_softcapping"] = architecture.attention_softcap
    if architecture.logit_softcap:
        keys["final_logit_softcapping"] = architecture.logit_softcap
    return keys
