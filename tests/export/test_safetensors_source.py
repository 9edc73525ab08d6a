"""Checkpoint folders: what comes out of them, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import (
    EOS,
    LLAMA3,
    config_json,
    random_weights,
    tiny,
    tokens,
    write_checkpoint,
    write_json,
    write_safetensors,
)
from numpy.typing import NDArray

from ondevice.errors import SourceError
from ondevice.export.architecture import EMBEDDING, FINAL_NORM, HEAD, Architecture, Rope
from ondevice.export.safetensors_source import SafetensorsSource
from ondevice.export.source import open_source

ARCHITECTURES = [
    tiny("llama"),
    tiny("llama", tied_embeddings=True, kv_heads=4, head_dim=32),
    tiny("llama", qkv_bias=True, output_bias=True, mlp_bias=True),
    tiny("llama", rope=Rope(500000.0, 16, LLAMA3)),
    tiny("qwen2", tied_embeddings=True, kv_heads=1, rope=Rope(1e6, 16)),
]


def same_bits(left: NDArray[np.float32], right: NDArray[np.float32]) -> bool:
    return left.shape == right.shape and left.tobytes() == right.tobytes()


def refused(folder: Path, pattern: str) -> None:
    with pytest.raises(SourceError, match=pattern) as caught:
        source = open_source(folder)
        for name in source.architecture.tensor_shapes():
            source.read(name)
        assert source.tokenizer
    assert "\n" not in str(caught.value)


def edit_json(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text()) if path.exists() else {}
    values = {k: v for k, v in (values | changes).items() if v is not ...}
    write_json(path, values)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("new_rope", [False, True])
@pytest.mark.parametrize("shards", [1, 3])
def test_architecture_and_weights_come_back_as_they_were(
    tmp_path: Path, architecture: Architecture, new_rope: bool, shards: int
) -> None:
    weights = random_weights(architecture)
    write_checkpoint(tmp_path, architecture, weights, new_rope=new_rope, shards=shards)
    source = SafetensorsSource(tmp_path)
    assert source.architecture == architecture
    assert all(same_bits(source.read(name), weights[name]) for name in weights)
    assert source.stored_type(EMBEDDING) == "F32" and source.stored_grid(EMBEDDING) is None


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_half_precision_is_widened_exactly(tmp_path: Path, dtype: str) -> None:
    architecture = tiny()
    weights = random_weights(architecture)
    for name, values in weights.items():  # what both types can hold
        cut = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        weights[name] = np.where(abs(cut) < 1e-3, np.float32(0), cut)
    source = SafetensorsSource(write_checkpoint(tmp_path, architecture, weights, dtype=dtype))
    assert source.stored_type(EMBEDDING) == dtype
    assert all(same_bits(source.read(name), weights[name]) for name in weights)


def test_files_of_the_safetensors_library_are_read_alike(tmp_path: Path) -> None:
    numpy_files = pytest.importorskip("safetensors.numpy")
    architecture = tiny()
    weights = random_weights(architecture)
    write_checkpoint(tmp_path, architecture, weights)
    numpy_files.save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    source = SafetensorsSource(tmp_path)
    assert all(same_bits(source.read(name), weights[name]) for name in weights)


def test_large_tensors_are_read_in_parts_without_a_seam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture = tiny()
    weights = random_weights(architecture)
    monkeypatch.setattr("ondevice.export.weights.CHUNK", 777)
    source = SafetensorsSource(write_checkpoint(tmp_path, architecture, weights))
    assert same_bits(source.read(EMBEDDING), weights[EMBEDDING])


def test_legacy_names_of_rope_scaling_and_defaults_are_understood(tmp_path: Path) -> None:
    architecture = tiny("llama", rope=Rope(10000.0, 16, LLAMA3), kv_heads=4)
    write_checkpoint(tmp_path, architecture)
    config = tmp_path / "config.json"
    section = json.loads(config.read_text())["rope_scaling"]
    section["type"] = section.pop("rope_type")
    edit_json(config, rope_scaling=section, rope_theta=..., head_dim=..., num_key_value_heads=...)
    assert SafetensorsSource(tmp_path).architecture == architecture


def test_a_tied_head_and_rotary_tables_in_the_file_are_passed_over(tmp_path: Path) -> None:
    architecture = tiny(tied_embeddings=True)
    weights = random_weights(architecture)
    more = {
        HEAD: weights[EMBEDDING],
        "model.layers.0.self_attn.rotary_emb.inv_freq": weights[FINAL_NORM],
    }
    write_checkpoint(tmp_path, architecture, weights | more)
    assert SafetensorsSource(tmp_path).architecture == architecture


def test_origin_has_the_base_name_and_hashes_and_no_path(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "my-model", tiny(), shards=2)
    origin = SafetensorsSource(tmp_path / "my-model").origin()
    assert origin.id == "my-model" and origin.format == "safetensors"
    assert {"config.json", "tokenizer.json", "model-00001-of-00002.safetensors"} <= set(
        origin.files
    )
    edit_json(tmp_path / "my-model" / "config.json", _name_or_path="/home/someone/secret/Nice-1B")
    origin = SafetensorsSource(tmp_path / "my-model").origin()
    assert origin.id == "Nice-1B" and "someone" not in repr(origin)


def test_a_closed_source_refuses_to_read(tmp_path: Path) -> None:
    source = SafetensorsSource(write_checkpoint(tmp_path, tiny()))
    source.close()
    with pytest.raises(SourceError, match="no tensor"):
        source.read(EMBEDDING)


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"model_type": "gemma"}, "'gemma'; known are llama, mistral, qwen2"),
        ({"model_type": ...}, "has no model_type"),
        ({"hidden_act": "gelu"}, "hidden_act to 'gelu': only silu, swish"),
        ({"sliding_window": 32}, "windowed attention"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"partial_rotary_factor": 0.5}, "partial rotation"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type to 'yarn'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "type to 'dynamic'"),
        ({"rope_scaling": [1]}, "not an object"),
        ({"quantization_config": {"bits": 4}}, "already quantized"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers .* from 1 to 1024"),
        ({"num_hidden_layers": 3}, r"has no tensor model\.layers\.2"),
        ({"num_key_value_heads": 3}, "must be a multiple"),
        ({"rms_norm_eps": -1}, "positive number"),
        ({"head_dim": 15}, "must be even"),
        ({"intermediate_size": 128}, r"mlp.gate_proj.weight .* \(96, 64\), .* says \(128, 64\)"),
        ({"vocab_size": 300}, r"embed_tokens.weight .* \(264, 64\), .* says \(300, 64\)"),
        ({"tie_word_embeddings": "no"}, "true or false"),
    ],
)
def test_configurations_that_do_not_fit_are_named(
    tmp_path: Path, changes: dict[str, Any], pattern: str
) -> None:
    write_checkpoint(tmp_path, tiny())
    edit_json(tmp_path / "config.json", **changes)
    refused(tmp_path, pattern)


def test_a_window_that_qwen2_does_not_use_is_passed_over(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, tiny("qwen2"))
    edit_json(tmp_path / "config.json", sliding_window=32, use_sliding_window=False)
    assert SafetensorsSource(tmp_path).architecture == tiny("qwen2")


def test_missing_things_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "does not exist")
    (tmp_path / "file.txt").write_text("no model")
    refused(tmp_path / "file.txt", "neither a .gguf file nor a folder")
    refused(tmp_path, "neither model.safetensors nor")
    for name in ("config.json", "tokenizer.json"):
        folder = write_checkpoint(tmp_path / name.removesuffix(".json"), tiny())
        (folder / name).unlink()
        refused(folder, f"{name} is missing")


def test_a_pickled_checkpoint_is_refused_unread(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, tiny())
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04would run code")
    refused(tmp_path, "only pickled weights.*convert them to safetensors")


def test_shards_missing_outside_or_twice_are_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", tiny(), shards=2)
    index = tmp_path / "a" / "model.safetensors.index.json"
    homes = json.loads(index.read_text())["weight_map"]
    for name in ("../b.safetensors", "/etc/passwd", "sub/x.safetensors", "C:\\x", "..", ""):
        edit_json(index, weight_map=homes | {EMBEDDING: name})
        refused(tmp_path / "a", "is not a file of this folder|is missing")
    edit_json(index, weight_map=homes | {EMBEDDING: 7})
    refused(tmp_path / "a", "is 7, not a text")
    edit_json(index, weight_map={})
    refused(tmp_path / "a", "has no weight_map")
    edit_json(index, weight_map=homes)
    second = tmp_path / "a" / "model-00002-of-00002.safetensors"
    whole = second.read_bytes()
    second.write_bytes((tmp_path / "a" / "model-00001-of-00002.safetensors").read_bytes())
    refused(tmp_path / "a", "stands in two files")
    second.unlink()
    refused(tmp_path / "a", "model-00002-of-00002.safetensors is missing")
    second.write_bytes(whole)
    assert SafetensorsSource(tmp_path / "a").architecture == tiny()


def header(**entry: Any) -> Callable[[bytes], bytes]:
    """Replace fields of the header's entry of the final norm."""

    def change(data: bytes) -> bytes:
        length = int.from_bytes(data[:8], "little")
        values = json.loads(data[8 : 8 + length])
        values[FINAL_NORM] |= entry
        text = json.dumps(values).encode()
        return len(text).to_bytes(8, "little") + text + data[8 + length :]

    return change


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (lambda data: b"", "truncated"),
        (lambda data: data[:100], "truncated"),
        (lambda data: data[:-1], "truncated"),
        (lambda data: b"\xff" * 8 + data[8:], "header would be"),
        (lambda data: data[:8] + b"\xff" + data[9:], "not JSON"),
        (lambda data: (2).to_bytes(8, "little") + b"[]", "not a JSON object"),
        (header(shape=[-64]), "not sound"),
        (header(shape=[2**40, 2**40]), "does not fit"),
        (header(shape=[64, 1]), r"model.norm.weight .* has the shape \(64, 1\)"),
        (header(data_offsets=[0, 8]), "does not fit"),
        (header(data_offsets=[8, 0]), "not sound"),
        (header(data_offsets=[2**62, 2**62 + 256]), "truncated"),
        (header(dtype="I64"), "model.norm.weight .* has the type I64"),
        (header(dtype=3), "not sound"),
    ],
)
def test_a_damaged_weight_file_is_refused_in_one_line(
    tmp_path: Path, change: Callable[[bytes], bytes], pattern: str
) -> None:
    path = write_checkpoint(tmp_path, tiny()) / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))
    refused(tmp_path, pattern)


