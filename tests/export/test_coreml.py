"""Core ML packages, evaluated: against transformers, against the ONNX package, and when damaged."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import LLAMA3, long_rope, random_weights, tiny, write_checkpoint
from coreml_parity import (
    CACHE,
    CONTEXT,
    FP32,
    Run,
    cache_difference,
    dequantized,
    difference,
    evaluated,
    export,
    half_weights,
    require_parity,
    with_transformers,
)

from ondevice import cli
from ondevice.errors import ExportError, OndeviceError, ProofError
from ondevice.export import rotary
from ondevice.export.architecture import EMBEDDING, Architecture, Rope
from ondevice.export.convert import convert
from ondevice.export.coreml import decoder
from ondevice.export.coreml.check import check
from ondevice.export.coreml.evaluate import Program
from ondevice.export.coreml.mlpackage import MLPackage
from ondevice.export.coreml.model import EvaluatedModel
from ondevice.export.coreml.on_device import compare_with_stored
from ondevice.export.coreml.weights import mil_name
from ondevice.export.coreml.write import write_mlpackage
from ondevice.export.recipe import Options, Quantizer, find_target
from ondevice.export.source import Source, open_source
from ondevice.package import Package, open_package
from ondevice.runtime.coreml import causal_mask

LLAMA3_ROPE = Rope(10000.0, 16, replace(LLAMA3, original_context_length=8))
ARCHITECTURES = {
    "llama with llama3 rope": tiny("llama", rope=LLAMA3_ROPE),
    "llama with biases": tiny("llama", qkv_bias=True, output_bias=True, mlp_bias=True),
    "odd hidden size, heads and vocabulary": tiny(
        "qwen3", hidden_size=80, intermediate_size=72, heads=9, kv_heads=3, vocab_size=271
    ),
    "qwen2 tied": tiny("qwen2", tied_embeddings=True),
    "qwen3": tiny("qwen3"),
    "mistral": tiny("mistral"),
    "mistral with a window": tiny("mistral", window=8),
    "phi3": tiny("phi3"),
    "phi3 partial longrope": tiny(
        "phi3", hidden_size=128, head_dim=32, rope=long_rope(16, original=48), kv_heads=1
    ),
    "gemma2": tiny("gemma2", window=8),
    "gemma2 with another scale": tiny("gemma2", attention_scale=24**-0.5),
    "gemma3": tiny("gemma3_text", window=8),
    "smollm3": tiny("smollm3"),
}
GRID = ("qwen2 tied", "llama with biases", "gemma2")  # tried with 4 bits too


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_and_cache_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    architecture = ARCHITECTURES[name]
    checkpoint = write_checkpoint(tmp_path / "checkpoint", architecture, half_weights(architecture))
    package = export(checkpoint, tmp_path / "out", "coreml-fp16")
    expected = with_transformers(checkpoint, architecture)
    require_parity(package, architecture, expected)


@pytest.mark.parametrize("name", GRID)
def test_four_bits_give_what_the_dequantized_weights_give(name: str, tmp_path: Path) -> None:
    architecture = ARCHITECTURES[name]
    checkpoint = write_checkpoint(tmp_path / "checkpoint", architecture, half_weights(architecture))
    package = export(checkpoint, tmp_path / "out", "coreml-gpu")
    expected = with_transformers(dequantized(checkpoint, architecture, "coreml-gpu"), architecture)
    found = evaluated(package, architecture)
    assert difference(found, expected) <= FP32
    assert cache_difference(found, expected) <= CACHE


@pytest.mark.parametrize(
    "options", [{}, {"symmetric": False}, {"head_bits": 4}], ids=["4", "asymmetric", "head 4"]
)
def test_the_integers_are_those_of_the_onnx_package(
    options: dict[str, Any], tmp_path: Path
) -> None:
    import onnx

    architecture = tiny("qwen2")
    checkpoint = write_checkpoint(tmp_path / "checkpoint", architecture)
    package = export(checkpoint, tmp_path / "coreml", "coreml-gpu", **options)
    other = convert(
        checkpoint, "cpu-int4", tmp_path / "onnx", options=Options(**options), accept=True
    )
    stored = {
        tensor.name: onnx.numpy_helper.to_array(tensor, str(other.folder))
        for tensor in onnx.load(other.model_file, load_external_data=False).graph.initializer
    }
    program = Program(package.model_file)
    matrices = [n for n, shape in architecture.tensor_shapes().items() if len(shape) == 2]
    for name in matrices:
        parts = program.stored(mil_name(name))
        integers = parts["data"].astype(np.int16)
        bits = 4 if integers.max() - integers.min() < 16 else 8
        if "offset" not in parts:
            integers += 2 ** (bits - 1)
        packed = stored[f"{name}.integers"].reshape(len(integers), -1)
        if bits == 4:
            packed = np.stack([packed & 15, packed >> 4], axis=2).reshape(len(packed), -1)
        assert np.array_equal(integers, packed[:, : integers.shape[1]]), name
        assert np.array_equal(parts["scale"], stored[f"{name}.scales"]), name


def test_two_exports_have_the_same_bytes(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", tiny("llama"))
    first, second = (export(checkpoint, tmp_path / n, "coreml-gpu") for n in ("one", "two"))
    assert first.manifest.files == second.manifest.files


def test_functions_share_their_weights_and_declare_what_core_ml_needs(tmp_path: Path) -> None:
    architecture = tiny("llama")
    checkpoint = write_checkpoint(tmp_path / "checkpoint", architecture)
    package = export(checkpoint, tmp_path / "out", "coreml-fp16")
    opened = MLPackage(package.model_file)
    assert opened.functions == ("main", "decode")
    weights = package.model_file / "Data/com.apple.CoreML/weights/weight.bin"
    parameters = package.manifest.shape.parameters
    assert 2 * parameters < weights.stat().st_size < 2.2 * parameters
    size = (architecture.layers, architecture.kv_heads, CONTEXT, architecture.head_dim)
    for function, most in (("main", CONTEXT), ("decode", 1)):
        assert {(s.name, s.shape) for s in opened.states(function)} == {
            ("keyCache", size),
            ("valueCache", size),
        }
        described = next(f for f in opened.spec.description.functions if f.name == function)
        ids, mask = (i.type.multiArrayType for i in described.input)
        assert [r.upperBound for r in mask.shapeRange.sizeRanges] == [1, 1, most, CONTEXT]
        if most > 1:
            assert [r.upperBound for r in ids.shapeRange.sizeRanges] == [1, CONTEXT]


# What a checker must see.


@dataclass
class Made:
    """A checkpoint, what transformers makes of it, and a source to write packages from."""

    source: Source
    architecture: Architecture
    expected: Run
    folder: Path

    def write(self, name: str) -> Package:
        """A package, proved by nobody."""
        template = open_package(self.folder / "good")
        out = self.folder / name
        out.mkdir()
        quantizer = Quantizer(self.source, find_target("coreml-fp16"))
        write_mlpackage(quantizer, out, CONTEXT)
        return Package(out, template.manifest)

    def is_right(self, package: Package) -> bool:
        found = evaluated(package, self.architecture)
        return (
            difference(found, self.expected) <= FP32
            and cache_difference(found, self.expected) <= CACHE
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder, architecture = tmp_path_factory.mktemp("checker"), tiny("llama")
    checkpoint = write_checkpoint(folder / "checkpoint", architecture, half_weights(architecture))
    export(checkpoint, folder / "good", "coreml-fp16")
    expected = with_transformers(checkpoint, architecture)
    return Made(open_source(checkpoint), architecture, expected, folder)


def edited(made: Made, name: str, edit: Callable[[Any, Any], None]) -> Package:
    """A package of which `edit` changed the operations of both functions."""
    package = made.write(name)
    model = package.model_file / "Data/com.apple.CoreML/model.mlmodel"
    spec = MLPackage(package.model_file).spec
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            edit(block, function)
    model.write_bytes(spec.SerializeToString())
    return package


def test_a_right_package_passes_the_check(made: Made) -> None:
    assert made.is_right(made.write("right"))


def test_a_flipped_bit_is_seen(made: Made) -> None:
    package = made.write("flipped")
    weights = package.model_file / "Data/com.apple.CoreML/weights/weight.bin"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 0x40
    weights.write_bytes(data)
    assert not made.is_right(package)


def test_swapped_keys_and_values_are_seen(made: Made) -> None:
    key, value = (mil_name(f"model.layers.1.self_attn.{p}_proj.weight") for p in "kv")

    def swap(block: Any, _: Any) -> None:
        for op in block.operations:
            for bound in op.inputs.values():
                for part in bound.arguments:
                    if part.name in (key, value) and op.type == "linear":
                        part.name = key if part.name == value else value

    assert not made.is_right(edited(made, "swapped", swap))


def test_a_missing_state_write_is_seen(made: Made) -> None:
    def remove(block: Any, _: Any) -> None:
        index = next(i for i, op in enumerate(block.operations) if op.type == "write_state")
        del block.operations[index]

    assert not made.is_right(edited(made, "unwritten", remove))


def test_a_position_off_by_one_is_seen(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the second function alone: rotary positions are relative."""
    calls, tables = [], rotary.tables

    def shifted(rope: Rope, positions: int) -> rotary.Tables:
        calls.append(rope)
        cos, sin = tables(rope, positions + 1)
        first = 0 if len(calls) == 1 else 1
        return cos[first : first + positions], sin[first : first + positions]

    monkeypatch.setattr(decoder.rotary, "tables", shifted)
    assert not made.is_right(made.write("shifted"))


