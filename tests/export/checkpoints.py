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
from numpy.typing import NDArray

from ondevice.export.architecture import EMBEDDING, Architecture, Llama3Scaling, Rope
from ondevice.export.architectures import registry
from ondevice.export.architectures.family import gguf_name

Weights = Mapping[str, NDArray[np.float32]]

LLAMA3 = Llama3Scaling(8.0, 1.0, 4.0, 64)
EOS, BOS = "<|im_end|>", "<|im_start|>"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
MERGES = (("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("a", "n"), ("an", "d"))
_K_SCALES = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}  # bytes where fp16 scales begin


def tiny(name: str = "llama", **changes: Any) -> Architecture:
    """A small decoder; `changes` are fields of `Architecture`, and `rope` may be given whole."""
    head_dim = changes.get("head_dim", 16)
    base = Architecture(
        name=name,
        vocab_size=len(tokens()),
        hidden_size=64,
        intermediate_size=96,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=head_dim,
        context_length=256,
        norm_eps=1e-5,
        rope=Rope(10000.0, head_dim),
        qkv_bias=name == "qwen2",
    )
    return replace(base, **changes)


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
    kind = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}[architecture.name]
    config: dict[str, Any] = {
        "architectures": [kind],
        "model_type": architecture.name,
        "vocab_size": architecture.vocab_size,
        "hidden_size": architecture.hidden_size,
        "intermediate_size": architecture.intermediate_size,
        "num_hidden_layers": architecture.layers,
        "num_attention_heads": architecture.heads,
        "num_key_value_heads": architecture.kv_heads,
        "head_dim": architecture.head_dim,
        "max_position_embeddings": architecture.context_length,
        "rms_norm_eps": architecture.norm_eps,
        "hidden_act": "silu",
        "tie_word_embeddings": architecture.tied_embeddings,
        "bos_token_id": tokens().index(BOS),
        "eos_token_id": tokens().index(EOS),
        "torch_dtype": "float32",
    }
    if architecture.name == "llama":
        config |= {"attention_bias": architecture.qkv_bias, "mlp_bias": architecture.mlp_bias}
    return config | _rope_config(architecture.rope, new_rope)


def _rope_config(rope: Rope, new: bool) -> dict[str, Any]:
    kind: dict[str, Any] = {"rope_type": "default"}
    if rope.scaling is not None:
        kind = {
            "rope_type": "llama3",
            "factor": rope.scaling.factor,
            "low_freq_factor": rope.scaling.low_freq_factor,
            "high_freq_factor": rope.scaling.high_freq_factor,
            "original_max_position_embeddings": rope.scaling.original_context_length,
        }
    if new:
        return {"rope_parameters": {**kind, "rope_theta": rope.theta}}
    return {"rope_theta": rope.theta, "rope_scaling": kind if rope.scaling else None}


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
    """A Hugging Face folder. `dtype` is F32, F16 or BF16; `shards` above 1 writes an index."""
    weights = random_weights(architecture) if weights is None else weights
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
    writer = gguf.GGUFWriter(path, architecture.name)
    _write_keys(writer, {**gguf_keys(architecture), **(keys or {})})
    chance = np.random.default_rng(seed)
    for name, values in weights.items():
        kind = (types or {}).get(name, matrices if values.ndim == 2 else "F32")
        order = registry[architecture.name].gguf_row_order(architecture, name)
        stored = values if order is None else interleaved(values, architecture, name)
        write_tensor(writer, gguf_name(name), stored, kind, chance)
    factors = rope_factors(architecture)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def interleaved(
    values: NDArray[np.float32], architecture: Architecture, name: str
) -> NDArray[np.float32]:
    """Rows of each query or key head as llama.cpp's converter orders them for Llama."""
    heads = architecture.heads if "q_proj" in name else architecture.kv_heads
    halves = values.reshape(heads, 2, architecture.head_dim // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))


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
    name = architecture.name
    words = tokens()
    return {
        "general.name": "Tiny Random",
        "general.license": "apache-2.0",
        f"{name}.block_count": architecture.layers,
        f"{name}.context_length": architecture.context_length,
        f"{name}.embedding_length": architecture.hidden_size,
        f"{name}.feed_forward_length": architecture.intermediate_size,
        f"{name}.attention.head_count": architecture.heads,
        f"{name}.attention.head_count_kv": architecture.kv_heads,
        f"{name}.attention.key_length": architecture.head_dim,
        f"{name}.attention.value_length": architecture.head_dim,
        f"{name}.attention.layer_norm_rms_epsilon": architecture.norm_eps,
        f"{name}.rope.freq_base": architecture.rope.theta,
        f"{name}.rope.dimension_count": architecture.head_dim,
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


def rope_factors(architecture: Architecture) -> NDArray[np.float32] | None:
    """What llama.cpp's converter writes as `rope_freqs.weight` for llama3 scaling."""
    scaling = architecture.rope.scaling
    if scaling is None:
        return None
    dim = architecture.rope.dim
    wavelengths = 2 * np.pi * architecture.rope.theta ** (np.arange(0, dim, 2) / dim)
    turns = scaling.original_context_length / wavelengths
    span = scaling.high_freq_factor - scaling.low_freq_factor
    smooth = np.clip((turns - scaling.low_freq_factor) / span, 0, 1)
    factors: NDArray[np.float32] = (1 / ((1 - smooth) / scaling.factor + smooth)).astype(np.float32)
    return factors
