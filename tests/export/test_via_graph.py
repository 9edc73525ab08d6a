"""Graphs of other exporters under the package's contract: same logits, driven by our engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from checkpoints import tokenizer_json
from onnx import TensorProto, helper
from via_graphs import (
    CONTEXT,
    VOCABULARY,
    WIDTH,
    Weights,
    growing,
    growing_logits,
    sharing,
    sharing_logits,
)

from ondevice.errors import ExportError
from ondevice.export.via.graph import CacheShape, cache_shape, load_graph, save_graph, to_contract
from ondevice.export.via.stored import describe_matrices
from ondevice.package import (
    Manifest,
    ModelShape,
    Package,
    Recipe,
    SourceInfo,
    Text,
    describe_files,
    open_package,
    write_manifest,
)
from ondevice.runtime.ort import OrtEngine

CACHE = CacheShape(layers=1, kv_heads=1, head_dim=WIDTH)
PROMPT, MORE = [3, 14, 15, 92], [65, 35]


def package(model: onnx.ModelProto, tmp_path: Path) -> Package:
    """The graph, adapted, in a package."""
    raw = tmp_path / "raw.onnx"
    onnx.save(model, raw)
    folder = tmp_path / "package"
    folder.mkdir()
    graph = load_graph(raw)
    to_contract(graph, VOCABULARY, CACHE)
    save_graph(graph, folder)
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    manifest = Manifest(
        name="toy",
        source=SourceInfo("toy", None, None, "safetensors", {}),
        shape=ModelShape("toy", VOCABULARY, WIDTH, 1, 1, 1, WIDTH, CONTEXT, 1),
        recipe=Recipe("cpu-fp32", 32.0, {}, {}),
        text=Text((), None, None, False),
        files=describe_files(folder),
        tools={},
    )
    write_manifest(folder, manifest)
    return open_package(folder)


@pytest.mark.parametrize("head", ["MatMul", "Gemm"])
def test_a_growing_cache_lives_in_a_fixed_buffer(head: str, tmp_path: Path) -> None:
    weights = Weights()
    engine = OrtEngine(package(growing(weights, head), tmp_path), 1, context_length=32)
    first = engine.prefill(PROMPT)
    assert np.allclose(first, growing_logits(weights, [PROMPT])[-1], atol=1e-4)
    both = engine.verify(MORE)
    assert np.allclose(both, growing_logits(weights, [PROMPT, MORE]), atol=1e-4)
    engine.rewind(2)
    again = engine.decode(7)
    assert np.allclose(again, growing_logits(weights, [PROMPT[:2], [7]])[-1], atol=1e-4)


def test_attention_that_shares_its_buffer_is_left_alone(tmp_path: Path) -> None:
    weights = Weights()
    made = package(sharing(weights), tmp_path)
    kinds = [node.op_type for node in onnx.load(made.model_file).graph.node]
    assert kinds.count("Slice") == 1  # in front of the output matrix
    engine = OrtEngine(made, 1, context_length=32)
    expected = sharing_logits(weights, PROMPT + MORE)
    assert np.allclose(engine.prefill(PROMPT), expected[3], atol=1e-4)
    assert np.allclose(engine.verify(MORE), expected[4:], atol=1e-4)


def test_hidden_states_are_what_the_output_matrix_sees(tmp_path: Path) -> None:
    weights = Weights()
    engine = OrtEngine(package(sharing(weights), tmp_path), 1)
    logits = engine.prefill(PROMPT)
    assert engine.hidden is not None
    assert np.allclose(engine.hidden @ weights.head + weights.bias, logits, atol=1e-4)


def test_the_output_matrix_is_multiplied_with_the_last_positions_only(tmp_path: Path) -> None:
    graph = onnx.load(package(sharing(Weights()), tmp_path).model_file).graph
    (head,) = [node for node in graph.node if node.op_type == "MatMul"]
    (cut,) = [node for node in graph.node if node.op_type == "Slice"]
    assert head.input[0] == cut.output[0] == "hidden_states"


def test_large_tensors_begin_at_pages_outside_the_graph(tmp_path: Path) -> None:
    made = package(growing(Weights()), tmp_path)
    model = onnx.load(made.model_file, load_external_data=False)
    offsets = {
        entry.name: int(next(p.value for p in entry.external_data if p.key == "offset"))
        for entry in model.graph.initializer
        if entry.external_data
    }
    assert set(offsets) == {"embedding", "places", "head", "bias"}
    assert all(offset % 4096 == 0 for offset in offsets.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda g: g.input.append(value("past.0.conv")), "has past.0.conv"),
        (lambda g: g.output.append(value("present.0.conv")), "has present.0.conv"),
        (lambda g: g.input.pop(1), "lacks attention_mask"),
        (lambda g: setattr(g.output[0].type.tensor_type, "elem_type", 10), "logits of the other"),
    ],
)
def test_graphs_that_the_runtime_cannot_drive_are_refused(
    change: object, words: str, tmp_path: Path
) -> None:
    model = growing(Weights())
    assert callable(change)
    change(model.graph)
    onnx.save(model, tmp_path / "raw.onnx")
    with pytest.raises(ExportError, match=words) as caught:
        to_contract(load_graph(tmp_path / "raw.onnx"), VOCABULARY, CACHE)
    assert "\n" not in str(caught.value)


def test_sizes_of_the_cache_are_read_off_the_inputs(tmp_path: Path) -> None:
    onnx.save(growing(Weights()), tmp_path / "raw.onnx")
    assert cache_shape(load_graph(tmp_path / "raw.onnx")) == CACHE
    onnx.save(sharing(Weights()), tmp_path / "free.onnx")
    with pytest.raises(ExportError, match="does not say how many KV heads"):
        cache_shape(load_graph(tmp_path / "free.onnx"))


def test_a_file_that_is_no_graph_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "raw.onnx").write_bytes(b"not a graph")
    with pytest.raises(ExportError, match=r"raw\.onnx of the other exporter cannot be read"):
        load_graph(tmp_path / "raw.onnx")


def test_matrices_are_counted_once_with_the_bits_they_take(tmp_path: Path) -> None:
    rows, columns, block = 8, 64, 32
    arrays = {
        "integers": np.zeros((rows, columns // block, block // 2), np.uint8),
        "scales": np.ones((rows, columns // block), np.float32),
        "plain": np.ones((columns, 4), np.float32),
        "norm": np.ones(columns, np.float32),
    }
    sizes = {"K": columns, "N": rows, "bits": 4, "block_size": block}
    nodes = [
        helper.make_node(
            "MatMulNBits", ["x", "integers", "scales"], [out], domain="com.microsoft", **sizes
        )
        for out in ("a", "b")
    ]
    nodes += [
        helper.make_node("Mul", ["x", "norm"], ["y"]),
        helper.make_node("MatMul", ["y", "plain"], ["c"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, columns])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "abc"],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    found = describe_matrices(ir.from_proto(helper.make_model(graph)), "a tool 1.0")
    assert found.tensors == {"int4 block 32, by a tool 1.0": 1, "float32": 1}
    assert found.bits_per_weight == pytest.approx((512 * 5 + 256 * 32) / 768, abs=1e-3)


def value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2])
