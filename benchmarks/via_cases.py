"""The tiny random checkpoints of `benchmarks.via`: what each is, and the way it is sent."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests" / "export"))

import checkpoints as tiny

VOCABULARY = len(tiny.tokens())
_COMMON = {
    "vocab_size": VOCABULARY,
    "bos_token_id": VOCABULARY - 2,
    "eos_token_id": VOCABULARY - 1,
    "pad_token_id": None,
    "tie_word_embeddings": False,
}
_LLAMA = _COMMON | {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
}
_OLD = {
    key: value for key, value in _LLAMA.items() if key not in ("head_dim", "num_key_value_heads")
}
_GRANITE = _LLAMA | {
    "embedding_multiplier": 2.0,
    "attention_multiplier": 0.2,
    "logits_scaling": 3.0,
    "residual_multiplier": 0.5,
}


@dataclass(frozen=True)
class Case:
    """One checkpoint: transformers' configuration, class (causal, encoder, classifier), targets."""

    tool: str
    name: str
    config: dict[str, Any]
    targets: tuple[str, ...] = ("cpu-fp32",)
    kind: str = "causal"


_ALL = ("cpu-fp32", "cpu-int8", "cpu-int4")
CASES = (
    Case("genai", "llama", _LLAMA | {"model_type": "llama"}, _ALL),
    Case(
        "genai", "llama, tied", _LLAMA | {"model_type": "llama", "tie_word_embeddings": True}, _ALL
    ),
    Case("genai", "granite", _GRANITE | {"model_type": "granite"}, _ALL),
    Case(
        "genai",
        "granite, tied",
        _GRANITE | {"model_type": "granite", "tie_word_embeddings": True},
        _ALL,
    ),
    Case(
        "genai",
        "nemotron",
        _LLAMA | {"model_type": "nemotron", "head_dim": 32, "partial_rotary_factor": 0.5},
        _ALL,
    ),
    Case("genai", "ernie4_5", _LLAMA | {"model_type": "ernie4_5"}, _ALL),
    Case(
        "genai",
        "phi",
        _OLD | {"model_type": "phi", "hidden_size": 128, "partial_rotary_factor": 0.5},
        _ALL,
    ),
    Case("genai", "qwen3", _LLAMA | {"model_type": "qwen3"}, _ALL),
    Case(
        "genai",
        "gemma2, window 24",
        _LLAMA | {"model_type": "gemma2", "sliding_window": 24, "query_pre_attn_scalar": 16},
    ),
    Case("genai", "mistral, window 24", _LLAMA | {"model_type": "mistral", "sliding_window": 24}),
    Case("genai", "olmo", _LLAMA | {"model_type": "olmo"}),
    Case("genai", "smollm3", _LLAMA | {"model_type": "smollm3", "no_rope_layers": [1, 0]}),
    Case(
        "genai", "lfm2", _LLAMA | {"model_type": "lfm2", "layer_types": ["conv", "full_attention"]}
    ),
    Case("optimum", "llama", _LLAMA | {"model_type": "llama"}),
    Case(
        "optimum",
        "gpt2",
        _COMMON
        | {
            "model_type": "gpt2",
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 256,
            "tie_word_embeddings": True,
        },
    ),
    Case("optimum", "gpt_neox", _OLD | {"model_type": "gpt_neox"}),
    Case(
        "optimum",
        "opt",
        _OLD | {"model_type": "opt", "ffn_dim": 96, "word_embed_proj_dim": 64, "pad_token_id": 1},
    ),
    Case(
        "optimum",
        "stablelm",
        {k: v for k, v in _LLAMA.items() if k != "head_dim"} | {"model_type": "stablelm"},
    ),
    Case("optimum", "bert", _OLD | {"model_type": "bert", "pad_token_id": 0}, kind="encoder"),
    Case(
        "optimum",
        "roberta",
        _OLD | {"model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 258},
        kind="encoder",
    ),
    Case(
        "optimum",
        "distilbert, 3 classes",
        {
            "model_type": "distilbert",
            "vocab_size": VOCABULARY,
            "dim": 64,
            "hidden_dim": 96,
            "n_layers": 2,
            "n_heads": 4,
            "max_position_embeddings": 256,
            "id2label": {0: "yes", 1: "no", 2: "maybe"},
            "label2id": {"yes": 0, "no": 1, "maybe": 2},
        },
        kind="classifier",
    ),
)
