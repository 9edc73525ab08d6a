"""GGUF files: the numbers they hold, the integers taken over, and what is refused."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from checkpoints import (
    LLAMA3,
    random_blocks,
    random_weights,
    tiny,
    write_gguf,
)
from gguf.constants import GGMLQuantizationType
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import interleaved, rope_factors
from numpy.typing import NDArray

from ondevice.errors import SourceError
from ondevice.export.architecture import EMBEDDING, FINAL_NORM, HEAD, Architecture, Rope
from ondevice.export.gguf_reader import read_gguf
from ondevice.export.gguf_source import GGUFSource

Q, K = "model.layers.1.self_attn.q_proj.weight", "model.layers.1.self_attn.k_proj.weight"
OUT, DOWN = "model.layers.0.self_attn.o_proj.weight", "model.layers.0.mlp.down_proj.weight"

ARCHITECTURES = [
    tiny("llama"),
    tiny("llama", tied_embeddings=True, kv_heads=4),
    tiny("llama", qkv_bias=True, output_bias=True, mlp_bias=True),
    tiny("llama", head_dim=32, context_length=4096),
    tiny("qwen2"),
    tiny("qwen2", tied_embeddings=True, kv_heads=1, rope=Rope(1e6, 16)),
]


def same_bits(left: NDArray[np.float32], right: NDArray[np.float32]) -> bool:
    return left.shape == right.shape and left.tobytes() == right.tobytes()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architecture_and_weights_come_back_as_they_were(
    tmp_path: Path, architecture: Architecture
) -> None:
    weights = random_weights(architecture)
    source = GGUFSource(write_gguf(tmp_path / "m.gguf", architecture, weights))
    found = replace(source.architecture, norm_eps=architecture.norm_eps)
    assert found == architecture
    assert source.architecture.norm_eps == pytest.approx(architecture.norm_eps, rel=1e-6)
    assert all(same_bits(source.read(name), weights[name]) for name in weights)


def test_llama3_scaling_comes_as_frequency_factors(tmp_path: Path) -> None:
    architecture = tiny("llama", rope=Rope(10000.0, 16, LLAMA3))
    source = GGUFSource(write_gguf(tmp_path / "m.gguf", architecture))
    factors = rope_factors(architecture)
    assert factors is not None and factors.min() == 1 and factors.max() == 8
    assert source.architecture.rope == Rope(10000.0, 16, None, tuple(factors.tolist()))


@pytest.mark.parametrize(
    "kind", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
)
def test_each_type_is_read_as_the_gguf_package_dequantizes_it(tmp_path: Path, kind: str) -> None:
    architecture = tiny("qwen2", hidden_size=256, intermediate_size=256, head_dim=64)
    path = write_gguf(tmp_path / "m.gguf", architecture, matrices=kind)
    source = GGUFSource(path)
    stored = read_gguf(path).tensors["blk.0.ffn_down.weight"]
    assert source.stored_type(DOWN) == kind
    assert same_bits(source.read(DOWN), gguf.quants.dequantize(stored.read(), stored.type))


def test_values_that_a_type_holds_come_back_exactly(tmp_path: Path) -> None:
    architecture = tiny("llama")
    weights = random_weights(architecture)
    for name, values in weights.items():  # seven bits of mantissa fit in every float type
        weights[name] = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    for kind in ("F16", "BF16"):
        large = {n: np.where(abs(v) < 1e-3, np.float32(0), v) for n, v in weights.items()}
        source = GGUFSource(
            write_gguf(tmp_path / f"{kind}.gguf", architecture, large, matrices=kind)
        )
        assert all(same_bits(source.read(name), large[name]) for name in large)


@pytest.mark.parametrize("kind", ["Q4_0", "Q5_0", "Q8_0", "Q6_K"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_stored_grid_gives_the_same_bits_as_reading(tmp_path: Path, kind: str, family: str) -> None:
    architecture = tiny(family, hidden_size=256, intermediate_size=512, head_dim=64)
    source = GGUFSource(write_gguf(tmp_path / "m.gguf", architecture, matrices=kind))
    for name, shape in architecture.tensor_shapes().items():
        grid = source.stored_grid(name)
        assert (grid is not None) == (len(shape) == 2)
        if grid is not None:
            assert grid.zero_points is None
            assert same_bits(grid.dequantize(), source.read(name))


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_1", "Q5_1", "Q4_K", "Q5_K"])
def test_types_with_a_real_minimum_or_without_integers_have_no_stored_grid(
    tmp_path: Path, kind: str
) -> None:
    architecture = tiny("qwen2", hidden_size=256, intermediate_size=256, head_dim=64)
    source = GGUFSource(write_gguf(tmp_path / "m.gguf", architecture, matrices=kind))
    assert source.stored_grid(DOWN) is None


def unpacked(kind: str, block: bytes) -> tuple[list[int], list[float]]:
    """Integers about zero and scales of one block, by the layout in ggml-common.h."""

    def scale(at: int) -> np.float32:
        return np.float32(np.frombuffer(block, "<f2", 1, at)[0])

    if kind == "Q8_0":
        return list(struct.unpack("32b", block[2:])), [float(scale(0))]
    if kind == "Q4_0":
        low = [byte & 15 for byte in block[2:]]
        return [v - 8 for v in [*low, *(byte >> 4 for byte in block[2:])]], [float(scale(0))]
    if kind == "Q5_0":
        high = int.from_bytes(block[2:6], "little")
        nibbles = [*(byte & 15 for byte in block[6:]), *(byte >> 4 for byte in block[6:])]
        return [(n | (high >> i & 1) << 4) - 16 for i, n in enumerate(nibbles)], [float(scale(0))]
    values = []
    for i in range(256):
        half, within = divmod(i, 128)
        quarter, at = divmod(within, 32)
        nibble = block[64 * half + 32 * (quarter % 2) + at] >> 4 * (quarter // 2) & 15
        values.append((nibble | (block[128 + 32 * half + at] >> 2 * quarter & 3) << 4) - 32)
    factors = struct.unpack("16b", block[192:208])
    return values, [float(scale(208) * np.float32(f)) for f in factors]


BLOCK = {"Q4_0": (32, 18), "Q5_0": (32, 22), "Q8_0": (32, 34), "Q6_K": (256, 210)}


@pytest.mark.parametrize("kind", list(BLOCK))
def test_stored_integers_are_those_of_the_raw_bytes(tmp_path: Path, kind: str) -> None:
    architecture = tiny("qwen2", hidden_size=256, intermediate_size=512, head_dim=64)
    path = write_gguf(tmp_path / "m.gguf", architecture, matrices=kind)
    raw = read_gguf(path).tensors["blk.0.ffn_down.weight"].read()
    grid = GGUFSource(path).stored_grid(DOWN)
    assert grid is not None
    values, size = BLOCK[kind]
    for row in range(0, raw.shape[0], 17):
        blocks = [raw[row, i : i + size].tobytes() for i in range(0, raw.shape[1], size)]
        parts = [unpacked(kind, block) for block in blocks]
        expected = np.array([integer for integers, _ in parts for integer in integers])
        assert (grid.integers[row].astype(int) - 2 ** (grid.bits - 1) == expected).all()
        assert grid.scales[row].tolist() == [scale for _, scales in parts for scale in scales]
    assert len(blocks) * values == grid.integers.shape[1]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(list(BLOCK)))
def test_any_stored_block_becomes_the_same_numbers(
    tmp_path_factory: pytest.TempPathFactory, seed: int, kind: str
) -> None:
    architecture = tiny("qwen2", layers=1, hidden_size=256, intermediate_size=256, head_dim=64)
    path = write_gguf(tmp_path_factory.mktemp("any") / "m.gguf", architecture, matrices=kind)
    tensor = read_gguf(path).tensors["blk.0.ffn_up.weight"]
    blocks = random_blocks(tensor.shape, kind, np.random.default_rng(seed))
    data = path.read_bytes()
    start = data.index(tensor.read().tobytes())
    path.write_bytes(data[:start] + blocks.tobytes() + data[start + blocks.size :])
    source = GGUFSource(path)
    grid = source.stored_grid("model.layers.0.mlp.up_proj.weight")
    expected = gguf.quants.dequantize(blocks, GGMLQuantizationType[kind])
    assert grid is not None and same_bits(grid.dequantize(), expected)


def test_query_and_key_rows_of_llama_are_put_back_in_order(tmp_path: Path) -> None:
    architecture = tiny("llama")
    weights = random_weights(architecture)
    path = write_gguf(tmp_path / "m.gguf", architecture, weights)
    stored = read_gguf(path).tensors["blk.1.attn_q.weight"].read().view(np.float32)
    assert not same_bits(stored, weights[Q])
    assert same_bits(stored, interleaved(weights[Q], architecture, Q))
    source = GGUFSource(path)
    assert same_bits(source.read(Q), weights[Q]) and same_bits(source.read(K), weights[K])


def test_large_tensors_are_read_in_parts_without_a_seam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture = tiny("llama")
    path = write_gguf(tmp_path / "m.gguf", architecture, matrices="Q8_0", types={DOWN: "F32"})
    whole = [GGUFSource(path).read(name) for name in (EMBEDDING, Q)]
    grid = GGUFSource(path).stored_grid(EMBEDDING)
    monkeypatch.setattr("ondevice.export.weights.CHUNK", 200)
    parts = GGUFSource(path)
    assert all(same_bits(parts.read(n), w) for n, w in zip((EMBEDDING, Q), whole, strict=True))
    again = parts.stored_grid(EMBEDDING)
    assert grid is not None and again is not None
    assert (grid.integers == again.integers).all() and same_bits(grid.scales, again.scales)


def test_origin_names_the_model_and_no_path(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "file.gguf", tiny())
    origin = GGUFSource(path).origin()
    assert (origin.id, origin.licence, origin.format) == ("Tiny Random", "apache-2.0", "gguf")
    assert list(origin.files) == ["file.gguf"] and len(origin.files["file.gguf"]) == 64
    assert str(tmp_path) not in repr(origin)


def test_a_closed_source_refuses_to_read(tmp_path: Path) -> None:
    source = GGUFSource(write_gguf(tmp_path / "m.gguf", tiny()))
    source.close()
    with pytest.raises(SourceError, match="no tensor"):
        source.read(EMBEDDING)


def refused(path: Path, pattern: str) -> None:
    with pytest.raises(SourceError, match=pattern) as caught:
        source = GGUFSource(path)
        for name in source.architecture.tensor_shapes():
            source.read(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "pattern"),
    [
        ({"llama.block_count": None}, "has no llama.block_count"),
        ({"llama.block_count": 2**31}, "llama.block_count .* not a whole number from 1 to 1024"),
        ({"llama.block_count": "two"}, "llama.block_count .* is 'two'"),
        ({"llama.block_count": 3}, r"has no tensor blk\.2\."),
        ({"llama.attention.head_count": 5}, "must be a multiple"),
        ({"llama.rope.dimension_count": 8}, "partial rotation"),
        ({"llama.rope.scaling.type": "yarn"}, "rope scaling"),
        ({"llama.expert_count": 8}, "expert_count to 8"),
        ({"llama.attention.value_length": 8}, "one length"),
        ({"llama.rope.freq_base": float("nan")}, "positive number"),
        ({"llama.embedding_length": 32}, r"token_embd.weight .* has the shape \(264, 64\)"),
    ],
)
def test_keys_that_cannot_be_exported_are_named(
    tmp_path: Path, keys: dict[str, Any], pattern: str
) -> None:
    refused(write_gguf(tmp_path / "m.gguf", tiny(), keys=keys), pattern)


def test_an_unknown_architecture_names_the_known_ones(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "mamba")
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    refused(
        tmp_path / "m.gguf", "'mamba'; known are llama, qwen2, qwen3, phi3, gemma2, gemma3, smollm3"
    )


def test_an_unreadable_type_is_named_with_its_tensor(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", tiny())
    name = b"blk.0.ffn_up.weight"
    edit(path, lambda data: patched(data, data.index(name) + len(name) + 4 + 16, 23))  # IQ4_XS
    refused(path, "'blk.0.ffn_up.weight' .* has the type IQ4_XS, which cannot be read")
    edit(path, lambda data: patched(data, data.index(name) + len(name) + 4 + 16, 999))
    refused(path, "has the type number 999")


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def patched(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + value.to_bytes(4, "little") + data[at + 4 :]


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (lambda data: b"", "does not begin with 'GGUF'"),
        (lambda data: b"GGML" + data[4:], "does not begin with 'GGUF'"),
        (lambda data: patched(data, 4, 1), "version 1; versions 2 and 3"),
        (lambda data: patched(data, 4, 4), "version 4; versions 2 and 3"),
        (lambda data: patched(data, 4, 3 << 24), "big-endian"),
        (lambda data: data[:20], "truncated"),
        (lambda data: data[:2000], "truncated"),
        (lambda data: data[:-1000], "truncated"),
        (lambda data: data[:16] + b"\xff" * 8 + data[24:], "GGUF file|truncated"),
        (lambda data: data[:8] + b"\xff" * 8 + data[16:], "GGUF file|truncated"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(
    tmp_path: Path, change: Callable[[bytes], bytes], pattern: str
) -> None:
    path = write_gguf(tmp_path / "m.gguf", tiny())
    edit(path, change)
    refused(path, pattern)


def test_tensors_too_few_or_too_many_are_named(tmp_path: Path) -> None:
    architecture = tiny("qwen2", tied_embeddings=True)
    weights = random_weights(architecture)
    missing = {name: values for name, values in weights.items() if name != FINAL_NORM}
    refused(write_gguf(tmp_path / "a.gguf", architecture, missing), "no tensor output_norm.weight")
    extra = {**weights, "model.layers.0.mlp.up_proj.bias": np.zeros(96, np.float32)}
    refused(write_gguf(tmp_path / "b.gguf", architecture, extra), "'blk.0.ffn_up.bias', which")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_numbers_are_refused(tmp_path: Path, value: float) -> None:
    architecture = tiny()
    weights = random_weights(architecture)
    weights[HEAD][3, 5] = value
    path = write_gguf(tmp_path / "m.gguf", architecture, weights)
    refused(path, "lm_head.weight .* holds NaN or infinity")


def test_a_scale_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", tiny(), matrices="Q8_0")
    raw = read_gguf(path).tensors["blk.0.attn_output.weight"].read().tobytes()
    nan = np.float16(np.nan).tobytes()
    edit(path, lambda data: data.replace(raw, nan + raw[2:]))
    refused(path, re.escape(OUT) + " .* holds NaN or infinity")
    with pytest.raises(SourceError, match="NaN or infinity"):
        GGUFSource(path).stored_grid(OUT)


@pytest.mark.real_model
def test_a_real_file_is_read_and_its_integers_taken_over(smollm2_gguf: Path) -> None:
    source = GGUFSource(smollm2_gguf)
    assert (source.architecture.layers, source.architecture.heads) == (30, 9)
    assert source.architecture.kv_heads == 3 and source.architecture.tied_embeddings
    grid = source.stored_grid(EMBEDDING)
    assert source.stored_type(EMBEDDING) == "Q8_0" and source.stored_type(Q) == "Q4_1"
    assert grid is not None and same_bits(grid.dequantize(), source.read(EMBEDDING))
    assert source.stored_grid(Q) is None