def test_a_wrong_rope_base_is_seen(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = rotary.tables
    monkeypatch.setattr(
        decoder.rotary,
        "tables",
        lambda rope, positions: tables(replace(rope, theta=1.1 * rope.theta), positions),
    )
    assert not made.is_right(made.write("base"))


def test_squares_beyond_half_precision_are_survived(tmp_path: Path) -> None:
    """One channel of the embedding is 600: its square is not a number of half precision."""
    architecture = tiny("llama")
    weights = half_weights(architecture)
    weights[EMBEDDING][:, 7] = 600
    checkpoint = write_checkpoint(tmp_path / "checkpoint", architecture, weights)
    package = export(checkpoint, tmp_path / "out", "coreml-fp16")
    expected = with_transformers(checkpoint, architecture)
    found = evaluated(package, architecture, "fp16")
    assert (found.logits.argmax(axis=1) == expected.logits.argmax(axis=1)).all()


def test_the_check_finds_no_fault_in_a_right_package(made: Made) -> None:
    found = check(open_package(made.folder / "good"))
    assert found.overflowing == ()
    assert found.same_top >= found.tokens - 1
    assert found.cache_difference < 5e-3
    assert 1 < found.largest < 100


def test_the_check_names_what_half_precision_cannot_hold(made: Made, tmp_path: Path) -> None:
    architecture = tiny("llama")
    weights = half_weights(architecture)
    weights["model.layers.0.mlp.down_proj.weight"] *= 30000
    weights["model.layers.0.mlp.up_proj.weight"] *= 100
    checkpoint = write_checkpoint(tmp_path / "checkpoint", architecture, weights)
    with pytest.raises(ProofError, match="gives no numbers"):
        export(checkpoint, tmp_path / "out", "coreml-fp16")
    good, out = open_package(made.folder / "good"), tmp_path / "unproved"
    out.mkdir()
    write_mlpackage(Quantizer(open_source(checkpoint), find_target("coreml-fp16")), out, CONTEXT)
    shutil.copy(good.tokenizer_file, out)
    found = check(Package(out, good.manifest))
    assert found.overflowing and found.largest_in in found.overflowing


def test_rotary_angles_in_half_precision_are_seen_late_in_the_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions above 2,048 are no numbers of half precision, nor are their angles."""

    def computed(rope: Rope, positions: int) -> rotary.Tables:
        frequencies = rope.theta ** (-np.arange(0, rope.dim, 2) / rope.dim)
        angles = np.outer(np.arange(positions), frequencies).astype(np.float16)
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    architecture = tiny("llama", context_length=4096)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", architecture, half_weights(architecture))
    source, late = open_source(checkpoint), 3001
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    states = []
    for folder in (right, wrong):
        folder.mkdir()
        write_mlpackage(Quantizer(source, find_target("coreml-fp16")), folder, 4096)
        program = Program(folder / "model.mlpackage", "decode")
        state = program.make_state()
        feeds = {
            "inputIds": np.array([[5]], np.int32),
            "causalMask": causal_mask(late, 1, late + 1),
        }
        program.run(feeds, state)
        states.append(state["keyCache"][:, :, late])
        monkeypatch.setattr(decoder.rotary, "tables", computed)
    assert np.abs(states[0] - states[1]).max() > 0.5


# The command.


def test_verify_evaluates_packages(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made.folder / "good"
    assert cli.run(["verify", str(folder)]) == 0
    assert "half precision gives the same token at" in capsys.readouterr().out
    assert cli.run(["verify", f"{folder}/model.mlpackage", "--json"]) == 0
    functions = json.loads(capsys.readouterr().out)["functions"]
    assert set(functions) == {"main", "decode"}
    assert functions["main"]["inputs"] == ["inputIds", "causalMask"]
    assert cli.run(["verify", f"{folder}/other.mlpackage"]) == 2
    assert "is no Core ML package" in capsys.readouterr().err


# What cannot be.


def refused(checkpoint: Path, out: Path, target: str = "coreml-gpu", **options: Any) -> str:
    with pytest.raises(ExportError) as error:
        convert(checkpoint, target, out, options=Options(**options), accept=True)
    assert not out.exists()
    return str(error.value)


def test_a_width_that_no_block_divides_is_refused(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", tiny("qwen3", hidden_size=80))
    message = refused(checkpoint, tmp_path / "out")
    assert "80 columns" in message and "--block 16" in message


def test_a_width_that_no_block_at_all_divides_is_refused(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", tiny("llama", intermediate_size=72))
    assert "--target coreml-fp16" in refused(checkpoint, tmp_path / "out")


def test_a_context_beyond_16_bits_is_refused(tmp_path: Path) -> None:
    architecture = tiny("llama", context_length=65536)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", architecture)
    assert "32767" in refused(checkpoint, tmp_path / "out", context=40000)


def test_a_context_beyond_longrope_s_short_factors_is_refused(tmp_path: Path) -> None:
    architecture = ARCHITECTURES["phi3 partial longrope"]
    checkpoint = write_checkpoint(tmp_path / "checkpoint", architecture)
    message = refused(checkpoint, tmp_path / "out", "coreml-fp16", context=100)
    assert "--context 48 or less" in message


def test_weights_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    weights = random_weights(tiny("llama"))
    weights["model.norm.weight"][3] = 1e5
    checkpoint = write_checkpoint(tmp_path / "checkpoint", tiny("llama"), weights)
    assert "model.norm.weight" in refused(checkpoint, tmp_path / "out", "coreml-fp16")


def test_without_coremltools_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", tiny("llama"))
    for name in [n for n in sys.modules if n.startswith("ondevice.export.coreml")]:
        monkeypatch.delitem(sys.modules, name)
    import ondevice.export

    monkeypatch.delattr(ondevice.export, "coreml", raising=False)
    monkeypatch.setitem(sys.modules, "coremltools", None)
    assert "ondevice[coreml]" in refused(checkpoint, tmp_path / "out")


def test_an_operator_without_reference_is_named(made: Made) -> None:
    def rename(block: Any, _: Any) -> None:
        next(op for op in block.operations if op.type == "silu").type = "novel_gate"

    package = edited(made, "novel", rename)
    with pytest.raises(ExportError, match="novel_gate"):
        Program(package.model_file)


def test_weights_beyond_two_gigabytes_are_read(made: Made) -> None:
    """A sparse weight file in which a constant lies behind 5 GB."""
    far = 5 << 30
    package = made.write("large")
    weights = package.model_file / "Data/com.apple.CoreML/weights/weight.bin"
    name = mil_name("model.norm.weight")
    opened = MLPackage(package.model_file)
    expected = Program(opened).constant(name)
    data = weights.read_bytes()
    with weights.open("r+b") as file:
        file.seek(far)
        for operation in opened.block("main")[0].operations:
            if operation.outputs and operation.outputs[0].name == name:
                blob = operation.attributes["val"].blobFileValue
                record = data[blob.offset : blob.offset + 32]
                start = int.from_bytes(record[16:24], "little")
                size = int.from_bytes(record[8:16], "little")
                file.write(record[:16] + (far + 64).to_bytes(8, "little") + bytes(40))
                file.write(data[start : start + size])
                blob.offset = far
    model = package.model_file / "Data/com.apple.CoreML/model.mlmodel"
    model.write_bytes(opened.spec.SerializeToString())
    assert np.array_equal(Program(package.model_file).constant(name), expected)


@pytest.mark.parametrize("name", ["../../weight.bin", "/etc/passwd", "..\\weight.bin"])
def test_a_package_names_no_file_outside_itself(made: Made, name: str) -> None:
    def lead_out(block: Any, _: Any) -> None:
        for op in block.operations:
            if op.type == "const" and op.attributes["val"].WhichOneof("value") == "blobFileValue":
                op.attributes["val"].blobFileValue.fileName = f"@model_path/{name}"

    package = edited(made, f"outside-{len(name)}-{name[0] == '/'}", lead_out)
    with pytest.raises(OndeviceError):
        evaluated(package, made.architecture)


@pytest.mark.parametrize("part", ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel"])
def test_damaged_packages_are_one_error(made: Made, part: str) -> None:
    package = made.write(f"damaged-{len(part)}")
    path = package.model_file / part
    whole, chance = path.read_bytes(), np.random.default_rng(3)
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for place in chance.integers(0, len(data), 4):
            data[place] = chance.integers(0, 256)
        path.write_bytes(data[: chance.integers(1, len(data))] if chance.random() < 0.3 else data)
        try:
            evaluated(package, made.architecture)
        except OndeviceError:
            refused += 1
    assert refused > 20


def test_swift_transformers_finds_what_it_needs_of_a_tokenizer(made: Made) -> None:
    from transformers import AutoTokenizer

    folder = made.folder / "good"
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["clean_up_tokenization_spaces"] is False
    template = (folder / "chat_template.jinja").read_text("utf-8")
    assert config["chat_template"] == template
    messages = [{"role": "user", "content": "Why , then ?"}]
    theirs = AutoTokenizer.from_pretrained(folder)
    package = open_package(folder)
    assert theirs.eos_token_id == package.manifest.text.eos_ids[0]
    ids = theirs.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert theirs.decode(ids).count("Why , then ?") == 1


@pytest.mark.parametrize("context", [2, 8])
def test_a_short_context_stores_the_logits_it_has_room_for(context: int, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", tiny("llama"))
    package = export(checkpoint, tmp_path / "out", "coreml-fp16", context=context)
    compared = compare_with_stored(package, EvaluatedModel(package, "fp32"))
    assert compared.positions == context
    assert compared.largest_difference == 0
