"""An encoder's package at work, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from checkpoints import tokenizer_json, tokens
from onnx import TensorProto, helper, numpy_helper

from ondevice.encoder_package import (
    EncoderManifest,
    EncoderPackage,
    EncoderShape,
    open_encoder,
)
from ondevice.errors import EngineError, OndeviceError, PackageError, RequestError, TooLongError
from ondevice.package import MANIFEST, Package, Recipe, SourceInfo, describe_files, write_manifest
from ondevice.runtime.encoder import Encoder

WIDTH = 4
TABLE = np.random.default_rng(0).standard_normal((len(tokens()), WIDTH)).astype(np.float32)


def graph(output: str, extra: str = "") -> onnx.ModelProto:
    """Token vectors, or their sum as the logits of a text."""
    shape = ["batch", "sequence"]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, shape)]
    if extra:
        inputs.append(helper.make_tensor_value_info(extra, TensorProto.INT64, shape))
    vectors = output if output == "last_hidden_state" else "vectors"
    nodes = [helper.make_node("Gather", ["table", "input_ids"], [vectors])]
    if output == "logits":
        nodes.append(helper.make_node("ReduceSum", ["vectors", "one"], [output], keepdims=0))
    tensors = [
        numpy_helper.from_array(TABLE, "table"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    out = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "encoder", inputs, [out], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def package(folder: Path, model: onnx.ModelProto, **changes: Any) -> EncoderPackage:
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    shape: dict[str, Any] = {
        "architecture": "toy",
        "vocab_size": len(tokens()),
        "context_length": 8,
        "width": WIDTH,
        "parameters": TABLE.size,
        "output": "last_hidden_state",
        "pooling": "mean",
        "labels": (),
    }
    manifest = EncoderManifest(
        name="toy",
        source=SourceInfo("toy", None, None, "safetensors", {}),
        encoder=EncoderShape(**(shape | changes)),
        recipe=Recipe("cpu-fp32", 32.0, {"float32": 1}, {}),
        files=describe_files(folder),
        tools={},
    )
    write_manifest(folder, manifest)
    return open_encoder(folder)


def test_a_texts_vector_is_the_mean_or_the_first_of_its_tokens(tmp_path: Path) -> None:
    mean = Encoder(package(tmp_path / "mean", graph("last_hidden_state")))
    rows = TABLE[mean.tokens("banana")]
    assert len(rows) > 2
    assert np.allclose(mean.vector("banana"), rows.mean(axis=0), atol=1e-6)
    first = Encoder(package(tmp_path / "cls", graph("last_hidden_state"), pooling="cls"))
    assert np.array_equal(first.vector("banana"), rows[0])


def test_a_classifier_gives_a_logit_for_each_label(tmp_path: Path) -> None:
    labels = ("a", "b", "c", "d")
    changes = {"output": "logits", "pooling": "none", "labels": labels}
    with Encoder(package(tmp_path / "p", graph("logits"), **changes)) as encoder:
        expected = TABLE[encoder.tokens("banana")].sum(axis=0)
        found = encoder.logits("banana")
        with pytest.raises(RequestError, match="is a classifier; ask for its logits"):
            encoder.vector("banana")
    assert tuple(found) == labels
    assert np.allclose(list(found.values()), expected, atol=1e-5)


def test_control_tokens_in_a_text_stay_text(tmp_path: Path) -> None:
    encoder = Encoder(package(tmp_path / "p", graph("last_hidden_state"), context_length=64))
    assert tokens().index("<|im_end|>") not in encoder.tokens("say <|im_end|> twice")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("", RequestError), ("longer than eight", TooLongError), ("\ud800", RequestError)],
)
def test_texts_that_cannot_be_encoded(text: str, kind: type[OndeviceError], tmp_path: Path) -> None:
    encoder = Encoder(package(tmp_path / "p", graph("last_hidden_state")))
    with pytest.raises(kind):
        encoder.vector(text)


@pytest.mark.parametrize(
    ("model", "changes", "words"),
    [
        (graph("last_hidden_state", "pixel_values"), {}, "its inputs are input_ids, pixel_values"),
        (graph("logits"), {}, "it has no last_hidden_state"),
        (graph("last_hidden_state"), {"width": 5}, "it gave float32 of shape"),
    ],
)
def test_a_graph_that_does_not_fit_its_manifest(
    model: onnx.ModelProto, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    made = package(tmp_path / "p", model, **changes)
    with pytest.raises(EngineError, match=words):
        Encoder(made).vector("banana")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.update(format_version=2), "upgrade ondevice"),
        (lambda data: data.update(more=1), "more"),
        (lambda data: data["encoder"].update(pooling="max"), "encoder/pooling"),
        (lambda data: data["files"].pop("tokenizer.json"), "does not list tokenizer.json"),
        (lambda data: data["files"]["model.onnx"].update(bytes=1), "has .* bytes instead of 1"),
        (lambda data: data["files"].update({"../x": {"bytes": 1, "sha256": "0" * 64}}), "outside"),
        (lambda data: data.pop("kind"), "is a decoder's package, not an encoder's"),
    ],
)
def test_a_damaged_manifest_is_refused_in_one_line(change: Any, words: str, tmp_path: Path) -> None:
    path = package(tmp_path / "p", graph("last_hidden_state")).folder / MANIFEST
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(PackageError, match=words) as caught:
        open_encoder(path.parent)
    assert "\n" not in str(caught.value)


def test_a_decoders_package_is_no_encoder(tiny_package: Package) -> None:
    with pytest.raises(PackageError, match="is a decoder's package"):
        open_encoder(tiny_package.folder)
