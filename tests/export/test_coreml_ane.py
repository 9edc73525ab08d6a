"""Core ML packages in the Neural Engine's layout: shapes that are fixed, tables of values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import FOR_ANE, long_rope, tiny, write_checkpoint
from coreml_parity import (
    FP32,
    dequantized,
    difference,
    evaluated,
    export,
    half_weights,
    require_parity,
    with_transformers,
)

from ondevice.errors import ExportError
from ondevice.export.architecture import Architecture
from ondevice.export.coreml import static_decoder
from ondevice.export.coreml.check import check
from ondevice.export.coreml.evaluate import Program
from ondevice.export.coreml.mlpackage import MLPackage
from ondevice.export.coreml.model import EvaluatedModel
from ondevice.export.coreml.weights import mil_name
from ondevice.export.quantize.gptq import error_factor, quantize_to_tables
from ondevice.export.quantize.tables import Tables, palettize
from ondevice.export.recipe import Quantizer, find_target
from ondevice.export.source import open_source
from ondevice.package import Package
from ondevice.runtime.coreml import STATIC_TOKENS

CONTEXT = 96


def ane(checkpoint: Path, out: Path, **options: Any) -> Package:
    return export(checkpoint, out, "coreml-ane", **{"context": CONTEXT, **options})


def small(name: str, **changes: Any) -> Architecture:
    return tiny(name, **{**FOR_ANE, **changes})


ARCHITECTURES = {
    "llama with biases": small("llama", qkv_bias=True, output_bias=True, mlp_bias=True),
    "qwen2 tied": small("qwen2", tied_embeddings=True),
    "qwen3": small("qwen3"),
    "mistral with a window": small("mistral", window=8),
    "phi3 partial longrope": small(
        "phi3", hidden_size=128, rope=long_rope(16, original=96), kv_heads=1
    ),
    "gemma2": small("gemma2", window=8),
    "gemma3": small("gemma3_text", window=8),
    "smollm3": small("smollm3", kv_heads=4),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_and_cache_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    architecture = ARCHITECTURES[name]
    checkpoint = write_checkpoint(tmp_path / "checkpoint", architecture, half_weights(architecture))
    package = ane(checkpoint, tmp_path / "out", quantizer="search")
    expected = with_transformers(dequantized(checkpoint, architecture, "coreml-ane"), architecture)
    require_parity(package, architecture, expected)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("ane")
    checkpoint = write_checkpoint(folder / "checkpoint", small("llama"))
    return ane(checkpoint, folder / "out", quantizer="search")


def test_a_prompt_gives_the_same_however_it_is_cut(package: Package) -> None:
    """Over several runs of `main`, filled up, and to the last position."""
    ids = [int(i) for i in np.random.default_rng(3).integers(0, 288, CONTEXT)]
    whole, single = EvaluatedModel(package, "fp32"), EvaluatedModel(package, "fp32")
    expected = np.stack([single.decode(token) for token in ids])
    assert np.abs(whole.verify(ids) - expected).max() < 1e-5
    for name, state in whole.state.items():
        assert np.abs(state - single.state[name]).max() < 1e-5, name
    for count in (1, 2, STATIC_TOKENS, STATIC_TOKENS + 1, STATIC_TOKENS + 2, CONTEXT):
        whole.rewind(0)
        assert np.abs(whole.prefill(ids[:count]) - expected[count - 1]).max() < 1e-5, count


def test_every_shape_is_fixed_and_every_product_a_convolution(package: Package) -> None:
    opened = MLPackage(package.model_file)
    for function, count in (("main", STATIC_TOKENS), ("decode", 1)):
        described = next(f for f in opened.spec.description.functions if f.name == function)
        inputs = {i.name: i.type.multiArrayType for i in described.input}
        assert {name: tuple(kind.shape) for name, kind in inputs.items()} == {
            "inputIds": (1, count),
            "position": (1,),
            "causalMask": (1, 1, count, CONTEXT),
        }
        assert not any(kind.WhichOneof("ShapeFlexibility") for kind in inputs.values())
        program = Program(opened, function)
        layers = package.manifest.shape.layers
        assert program.operators["conv"] == 7 * layers + (count == 1)
        assert program.operators["linear"] == 0
        assert program.operators["constexpr_blockwise_shift_scale"] == 0
        block, _ = opened.block(function)
        for op in block.operations:
            for out in op.outputs:
                sizes = out.type.tensorType.dimensions
                assert all(size.WhichOneof("dimension") == "constant" for size in sizes), out.name


def test_the_tables_are_the_quantizers(package: Package) -> None:
    source = open_source(package.folder.parent / "checkpoint")
    quantizer = Quantizer(source, find_target("coreml-ane"))
    program = Program(package.model_file, "decode")
    for name, shape in source.architecture.tensor_shapes().items():
        if len(shape) == 2:
            expected = quantizer.rows(name, slice(None)).values
            stored = program.stored(mil_name(name))
            assert np.array_equal(stored["indices"].reshape(shape), expected.indices), name
            assert np.array_equal(stored["lut"].reshape(expected.entries.shape), expected.entries)


def test_a_large_vocabulary_is_cut_into_convolutions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static_decoder, "_MOST_CHANNELS", 128)
    architecture = small("gemma2", tied_embeddings=True)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", architecture, half_weights(architecture))
    package = ane(checkpoint, tmp_path / "out", quantizer="search")
    expected = with_transformers(dequantized(checkpoint, architecture, "coreml-ane"), architecture)
    assert difference(evaluated(package, architecture), expected) <= FP32
    assert Program(package.model_file, "decode").operators["conv"] == 7 * architecture.layers + 3


def test_the_check_runs_and_two_exports_have_the_same_bytes(package: Package) -> None:
    found = check(package)
    assert not found.overflowing
    assert found.cache_difference < 0.01
    again = ane(
        package.folder.parent / "checkpoint", package.folder.parent / "again", quantizer="search"
    )
    assert again.manifest.files == package.manifest.files


@pytest.mark.parametrize(
    ("changes", "context", "said"),
    [
        ({"hidden_size": 80, "head_dim": 32}, CONTEXT, "hidden size of 80 .* --target coreml-gpu"),
        ({"head_dim": 16}, CONTEXT, "head's width of 16"),
        ({"vocab_size": 271}, CONTEXT, "vocabulary of 271"),
        ({}, 100, "context of 100 .* --context that is one, such as 128"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    changes: dict[str, Any], context: int, said: str, tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", small("llama", **changes))
    with pytest.raises(ExportError, match=said):
        export(checkpoint, tmp_path / "out", "coreml-ane", context=context)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"block": 32}, "--block has no place"),
        ({"bits": 4.5}, "--bits has no place"),
        ({"symmetric": False}, "--asymmetric has no place"),
        ({"quantizer": "rtn"}, "choose search, activation or gptq"),
    ],
)
def test_options_of_grids_are_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", small("llama"))
    with pytest.raises(ExportError, match=said):
        export(checkpoint, tmp_path / "out", "coreml-ane", context=CONTEXT, **options)


def test_what_activations_weigh_more_is_rounded_better() -> None:
    sizes = np.linspace(0.2, 2, 256, dtype=np.float32)
    weights = np.random.default_rng(1).normal(size=(32, 256)).astype(np.float32) * sizes
    importance = sizes**-4

    def error(importance_of_fit: Any) -> float:
        change = palettize(weights, 4, 16, importance_of_fit).dequantize() - weights
        return float((change**2 * importance).sum())

    assert error(importance) < 0.8 * error(None)


def test_gptq_lets_later_columns_make_up_for_the_error() -> None:
    chance = np.random.default_rng(2)
    inputs = chance.normal(size=(512, 64)).astype(np.float32) @ chance.normal(size=(64, 64))
    inputs = inputs.astype(np.float32)
    weights = chance.normal(size=(32, 64)).astype(np.float32)
    importance = (inputs**2).mean(axis=0)
    factor = error_factor(inputs.T @ inputs / len(inputs))

    def error(tables: Tables) -> float:
        return float(((inputs @ (tables.dequantize() - weights).T) ** 2).mean())

    found = quantize_to_tables(weights, 4, 16, factor, importance)
    plain = palettize(weights, 4, 16, importance)
    assert np.array_equal(found.entries, plain.entries)
    assert error(found) < 0.8 * error(plain)


def test_gptq_is_the_quantizer_unless_another_is_asked_for(
    package: Package, tmp_path: Path
) -> None:
    checkpoint = package.folder.parent / "checkpoint"
    chosen = {
        "default": {},
        "gptq": {"quantizer": "gptq"},
        "activation": {"quantizer": "activation"},
    }
    made = {name: ane(checkpoint, tmp_path / name, **options) for name, options in chosen.items()}
    assert made["default"].manifest.files == made["gptq"].manifest.files
    programs = [
        other.manifest.files["model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"].sha256
        for other in (package, made["gptq"], made["activation"])
    ]
    assert len(set(programs)) == 3
    quantization = made["default"].manifest.recipe.quantization
    assert quantization is not None
    assert quantization.quantizer == "gptq" and quantization.calibration is not None


def test_tables_have_the_error_of_the_best_for_normal_weights() -> None:
    """16 levels: mean square error 0.009497 of the variance (Max, 1960)."""
    weights = np.random.default_rng(0).normal(size=(64, 1024)).astype(np.float32)
    change = palettize(weights, 4, 16).dequantize() - weights
    assert 0.0090 < float((change**2).mean() / weights.var()) < 0.0098


def test_weights_of_few_values_are_kept_exactly() -> None:
    weights = np.array([[0.5, -1.0, 2.0, 0.0]] * 16, np.float32)
    assert np.array_equal(palettize(weights, 4, 16).dequantize(), weights)
    assert np.array_equal(palettize(0 * weights, 8, 16).dequantize(), 0 * weights)
