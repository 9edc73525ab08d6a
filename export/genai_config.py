"""The two files that let onnxruntime-genai open a package folder: its own configuration and
the tokenizer class it looks up.
"""

from __future__ import annotations

import json
from pathlib import Path

from ondevice.export.architecture import Architecture
from ondevice.export.source import TokenizerFiles
from ondevice.package import ONNX_MODEL


def write_genai_config(folder: Path, arch: Architecture, tokenizer: TokenizerFiles) -> None:
    """Write `genai_config.json` and `tokenizer_config.json`."""
    config = {"model": _model(arch, tokenizer), "search": _search(arch)}
    _write(folder / "genai_config.json", config)
    tokens = {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False}
    if tokenizer.chat_template is not None:
        tokens["chat_template"] = tokenizer.chat_template
    _write(folder / "tokenizer_config.json", tokens)


def _model(arch: Architecture, tokenizer: TokenizerFiles) -> dict[str, object]:
    eos = tokenizer.eos_ids[0] if tokenizer.eos_ids else 0
    decoder = {
        "session_options": {"provider_options": []},
        "filename": ONNX_MODEL,
        "head_size": arch.head_dim,
        "hidden_size": arch.hidden_size,
        "num_attention_heads": arch.heads,
        "num_hidden_layers": arch.layers,
        "num_key_value_heads": arch.kv_heads,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    return {
        "type": arch.name,
        "vocab_size": arch.vocab_size,
        "context_length": arch.context_length,
        "bos_token_id": eos if tokenizer.bos_id is None else tokenizer.bos_id,
        "eos_token_id": list(tokenizer.eos_ids),
        "pad_token_id": eos if tokenizer.pad_id is None else tokenizer.pad_id,
        "decoder": decoder,
    }


def _search(arch: Architecture) -> dict[str, object]:
    return {
        "do_sample": False,
        "max_length": arch.context_length,
        "past_present_share_buffer": True,
    }


def _write(path: Path, content: object) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
