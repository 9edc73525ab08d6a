"""Static graphs for NPUs: parity, published operators, the engine that runs them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from checkpoints import long_rope, tiny, write_checkpoint
from numpy.typing import NDArray

from ondevice.errors import EngineError, ExportError, RequestError
from ondevice.export import reference
from ondevice.export.architecture import Architecture, Rope
from ondevice.export.convert import convert
from ondevice.export.npu.operators import check_operators, outside, published
from ondevice.export.npu.ranges import activation_ranges, smoothing
from ondevice.export.npu.write import write_static_graphs
from ondevice.export.quantize.rows import quantize_rows
from ondevice.export.recipe import Options
from ondevice.export.source import open_source
from ondevice.package import Package
from ondevice.runtime.engines import open_engine
from ondevice.runtime.npu import NpuEngine
from ondevice.runtime.threads import measure

CONTEXT = 192
ARCHITECTURES = {
    "llama": tiny("llama", tied_embeddings=True),
    "odd shapes": tiny("qwen3", hidden_size=80, heads=9, kv_heads=3, vocab_size=271),
    "qwen2": tiny("qwen2"),
    "phi3 partial": tiny("phi3", head_dim=32, hidden_size=128, rope=Rope(10000.0, 16)),
    "gemma2": tiny("gemma2", window=256),
    "gemma3": tiny("gemma3_text", window=0),
    "smollm3": tiny("smollm3"),
}


def tokens(count: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(3).integers(0, 260, count)]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def exact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A package whose static graphs are in float32, with its checkpoint beside it."""
    folder = tmp_path_factory.mktemp("npu")
    checkpoint = write_checkpoint(folder / "checkpoint", ARCHITECTURES[request.param])
    package = convert(
        checkpoint, "npu-int8", folder / "out", options=Options(context=CONTEXT), accept=True
    )
    (package.folder / "model.onnx.data").unlink()
    source = open_source(checkpoint)
    write_static_graphs(source, package.folder, activation_bits=None, context=CONTEXT)
    return package


def expected(package: Package, ids: list[int]) -> NDArray[np.float32]:
    source = open_source(package.folder.parent / "checkpoint")
    return reference.logits(source, reference.reference_hidden(source, [ids])[0])


def test_static_graphs_give_the_logits_of_the_model(exact: Package) -> None:
    ids = tokens(170)
    engine = NpuEngine(exact, 1)
    parts = [engine.verify(ids[:130]), *(engine.verify([i]) for i in ids[130:146])]
    found = np.concatenate([*parts, engine.verify(ids[146:])])
    assert np.abs(found - expected(exact, ids)).max() <= 2e-4


@pytest.mark.parametrize("count", [1, 2, 127, 128, 129, 192])
def test_prompts_of_any_length_are_filled_up(exact: Package, count: int) -> None:
    ids = tokens(count)
    engine = NpuEngine(exact, 1)
    np.testing.assert_allclose(engine.prefill(ids), expected(exact, ids)[-1], atol=2e-4)
    assert engine.position == count
    with pytest.raises(RequestError, match="do not fit"):
        engine.prefill(tokens(CONTEXT + 1 - count))


def test_rewinding_and_snapshots_leave_nothing_behind(exact: Package) -> None:
    ids = tokens(40)
    engine, other = NpuEngine(exact, 1), NpuEngine(exact, 1)
    engine.prefill([7] * 60)
    engine.rewind(0)
    engine.prefill(ids[:30])
    other.restore(engine.snapshot())
    for each in (engine, other):
        np.testing.assert_allclose(each.prefill(ids[30:]), expected(exact, ids)[-1], atol=2e-4)
    with pytest.raises(RequestError, match="not made by this package"):
        other.restore(b"1234")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("npu")
    checkpoint = write_checkpoint(folder / "checkpoint", tiny("llama", tied_embeddings=True))
    return convert(checkpoint, "npu-int8", folder / "out", options=Options(context=CONTEXT))


def models(package: Package) -> list[ir.Model]:
    return [ir.load(package.folder / name) for name in ("model.onnx", "prefill.onnx")]


def test_every_operator_is_in_every_published_list(package: Package) -> None:
    assert set(published()) == {
        "QNNExecutionProvider",
        "OpenVINOExecutionProvider",
        "VitisAIExecutionProvider",
    }
    for model in models(package):
        assert outside(model) == {}
        assert {node.domain for node in model.graph} == {""}


def test_an_operator_outside_a_list_is_named(package: Package) -> None:
    model = models(package)[0]
    node = next(node for node in model.graph if node.op_type == "Einsum")
    for domain, kind, name in (
        ("", "Gelu", "Gelu"),
        ("com.microsoft", "MatMulNBits", "MatMulNBits"),
    ):
        node.domain, node.op_type = domain, kind
        with pytest.raises(ExportError, match=f"uses .*{name}.*, which the published list of"):
            check_operators(model)


