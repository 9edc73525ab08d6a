"""A checkpoint that our sources read, as a torch model with LoRA matrices to train.

Knows transformers and peft; nothing about questions or training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ondevice.errors import RequestError
from ondevice.export.architecture import Architecture
from ondevice.export.source import Source

if TYPE_CHECKING:
    import torch

MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LoraShape:
    """Rank r and alpha of the adapter (Hu et al., 2021), and the dropout on its input."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05


def load(source: Source, lora: LoraShape, base_name: str) -> Any:
    """The dequantized weights as a float32 transformers Llama inside a peft model.

    The base is frozen; the adapter starts at zero effect, drawn from torch's seed. `base_name` is
    what the adapter will name as its base. Raises `RequestError` for another family than Llama.
    """
    from peft import LoraConfig, get_peft_model

    model = _llama(source)
    model.name_or_path = base_name
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(MATRICES),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def _llama(source: Source) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    arch = source.architecture
    if arch.name != "llama" or arch.rope.scaling is not None or arch.rope.frequency_factors:
        raise RequestError(
            f"this recipe trains Llama models with plain rotary embeddings, not {arch.name}"
        )
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**_config(arch)))
    state = {name: torch.from_numpy(source.read(name)) for name in arch.tensor_shapes()}
    model.to_empty(device="cpu")
    model.load_state_dict(state, strict=False)
    _restore_rotary(model)
    model.tie_weights()
    _require_loaded(model, state)
    return model


def _restore_rotary(model: Any) -> None:
    """Frequencies are computed, not stored, and creation without memory lost them."""
    rotary = type(model.model.rotary_emb)(config=model.config)
    model.model.rotary_emb = rotary


def _require_loaded(model: Any, state: dict[str, torch.Tensor]) -> None:
    missing = set(model.state_dict()) - set(state) - {"lm_head.weight"}
    if missing:
        raise RequestError(f"the checkpoint has no {min(missing)}; another one is needed")


def _config(arch: Architecture) -> dict[str, Any]:
    return {
        "vocab_size": arch.vocab_size,
        "hidden_size": arch.hidden_size,
        "intermediate_size": arch.intermediate_size,
        "num_hidden_layers": arch.layers,
        "num_attention_heads": arch.heads,
        "num_key_value_heads": arch.kv_heads,
        "head_dim": arch.head_dim,
        "max_position_embeddings": arch.context_length,
        "rms_norm_eps": arch.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": arch.rope.theta},
        "tie_word_embeddings": arch.tied_embeddings,
        "attention_bias": arch.qkv_bias,
        "mlp_bias": arch.mlp_bias,
        "use_cache": False,
    }
