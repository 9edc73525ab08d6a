"""The second ways without their tools: a stand-in answers for the tool's Python."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from checkpoints import tokenizer_json, write_json, write_safetensors
from onnx import TensorProto, helper, numpy_helper
from via_graphs import CONTEXT, VOCABULARY, WIDTH, Weights, sharing

from ondevice.encoder_package import EncoderPackage, open_encoder
from ondevice.errors import ExportError, OndeviceError, PackageError, ProofError, SourceError
from ondevice.export.via import convert_via, genai, optimum
from ondevice.export.via.checkpoint import open_checkpoint
from ondevice.export.via.environment import GENAI, OPTIMUM, TOOLS, find_environment
from ondevice.package import Package, open_package
from ondevice.runtime.ort import OrtEngine

posix = pytest.mark.skipif(os.name == "nt", reason="the stand-in is an executable script")
VERSIONS = {name: "1.2" for tool in TOOLS.values() for name in tool.distributions}
CONFIG = {
    "architectures": ["ToyForCausalLM"],
    "model_type": "toy",
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_attention_heads": 1,
    "max_position_embeddings": CONTEXT,
    "eos_token_id": 263,
}


def checkpoint(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    write_json(folder / "config.json", CONFIG | changes)
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    weights = {"embed.weight": Weights().embedding, "lm_head.weight": Weights().head.T}
    write_safetensors(folder / "model.safetensors", weights)
    return folder


def standin(folder: Path, mode: str = "", transformers: str = "5.24.0") -> Path:
    """An interpreter of sorts, with a toy for the tool to give; `asked.jsonl` has the calls."""
    folder.mkdir()
    script = folder / "python"
    body = (Path(__file__).parent / "via_standin.py").read_text(encoding="utf-8")
    script.write_text(f"#!{sys.executable}\n{body}", encoding="utf-8")
    script.chmod(0o755)
    versions = VERSIONS | {"transformers": transformers}
    write_json(folder / "standin.json", {"versions": versions, "mode": mode})
    onnx.save(sharing(Weights()), folder / "toy.onnx")
    decoder = {
        "hidden_size": WIDTH,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "num_hidden_layers": 1,
        "head_size": WIDTH,
    }
    model = {
        "type": "toy",
        "vocab_size": VOCABULARY,
        "context_length": CONTEXT,
        "decoder": decoder,
    }
    write_json(folder / "genai_config.json", {"model": model})
    return script


def asked(script: Path) -> list[dict[str, Any]]:
    lines = (script.parent / "asked.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def refusal(kind: type[OndeviceError], *arguments: Any, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        convert_via(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@posix
def test_what_the_builder_gives_becomes_a_proved_package(tmp_path: Path) -> None:
    script = standin(tmp_path / "env")
    source = checkpoint(tmp_path / "toy-1b")
    stages: list[tuple[str, int, int]] = []
    package = convert_via(
        "genai",
        source,
        "cpu-fp32",
        tmp_path / "out",
        python=script,
        licence="MIT",
        progress=lambda *stage: stages.append(stage),
    )
    assert isinstance(package, Package)
    manifest = package.manifest
    assert manifest.proof is not None and abs(manifest.proof.kl_mean) < 1e-6
    assert manifest.proof.top1_agreement == 1.0
    assert manifest.tools["onnxruntime-genai"] == "1.2"
    assert manifest.tools["reference"] == "transformers 5.24.0, torch 1.2"
    assert (manifest.source.id, manifest.source.licence) == ("toy-1b", "MIT")
    assert manifest.shape.parameters == 2 * VOCABULARY * WIDTH
    assert manifest.text.eos_ids == (263,)
    assert ("building", 0, 0) in stages
    assert OrtEngine(package, 1).prefill([1, 2, 3]).shape == (VOCABULARY,)


@posix
def test_the_child_runs_offline_without_our_settings_and_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    script = standin(tmp_path / "env")
    convert_via("genai", checkpoint(tmp_path / "c"), "cpu-fp32", tmp_path / "out", python=script)
    _, built, referred = asked(script)
    for call in (built, referred):
        child = call["environment"]
        assert child["HF_HUB_OFFLINE"] == child["ORT_DISABLE_TELEMETRY"] == "1"
        assert "HF_TOKEN" not in child and "PYTHONPATH" not in child
        assert child["HF_HOME"].startswith(call["cwd"])
        assert call["arguments"][0] == "-I"
        assert not Path(call["cwd"]).exists()  # nothing is left behind


@posix
def test_a_package_unlike_its_reference_is_not_written(tmp_path: Path) -> None:
    script = standin(tmp_path / "env", "wrong")
    source = checkpoint(tmp_path / "c")
    message = refusal(ProofError, "genai", source, "cpu-fp32", tmp_path / "out", python=script)
    assert "too far from its source" in message
    assert not (tmp_path / "out").exists()
    kept = convert_via("genai", source, "cpu-fp32", tmp_path / "out", python=script, accept=True)
    assert kept.manifest.proof is not None and kept.manifest.proof.accepted_below_gate


@posix
def test_a_tool_that_fails_is_quoted_with_its_last_line(tmp_path: Path) -> None:
    script = standin(tmp_path / "env", "fails")
    source = checkpoint(tmp_path / "c")
    message = refusal(ExportError, "genai", source, "cpu-int4", tmp_path / "out", python=script)
    assert message == (
        "the model builder of onnxruntime-genai 1.2 on ToyForCausalLM failed: KeyError: 'rope_type'"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "env"]


@posix
def test_stopping_us_stops_the_tool_and_leaves_nothing(tmp_path: Path) -> None:
    script = standin(tmp_path / "env", "hangs")

    def stop(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    source = checkpoint(tmp_path / "c")
    with pytest.raises(KeyboardInterrupt):
        convert_via("genai", source, "cpu-fp32", tmp_path / "out", python=script, progress=stop)
    assert not psutil.pid_exists(asked(script)[-1]["process"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "env"]


@posix
@pytest.mark.parametrize(("tool", "other"), [(GENAI, "4.57.6"), (OPTIMUM, "5.24.0")])
def test_the_other_tools_transformers_is_refused(tool: Any, other: str, tmp_path: Path) -> None:
    script = standin(tmp_path / "env", transformers=other)
    with pytest.raises(ExportError, match=f"needs transformers {tool.majors['transformers']}"):
        find_environment(tool, script)


def test_an_environment_without_the_tool_is_told_how_to_make_one(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "c")
    message = refusal(ExportError, "optimum", source, "cpu-fp32", tmp_path / "out")
    assert message.startswith("--via optimum needs optimum-onnx")
    assert "python -m venv via-optimum && " in message
    assert "pip install optimum-onnx==0.1.0" in message and "--python via-optimum" in message


@posix
def test_an_interpreter_may_be_named_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin(tmp_path / "env")
    source = checkpoint(tmp_path / "c")
    monkeypatch.chdir(tmp_path)
    convert_via("genai", source, "cpu-fp32", Path("out"), python=Path("env/python"))
    assert open_package(tmp_path / "out").manifest.name == "out"


def test_a_file_that_is_no_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("nothing", encoding="utf-8")
    source = checkpoint(tmp_path / "c")
    for path in (tmp_path / "python", tmp_path / "missing"):
        message = refusal(ExportError, "genai", source, "cpu-fp32", tmp_path / "o", python=path)
        assert f"{path} is not a Python interpreter that runs" in message


@pytest.mark.parametrize(
    ("tool", "target", "words"),
    [
        ("genai", "cpu-as-is", "choose --target cpu-fp32 or cpu-int8 or cpu-int4"),
        ("optimum", "cpu-int4", "choose --target cpu-fp32"),
        ("magic", "cpu-fp32", "known: genai, optimum"),
    ],
)
def test_ways_and_targets_that_are_not_there(
    tool: str, target: str, words: str, tmp_path: Path
) -> None:
    source = checkpoint(tmp_path / "c")
    assert words in refusal(ExportError, tool, source, target, tmp_path / "out")


@pytest.mark.parametrize(
    ("remove", "add", "words"),
    [
        ("config.json", "", "config.json is missing"),
        ("model.safetensors", "pytorch_model.bin", "model.safetensors is missing"),
        ("", "adapter_config.json", "holds an adapter"),
    ],
)
def test_folders_that_a_tool_must_not_see(
    remove: str, add: str, words: str, tmp_path: Path
) -> None:
    source = checkpoint(tmp_path / "c")
    if remove:
        (source / remove).unlink()
    if add:
        (source / add).write_text("{}", encoding="utf-8")
    assert words in refusal(SourceError, "genai", source, "cpu-fp32", tmp_path / "out")


def test_a_gguf_file_is_no_source_for_another_exporter(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    message = refusal(SourceError, "genai", file, "cpu-fp32", tmp_path / "out")
    assert "folder of a safetensors model" in message


def test_shards_outside_the_folder_are_refused(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "c")
    index = {"weight_map": {"embed.weight": "../other.safetensors"}}
    write_json(source / "model.safetensors.index.json", index)
    assert "points outside" in refusal(SourceError, "genai", source, "cpu-fp32", tmp_path / "out")


def test_the_builder_is_never_allowed_remote_code_and_gets_full_caches() -> None:
    for target in genai.TARGETS:
        line = genai.arguments(Path("/m"), target, False, Path("/o"), Path("/c"))
        assert line[:2] == ["-m", "onnxruntime_genai.models.builder"]
        assert {"hf_remote=false", "windowed_kv_cache=false"} < set(line)
    line = optimum.arguments(Path("/m"), optimum.DECODER, Path("/o"))
    assert not any("trust" in word for word in line)


def test_a_tied_output_matrix_is_not_asked_for_in_other_bits() -> None:
    def asks(tied: bool) -> bool:
        line = genai.arguments(Path("/m"), "cpu-int4", tied, Path("/o"), Path("/c"))
        return "matmul_mixed_precision=last_matmul:int8" in line

    assert asks(False) and not asks(True)


@pytest.mark.parametrize(
    ("changes", "positions"),
    [
        ({}, 8192),
        ({"sliding_window": 4096}, 4096),
        ({"sliding_window": 4096, "use_sliding_window": False}, 8192),
        ({"sliding_window": None}, 8192),
        ({"sliding_window": 256}, 8192),  # the proof sees beyond it
        ({"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 2048}, 2048),
    ],
)
def test_the_context_ends_where_the_proof_says_nothing_any_more(
    changes: dict[str, Any], positions: int, tmp_path: Path
) -> None:
    assert open_checkpoint(checkpoint(tmp_path / "c", **changes)).context_length(8192) == positions


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("GPTNeoXForCausalLM", optimum.DECODER),
        ("GPT2LMHeadModel", optimum.DECODER),
        ("BertModel", optimum.VECTORS),
        ("ModernBertForMaskedLM", optimum.VECTORS),
        ("RobertaForSequenceClassification", optimum.CLASSIFIER),
    ],
)
def test_the_class_of_a_checkpoint_says_what_it_is(name: str, task: str, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "c", architectures=[name])
    assert optimum.task_of(open_checkpoint(source)) == task


def test_other_kinds_of_models_are_refused(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "c", architectures=["WhisperForConditionalGeneration"])
    message = refusal(ExportError, "optimum", source, "cpu-fp32", tmp_path / "out")
    assert "WhisperForConditionalGeneration; --via optimum packages decoders" in message


def encoder_graph(width: int = WIDTH) -> onnx.ModelProto:
    """Each token's embedding as its vector."""
    shape = ["batch", "sequence"]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, shape)
    out = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, width])
    node = helper.make_node("Gather", ["embedding", "input_ids"], ["last_hidden_state"])
    table = numpy_helper.from_array(Weights().embedding[:, :width].copy(), "embedding")
    graph = helper.make_graph([node], "encoder", [ids], [out], [table])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def encoder(tmp_path: Path, mode: str = "", **changes: Any) -> EncoderPackage:
    script = standin(tmp_path / "env", mode, transformers="4.57.6")
    onnx.save(encoder_graph(), script.parent / "toy.onnx")
    source = checkpoint(tmp_path / "c", architectures=["ToyModel"], **changes)
    made = convert_via("optimum", source, "cpu-fp32", tmp_path / "out", python=script)
    assert isinstance(made, EncoderPackage)
    return made


