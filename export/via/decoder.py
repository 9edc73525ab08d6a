"""From another exporter's decoder graph to the files of a package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ondevice.export.source import TokenizerFiles
from ondevice.export.via.checkpoint import Checkpoint
from ondevice.export.via.graph import CacheShape, save_graph, to_contract
from ondevice.package import ONNX_MODEL, ModelShape


@dataclass(frozen=True)
class Sizes:
    """The numbers of a decoder that a package's manifest needs."""

    vocab_size: int
    hidden_size: int
    heads: int
    context_length: int
    cache: CacheShape


@dataclass(frozen=True)
class RawDecoder:
    """What a tool gave: its graph, the sizes, the type that onnxruntime-genai knows it by.

    `shares_buffer` says that attention writes into the KV buffer by itself.
    """

    graph: ir.Model
    sizes: Sizes
    genai_type: str
    shares_buffer: bool


def write_decoder(raw: RawDecoder, tokenizer: TokenizerFiles, folder: Path) -> None:
    """Write graph, weights, tokenizer and onnxruntime-genai's files."""
    to_contract(raw.graph, raw.sizes.vocab_size, raw.sizes.cache)
    save_graph(raw.graph, folder)
    _write(folder / "tokenizer.json", tokenizer.tokenizer_json)
    tokens: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
    }
    if tokenizer.chat_template is not None:
        _write(folder / "chat_template.jinja", tokenizer.chat_template)
        tokens["chat_template"] = tokenizer.chat_template
    _write(folder / "tokenizer_config.json", _json(tokens))
    _write(folder / "genai_config.json", _json(_genai_config(raw, tokenizer)))


def model_shape(raw: RawDecoder, checkpoint: Checkpoint) -> ModelShape:
    """The manifest's shape."""
    sizes = raw.sizes
    return ModelShape(
        architecture=checkpoint.model_type,
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.hidden_size,
        layers=sizes.cache.layers,
        heads=sizes.heads,
        kv_heads=sizes.cache.kv_heads,
        head_dim=sizes.cache.head_dim,
        context_length=sizes.context_length,
        parameters=checkpoint.parameters,
    )


def _genai_config(raw: RawDecoder, tokenizer: TokenizerFiles) -> dict[str, Any]:
    sizes, cache = raw.sizes, raw.sizes.cache
    eos = tokenizer.eos_ids[0]
    past = {f"past_{part}_names": f"past_key_values.%d.{part}" for part in ("key", "value")}
    present = {f"present_{part}_names": f"present.%d.{part}" for part in ("key", "value")}
    decoder = {
        "session_options": {"provider_options": []},
        "filename": ONNX_MODEL,
        "head_size": cache.head_dim,
        "hidden_size": sizes.hidden_size,
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": cache.layers,
        "num_key_value_heads": cache.kv_heads,
        "inputs": {"input_ids": "input_ids", "attention_mask": "attention_mask", **past},
        "outputs": {"logits": "logits", **present},
    }
    model = {
        "type": raw.genai_type,
        "vocab_size": sizes.vocab_size,
        "context_length": sizes.context_length,
        "bos_token_id": eos if tokenizer.bos_id is None else tokenizer.bos_id,
        "eos_token_id": list(tokenizer.eos_ids),
        "pad_token_id": eos if tokenizer.pad_id is None else tokenizer.pad_id,
        "decoder": decoder,
    }
    search = {
        "do_sample": False,
        "max_length": sizes.context_length,
        "past_present_share_buffer": raw.shares_buffer,
    }
    return {"model": model, "search": search}


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")