def test_shapes_are_static_and_weights_8_bit_and_stored_once(package: Package) -> None:
    decode, prefill = models(package)
    for model, count in ((decode, 1), (prefill, 128)):
        sizes = {value.name: list(value.shape or ()) for value in model.graph.inputs}
        assert sizes["input_ids"] == [count]
        assert sizes["attention_mask"] == [count, CONTEXT + count]
        assert sizes["past_key_values.0.key"] == [2, CONTEXT, 16]
        kinds = [node.op_type for node in model.graph]
        assert kinds.count("Gemm") == 2 * 7 + 1
        assert kinds.count("QuantizeLinear") == 2 * 4 + 1
    places = [
        {
            name: (value.const_value.offset, value.const_value.length)
            for name, value in model.graph.initializers.items()
            if isinstance(value.const_value, ir.ExternalTensor)
        }
        for model in (decode, prefill)
    ]
    assert places[0] == places[1]
    assert package.total_bytes < 1.6 * sum(length or 0 for _, length in places[0].values()) + 3e5


def test_the_package_says_how_it_was_made_and_answers(package: Package) -> None:
    recipe, proof = package.manifest.recipe, package.manifest.proof
    assert recipe.tensors == {"int8 per row, activations of 16 bits": 15}
    assert recipe.quantization is not None and recipe.quantization.calibration is not None
    assert package.manifest.shape.context_length == CONTEXT
    assert proof is not None and proof.engine == "npu" and proof.kl_mean < 0.05
    assert measure(package, (1, 2)) in (1, 2)
    engine = open_engine(package, threads=1)
    assert engine.name == "npu" and engine.prefill([1, 2, 3]).shape == (264,)
    with pytest.raises(EngineError, match="genai engine cannot run static graphs"):
        open_engine(package, "genai", threads=1)


def test_smoothing_takes_single_large_columns_out_of_activations(tmp_path: Path) -> None:
    source = open_source(write_checkpoint(tmp_path / "c", tiny("llama")))
    ranges = activation_ranges(source, [tokens(60)])
    name = "model.layers.0.self_attn.q_proj.weight"
    grown = ranges[name].high.copy()
    grown[5] = 1000
    ranges[name] = replace(ranges[name], high=grown)
    factors = smoothing(source, ranges, 0.5)["model.layers.0.input_layernorm.weight"]
    assert factors.argmax() == 5
    smooth = ranges[name].over(factors)
    assert smooth.high.max() / np.median(smooth.high) < 0.2 * 1000 / np.median(grown)


def test_8_bit_activations_are_smoothed_and_coarser(package: Package, tmp_path: Path) -> None:
    checkpoint = package.folder.parent / "checkpoint"
    options = Options(context=CONTEXT, activation_bits=8)
    coarse = convert(checkpoint, "npu-int8", tmp_path / "o", options=options, accept=True)
    proofs = (coarse.manifest.proof, package.manifest.proof)
    assert proofs[0] is not None and proofs[1] is not None
    assert proofs[1].kl_mean < proofs[0].kl_mean < 1.0


def test_rows_are_rounded_to_their_own_scale() -> None:
    weight = np.random.default_rng(0).standard_normal((20, 64)).astype(np.float32)
    weight[3] *= 1000
    weight[4] = 0
    integers, scales = quantize_rows(weight)
    change = integers * scales[:, None] - weight
    relative = np.abs(change).max(axis=1) / np.maximum(np.abs(weight).max(axis=1), 1e-9)
    assert relative.max() < 0.3 and relative[3] < 0.3 and not integers[4].any()
    importance = np.zeros(64, np.float32)
    importance[:8] = 1
    weighed, its = quantize_rows(weight, importance)
    errors = [
        np.square((q * s[:, None] - weight)[:, :8]).sum()
        for q, s in ((weighed, its), (integers, scales))
    ]
    assert errors[0] < errors[1]


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (tiny("mistral", window=24), "window of 24 tokens is narrower .* --context 24"),
        (tiny("phi3", rope=long_rope()), "LongRoPE beyond 64 .* --context 64"),
    ],
)
def test_what_static_graphs_cannot_say_is_refused(
    architecture: Architecture, message: str, tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", architecture)
    with pytest.raises(ExportError, match=message):
        convert(checkpoint, "npu-int8", tmp_path / "out", options=Options(context=CONTEXT))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("npu-int8", Options(block=32), "so --block has no place"),
        ("npu-int8", Options(activation_bits=4), "choose 8 or 16"),
        ("npu-int8", Options(context=0), "--context 0 cannot be"),
        ("cpu-int8", Options(context=64), "is for --target npu-int8 and those of Core ML"),
        ("coreml-gpu", Options(activation_bits=8), "is for --target npu-int8"),
    ],
)
def test_options_that_do_not_go_with_the_target_are_named(
    target: str, options: Options, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        convert(tmp_path / "absent", target, tmp_path / "out", options=options)


def test_graphs_that_do_not_fit_their_manifest_are_refused(package: Package) -> None:
    for changed in ({"kv_heads": 4}, {"vocab_size": 300}, {"context_length": 64}):
        shape = replace(package.manifest.shape, **changed)
        other = Package(package.folder, replace(package.manifest, shape=shape))
        with pytest.raises(EngineError, match="does not hold the static graphs"):
            NpuEngine(other, 1)