@posix
def test_an_encoder_becomes_a_package_of_its_own_kind(tmp_path: Path) -> None:
    package = encoder(tmp_path)
    proof = package.manifest.proof
    assert proof is not None and proof.cosine_min == pytest.approx(1) and proof.texts > 5
    assert proof.max_difference == 0.0
    assert package.manifest.encoder.pooling == "mean"
    assert package.manifest.recipe.tensors == {"float32": 1}
    with pytest.raises(PackageError, match="is an encoder: it gives vectors, no text"):
        open_package(package.folder)
    assert open_encoder(package.folder).manifest == package.manifest


@posix
def test_positions_that_begin_after_the_padding_id_are_fewer(tmp_path: Path) -> None:
    package = encoder(tmp_path, model_type="roberta", pad_token_id=1)
    assert package.manifest.encoder.context_length == CONTEXT - 2


@posix
def test_an_encoder_unlike_its_reference_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ProofError, match="the encoder is too far from its source"):
        encoder(tmp_path, "wrong")
    assert not (tmp_path / "out").exists()


@posix
def test_an_encoder_is_what_calibrate_takes(tmp_path: Path) -> None:
    from ondevice.runtime.confidence.router import EncoderRouter
    from ondevice.runtime.encoder import Encoder

    package = encoder(tmp_path)
    with Encoder(package) as opened:
        vector = opened.vector("the theatre")
    assert np.allclose(EncoderRouter(package.folder).embed("the theatre"), vector, atol=1e-6)


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    from ondevice import cli

    code = cli.run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@posix
def test_the_command_says_what_an_encoder_is_worth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = standin(tmp_path / "env", transformers="4.57.6")
    onnx.save(encoder_graph(), script.parent / "toy.onnx")
    source = checkpoint(tmp_path / "c", architectures=["ToyModel"])
    options = ("--target", "cpu-fp32", "--via", "optimum", "--python", script)
    code, out, err = command(capsys, "export", source, "--out", tmp_path / "out", *options)
    assert (code, err) == (0, "")
    assert "smallest cosine 1.000000" in out
    code, out, err = command(capsys, "ask", "hello", "--model", tmp_path / "out")
    assert code == 2 and "is an encoder: it gives vectors, no text" in err
    assert len(err.splitlines()) == 1


def test_a_python_without_a_way_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = checkpoint(tmp_path / "c")
    code, _, err = command(
        capsys, "export", source, "--out", tmp_path / "out", "--python", sys.executable
    )
    assert code == 2 and "--python needs --via" in err