def test_tensors_missing_unused_or_not_numbers_are_named(tmp_path: Path) -> None:
    architecture = tiny()
    weights = random_weights(architecture)
    write_checkpoint(tmp_path, architecture)
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {n: v for n, v in weights.items() if n != FINAL_NORM})
    refused(tmp_path, "no tensor model.norm.weight")
    write_safetensors(
        path, weights | {"model.layers.0.self_attn.q_norm.weight": weights[FINAL_NORM]}
    )
    refused(tmp_path, "q_norm.weight', which its architecture has no place for")
    weights[FINAL_NORM][5] = np.nan
    write_safetensors(path, weights)
    refused(tmp_path, "model.norm.weight .* holds NaN")


def test_special_tokens_and_template_come_from_the_usual_files(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, tiny(), template=None)
    found = SafetensorsSource(tmp_path).tokenizer
    eos = tokens().index(EOS)
    assert (found.eos_ids, found.pad_id, found.bos_id) == ((eos,), eos, None)
    assert found.chat_template is None
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    edit_json(tmp_path / "tokenizer_config.json", chat_template=named)
    edit_json(tmp_path / "generation_config.json", eos_token_id=[3, eos])
    found = SafetensorsSource(tmp_path).tokenizer
    assert (found.chat_template, found.eos_ids) == ("D", (3, eos))
    edit_json(tmp_path / "tokenizer_config.json", chat_template="S")
    assert SafetensorsSource(tmp_path).tokenizer.chat_template == "S"
    (tmp_path / "chat_template.jinja").write_text("J")
    assert SafetensorsSource(tmp_path).tokenizer.chat_template == "J"


