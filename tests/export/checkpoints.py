"""Tiny random checkpoints made on the spot: safetensors folders and GGUF files, without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from layouts import (
    Weights,
    gguf_architecture,
    gguf_name,
    gguf_numbers,
    gguf_tensors,
    hf_config,
    hf_tensors,
)
from numpy.typing import NDArray

from ondevice.export.architecture import EMBEDDING, Architecture, Llama3Scaling, LongRope, Rope

LLAMA3 = Llama3Scaling(8.0, 1.0, 4.0, 64)
WINDOW = 24
EOS, BOS = "<|im_end|>", "<|im_start|>"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
MERGES = (("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("a", "n"), ("an", "d"))
_K_SCALES = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}  # bytes where fp16 scales begin


# Sizes of `tiny` that --target coreml-ane can have.
FOR_ANE: dict[str, Any] = {"head_dim": 32, "vocab_size": 288}


def tiny(name: str = "llama", **changes: Any) -> Architecture:
    """A small decoder of a family; `changes` are fields of `Architecture`, `rope` given whole.

    Gemma has windows of 24 tokens in every second layer, `window=0` leaves them out; a `window`
    of Mistral, Phi-3 or Qwen is one of every layer.
    """
    layers = changes.get("layers", 4 if name == "smollm3" else 2)
    head_dim = changes.get("head_dim", 16)
    base = Architecture(
        name=name,
        vocab_size=len(tokens()),
        hidden_size=64,
        intermediate_size=96,
        layers=layers,
        heads=4,
        kv_heads=2,
        head_dim=head_dim,
        context_length=256,
        norm_eps=1e-5,
        rope=Rope(10000.0, head_dim),
    )
    made = replace(base, **_family(name, layers, head_dim, changes), **changes)
    if not made.window:
        made = replace(made, windowed=(), local_rope=None)
    return made


def _family(name: str, layers: int, head_dim: int, changes: dict[str, Any]) -> dict[str, Any]:
    """What a family has that Llama has not, less what `changes` says."""
    every_second = tuple(layer % 2 == 0 for layer in range(layers))
    gemma = {
        "tied_embeddings": True,
        "window": WINDOW,
        "windowed": every_second,
        "post_norms": True,
        "activation": "gelu_tanh",
        "embedding_scale": math.sqrt(changes.get("hidden_size", 64)),
    }
    fields: dict[str, dict[str, Any]] = {
        "qwen2": {"qkv_bias": True},
        "qwen3": {"qk_norm": True},
        "gemma2": {**gemma, "attention_softcap": 50.0, "logit_softcap": 30.0},
        "gemma3_text": {
            **gemma,
            "qk_norm": True,
            "rope": Rope(1e6, head_dim),
            "local_rope": Rope(10000.0, head_dim),
        },
        "smollm3": {
            "tied_embeddings": True,
            "unrotated": frozenset(range(3, layers, 4)),
            "rope": Rope(2e6, head_dim),
        },
    }
    if name in ("mistral", "phi3", "qwen2", "qwen3") and changes.get("window"):
        fields[name] = {**fields.get(name, {}), "windowed": (True,) * layers}
    return {key: value for key, value in fields.get(name, {}).items() if key not in changes}


def long_rope(dim: int = 16, original: int = 64, context: int = 256) -> Rope:
    """Phi-3's rotary embedding; `context` must be the decoder's `context_length`."""
    steps = np.arange(dim // 2)
    short = tuple(float(factor) for factor in 1 + 0.0625 * steps)
    long = tuple(float(factor) for factor in 1.5 + 0.5 * steps)
    factor = math.sqrt(1 + math.log(context / original) / math.log(original))
    return Rope(10000.0, dim, LongRope(short, long, original, factor))


def random_weights(architecture: Architecture, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Weights of a size that keeps activations near one and attention uneven."""
    chance = np.random.default_rng(seed)

    def values(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        drawn = chance.standard_normal(shape)
        if len(shape) == 1:
            return (drawn * 0.1 + (1.0 if "norm" in name else 0.0)).astype(np.float32)
        scale = 1.0 if name == EMBEDDING else 1.5 / math.sqrt(shape[1])
        return (drawn * scale).astype(np.float32)

    return {name: values(name, shape) for name, shape in architecture.tensor_shapes().items()}


def tokens() -> list[str]:
    """The vocabulary of the tiny checkpoints: bytes, a few merges, two special tokens."""
    return [*byte_characters(), *("".join(pair) for pair in MERGES), BOS, EOS]


def byte_characters() -> list[str]:
    """The printable character of each byte in byte-level BPE (Radford et al., 2019)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(other)) for byte in range(256)]


def tokenizer_json() -> str:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: index for index, token in enumerate(tokens())}
    tokenizer = Tokenizer(models.BPE(vocabulary, list(MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in (BOS, EOS)]
    )
    return str(tokenizer.to_str())


def config_json(architecture: Architecture, new_rope: bool = False) -> dict[str, Any]:
    """config.json; `new_rope` writes `rope_parameters` as transformers 5 does."""
    return {
        **hf_config(architecture, new_rope),
        "bos_token_id": tokens().index(BOS),
        "eos_token_id": tokens().index(EOS),
        "pad_token_id": tokens().index(EOS),
    }


def write_checkpoint(
    folder: Path,
    architecture: Architecture,
    weights: Weights | None = None,
    *,
    dtype: str = "F32",
    shards: int = 1,
    new_rope: bool = False,
    template: str | None = TEMPLATE,
) -> Path:
    """A Hugging Face folder. `dtype` is F32, F16 or BF16; `shards` above 1 writes an index.

    `weights` have the names and values of `Architecture.tensor_shapes`; they are stored as the
    family stores them.
    """
    weights = random_weights(architecture) if weights is None else weights
    weights = hf_tensors(architecture, weights)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config_json(architecture, new_rope))
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"eos_token": EOS, "pad_token": {"content": EOS}})
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    if shards == 1:
        write_safetensors(folder / "model.safetensors", weights, dtype)
        return folder
    names = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    for index, name in enumerate(names):
        write_safetensors(folder / name, dict(list(weights.items())[index::shards]), dtype)
    homes = {tensor: names[i % shards] for i, tensor in enumerate(weights)}
    write_json(folder / "model.safetensors.index.json", {"weight_map": homes})
    return folder


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def write_safetensors(path: Path, weights: Weights, dtype: str = "F32") -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts, offset = [], 0
    for name, values in weights.items():
        data = encoded(values, dtype)
        span = [offset, offset + len(data)]
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": span}
        parts.append(data)
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def encoded(values: NDArray[np.float32], dtype: str) -> bytes:
    """Little-endian bytes; BF16 by cutting, so only values that fit come back unchanged."""
    if dtype == "BF16":
        return (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    return values.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


def write_gguf(
    path: Path,
    architecture: Architecture,
    weights: Weights | None = None,
    *,
    matrices: str = "F32",
    types: Mapping[str, str] | None = None,
    keys: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """A GGUF file. `matrices` is the type of all matrices, `types` of single ones, by Hugging
    Face name; Q4_K, Q5_K and Q6_K get random blocks in place of the weights. `keys` adds or
    replaces keys; None as a value leaves the key out.
    """
    weights = random_weights(architecture) if weights is None else weights
    writer = gguf.GGUFWriter(path, gguf_architecture(architecture))
    _write_keys(writer, {**gguf_keys(architecture), **(keys or {})})
    chance = np.random.default_rng(seed)
    named = {gguf_name(architecture, name): kind for name, kind in (types or {}).items()}
    for name, values in gguf_tensors(architecture, weights).items():
        kind = named.get(name, matrices if values.ndim == 2 else "F32")
        write_tensor(writer, name, values, kind, chance)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_tensor(
    writer: gguf.GGUFWriter,
    name: str,
    values: NDArray[np.float32],
    kind: str,
    chance: np.random.Generator,
) -> None:
    type_ = GGMLQuantizationType[kind]
    if kind in ("F32", "F16"):
        writer.add_tensor(name, values.astype({"F32": np.float32, "F16": np.float16}[kind]))
    elif kind in _K_SCALES:
        writer.add_tensor(name, random_blocks(values.shape, kind, chance), raw_dtype=type_)
    else:
        writer.add_tensor(name, gguf.quants.quantize(values, type_), raw_dtype=type_)


def random_blocks(
    shape: tuple[int, ...], kind: str, chance: np.random.Generator
) -> NDArray[np.uint8]:
    """Random bytes with small finite scales: (rows, bytes per row)."""
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    blocks = chance.integers(0, 256, (shape[0] * shape[1] // block, size), dtype=np.uint8)
    for start in _K_SCALES.get(kind, (0,)):
        scales = (chance.random(len(blocks)) * 1e-3 + 1e-4).astype(np.float16)
        blocks[:, start : start + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(shape[0], -1)


def gguf_keys(architecture: Architecture) -> dict[str, Any]:
    words = tokens()
    return {
        "general.name": "Tiny Random",
        "general.license": "apache-2.0",
        **gguf_numbers(architecture),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": [3 if word in (BOS, EOS) else 1 for word in words],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in MERGES],
        "tokenizer.ggml.bos_token_id": words.index(BOS),
        "tokenizer.ggml.eos_token_id": words.index(EOS),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }


def _write_keys(writer: gguf.GGUFWriter, keys: Mapping[str, Any]) -> None:
    for key, value in keys.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_array(key, value)
