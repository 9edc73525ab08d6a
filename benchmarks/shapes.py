"""Checkpoints of true shape with random weights: what a model weighs, without downloading it.

Names and shapes of the tensors come from transformers on the `meta` device, the values from one
repeated random buffer; norms leave values as they are. Knows nothing of exporting.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SHARD = 1 << 30  # bytes of a safetensors file, as hubs have them
_BUFFER = (1 << 24) + 3  # random values; odd, so that rows differ
_SPREAD = 0.02  # the standard deviation that these families are initialized with
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_LONGROPE = {
    "rope_type": "longrope",
    "type": "longrope",
    "short_factor": [1.0 + index / 48 for index in range(48)],
    "long_factor": [1.0 + index * 64 / 48 for index in range(48)],
}


def _llama(hidden: int, inner: int, layers: int, heads: int, head_dim: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": head_dim,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "rope_scaling": _LLAMA3,
        "tie_word_embeddings": True,
    }


def _qwen2(
    hidden: int, inner: int, layers: int, heads: int, kv_heads: int, vocab: int, tied: bool
) -> dict[str, Any]:
    return {
        "model_type": "qwen2",
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": tied,
    }


SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-0.5b": _qwen2(896, 4864, 24, 14, 2, 151936, True),
    "llama-3.2-1b": _llama(2048, 8192, 16, 32, 64),
    "llama-3.2-3b": _llama(3072, 8192, 28, 24, 128),
    "phi-3.5-mini": {
        "model_type": "phi3",
        "vocab_size": 32064,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": _LONGROPE,
        "sliding_window": 262144,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
    },
    "gemma-2-2b": {
        "model_type": "gemma2",
        "vocab_size": 256000,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "max_position_embeddings": 8192,
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "hidden_activation": "gelu_pytorch_tanh",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    },
    "mistral-7b": {
        "model_type": "mistral",
        "vocab_size": 32768,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "sliding_window": None,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
    },
    "qwen2.5-7b": _qwen2(3584, 18944, 28, 28, 4, 152064, False),
}


def make_checkpoint(name: str, folder: Path) -> int:
    """Write a checkpoint folder in bfloat16; returns the number of weights.

    The tokenizer is one of bytes: it fits any vocabulary and says nothing.
    """
    folder.mkdir(parents=True)
    shapes = _describe(name, folder)
    _write_tokenizer(folder)
    buffer = _random_buffer()
    homes: dict[str, str] = {}
    size = 0
    for number, shard in enumerate(_shards(shapes), 1):
        file = f"model-{number:05}.safetensors"
        size += _write_shard(folder / file, shard, buffer, zero_norms=name.startswith("gemma"))
        homes |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": size}, "weight_map": homes}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return sum(math.prod(shape) for shape in shapes.values())


def _describe(name: str, folder: Path) -> dict[str, tuple[int, ...]]:
    """Write config.json; the shape of every tensor that is stored."""
    import torch
    import transformers

    fields = SHAPES[name] | {"bos_token_id": 256, "eos_token_id": 257}
    config = transformers.AutoConfig.for_model(**fields)
    config.dtype = torch.bfloat16
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    return {name: tuple(weight.shape) for name, weight in model.named_parameters()}


def _shards(shapes: dict[str, tuple[int, ...]]) -> Iterator[dict[str, tuple[int, ...]]]:
    shard: dict[str, tuple[int, ...]] = {}
    size = 0
    for name, shape in shapes.items():
        bytes_here = 2 * math.prod(shape)
        if shard and size + bytes_here > _SHARD:
            yield shard
            shard, size = {}, 0
        shard[name] = shape
        size += bytes_here
    yield shard


def _random_buffer() -> NDArray[np.uint16]:
    values = np.random.default_rng(0).standard_normal(_BUFFER, np.float32) * np.float32(_SPREAD)
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def _write_shard(
    path: Path,
    shapes: dict[str, tuple[int, ...]],
    buffer: NDArray[np.uint16],
    zero_norms: bool,
) -> int:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            count = math.prod(shape)
            if "norm" in name:
                one = 0 if zero_norms else 0x3F80  # bfloat16
                file.write(np.full(count, one, np.uint16).data)
                continue
            for start in range(0, count, _BUFFER):
                file.write(buffer[: min(_BUFFER, count - start)].data)
    return end


def _write_tokenizer(folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = {letter: index for index, letter in enumerate(alphabet)}
    special = ["<|start|>", "<|end|>"]
    tokenizer = Tokenizer(models.BPE(letters, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": special[0]}
    text = json.dumps(names | {"eos_token": special[1], "pad_token": special[1]})
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