def test_a_first_token_that_only_the_config_asks_for_is_written_into_the_tokenizer(
    tmp_path: Path,
) -> None:
    from tokenizers import Tokenizer

    write_checkpoint(tmp_path, tiny())
    bos = config_json(tiny())["bos_token_id"]
    plain = Tokenizer.from_str(SafetensorsSource(tmp_path).tokenizer.tokenizer_json)
    edit_json(tmp_path / "tokenizer_config.json", add_bos_token=True)
    for _ in range(2):  # the second time tokenizer.json adds it already
        found = SafetensorsSource(tmp_path).tokenizer
        tokenizer = Tokenizer.from_str(found.tokenizer_json)
        assert found.bos_id == bos
        assert tokenizer.encode("the end").ids == [bos, *plain.encode("the end").ids]
        (tmp_path / "tokenizer.json").write_text(found.tokenizer_json, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "text", "pattern"),
    [
        ("tokenizer.json", "{", "is not a tokenizer"),
        ("tokenizer.json", '{"model": {"type": "Nonsense"}}', "is not a tokenizer"),
        ("tokenizer_config.json", "[]", "not a JSON object"),
        ("tokenizer_config.json", '{"eos_token": "<none>"}', "'<none>' as eos_token"),
        ("tokenizer_config.json", '{"chat_template": 5}', "chat_template"),
        ("generation_config.json", '{"eos_token_id": [1, 99999]}', "made of ids below 264"),
        ("generation_config.json", '{"eos_token_id": "x"}', "made of ids below 264"),
        ("config.json", "[" * 100000, "is not JSON"),
    ],
)
def test_damaged_text_files_are_refused_in_one_line(
    tmp_path: Path, name: str, text: str, pattern: str
) -> None:
    (write_checkpoint(tmp_path, tiny(), template=None) / name).write_text(text, encoding="utf-8")
    refused(tmp_path, pattern)


def test_text_files_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    (write_checkpoint(tmp_path, tiny()) / "tokenizer_config.json").write_bytes(b'{"a": "\xff"}')
    refused(tmp_path, "not UTF-8")


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, tiny(vocab_size=200))
    refused(tmp_path, "tokens up to id 263, the token embedding has 200 rows")


def test_added_tokens_without_a_row_are_left_out(tmp_path: Path) -> None:
    """Gemma 3's text models come with a token of an image."""
    from tokenizers import AddedToken, Tokenizer

    path = write_checkpoint(tmp_path, tiny()) / "tokenizer.json"
    plain = Tokenizer.from_file(str(path))
    larger = Tokenizer.from_file(str(path))
    larger.add_special_tokens([AddedToken("<image>", special=True)])
    path.write_text(larger.to_str(), encoding="utf-8")
    assert larger.encode("the<image>").ids[-1] == len(tokens())
    found = Tokenizer.from_str(SafetensorsSource(tmp_path).tokenizer.tokenizer_json)
    assert found.to_str() == plain.to_str()
