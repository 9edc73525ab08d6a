"""The proof notices what it is for, and the reference is right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checkpoints import LLAMA3, long_rope, random_weights, tiny, write_checkpoint

from ondevice.errors import ProofError
from ondevice.export import reference
from ondevice.export.architecture import Architecture, Rope
from ondevice.export.convert import convert
from ondevice.export.layers import LayeredPackage
from ondevice.export.proof import check_gate, compare_logits, prove
from ondevice.export.source import Source, open_source
from ondevice.package import Package, Proof
from ondevice.runtime.ort import OrtEngine

PROOF = Proof("0" * 64, 100, 0.001, 0.01, 0.99, 10.1, 10.0, "ort", ())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rope = Rope(10000.0, 16, replace(LLAMA3, original_context_length=8))
    folder = tmp_path_factory.mktemp("proof") / "checkpoint"
    return write_checkpoint(folder, tiny("llama", rope=rope))


@pytest.fixture(scope="module")
def source(checkpoint: Path) -> Source:
    return open_source(checkpoint)


@pytest.fixture(scope="module")
def package(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Package:
    out = tmp_path_factory.mktemp("package") / "int8"
    return convert(checkpoint, "cpu-int8", out)


def test_the_reference_gives_the_logits_of_transformers(checkpoint: Path, source: Source) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    tokens = list(range(60))
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0].numpy()
    hidden = reference.reference_hidden(source, [tokens])[0]
    np.testing.assert_allclose(reference.logits(source, hidden), expected, atol=1e-4)


def test_windows_do_not_see_each_other(source: Source) -> None:
    alone = reference.reference_hidden(source, [[5, 6, 7]])[0]
    beside = reference.reference_hidden(source, [[1, 2, 3, 4], [5, 6, 7]])[1]
    np.testing.assert_allclose(alone, beside, atol=1e-6)


def test_equal_distributions_have_no_divergence_and_known_ones_the_known() -> None:
    half, uneven = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    figures = compare_logits(half.astype(np.float32), uneven.astype(np.float32), [1])
    assert figures.kl[0] == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3), abs=1e-6)
    assert figures.loss[0] == pytest.approx(-np.log(0.75), abs=1e-6)
    assert figures.reference_loss[0] == pytest.approx(np.log(2), abs=1e-6)
    same = compare_logits(half.astype(np.float32), half.astype(np.float32), [0])
    assert same.kl[0] == 0 and same.same_top[0]


def test_a_package_is_proved_with_its_figures(package: Package) -> None:
    proof = package.manifest.proof
    assert proof is not None
    assert 0 <= proof.kl_mean < 0.02 and proof.tokens > 100
    assert proof.perplexity_ratio == pytest.approx(1, abs=0.02)


def test_a_flipped_weight_shows(package: Package, source: Source) -> None:
    data = package.folder / "model.onnx.data"
    healthy = data.read_bytes()
    broken = bytearray(healthy)
    for position in range(0, len(broken), 64):
        broken[position] ^= 0x40
    data.write_bytes(broken)
    try:
        found = prove(package, source)
    finally:
        data.write_bytes(healthy)
    with pytest.raises(ProofError, match="too far from its source"):
        check_gate(found, "cpu-int8", accept=False)


def test_a_package_below_its_gate_leaves_nothing_behind(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = replace(PROOF, kl_mean=1.0)
    monkeypatch.setattr("ondevice.export.convert.prove", lambda *args, **kwargs: bad)
    with pytest.raises(ProofError, match="--accept"):
        convert(checkpoint, "cpu-int8", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    kept = convert(checkpoint, "cpu-int8", tmp_path / "out", accept=True)
    assert kept.manifest.proof is not None and kept.manifest.proof.accepted_below_gate


def test_the_gate_looks_at_divergence_and_perplexity() -> None:
    assert check_gate(PROOF, "cpu-int8", accept=False) == PROOF
    for worse in (replace(PROOF, kl_mean=0.5), replace(PROOF, perplexity=20.0)):
        with pytest.raises(ProofError):
            check_gate(worse, "cpu-int8", accept=False)


def test_a_target_without_a_gate_is_one_line() -> None:
    with pytest.raises(ProofError, match="'cpu-int3' has no gate; known: cpu-fp32"):
        check_gate(PROOF, "cpu-int3", accept=False)


def test_a_text_without_tokens_proves_nothing(package: Package, source: Source) -> None:
    with pytest.raises(ProofError, match="at least 2"):
        prove(package, source, text="")


def test_the_ort_engine_sees_the_reference_only_up_to_float_rounding(
    checkpoint: Path, source: Source, tmp_path: Path
) -> None:
    package = convert(checkpoint, "cpu-fp32", tmp_path / "fp32")
    tokens = list(range(40))
    hidden = reference.reference_hidden(source, [tokens])[0]
    found = OrtEngine(package, 1).verify(tokens)
    np.testing.assert_allclose(found, reference.logits(source, hidden), atol=1e-4)


@pytest.mark.parametrize("target", ["cpu-fp32", "cpu-int8", "cpu-as-is"])
@pytest.mark.parametrize(
    "architecture",
    [
        tiny("llama", tied_embeddings=True),
        tiny("gemma3_text", layers=3),
        tiny("phi3", rope=long_rope(original=32)),
    ],
    ids=["llama", "gemma3", "phi3"],
)
def test_layer_by_layer_a_package_gives_the_logits_of_its_engine(
    tmp_path: Path, target: str, architecture: Architecture
) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", architecture)
    package = convert(checkpoint, target, tmp_path / "out", accept=True)
    windows = [list(range(40)), list(range(70, 90))]
    layered = LayeredPackage(package, windows)
    states = [layered.next_layer() for _ in range(architecture.layers)]
    assert [state.shape for state in states[-1]] == [(40, 64), (20, 64)]
    engine = OrtEngine(package, 1)
    for index, window in enumerate(windows):
        engine.rewind(0)
        parts = [layered.logits(index, rows) for rows in (slice(0, 15), slice(15, len(window)))]
        np.testing.assert_allclose(np.concatenate(parts), engine.verify(window), atol=1e-5)


def test_the_error_shows_in_the_layer_that_has_it(tmp_path: Path) -> None:
    architecture = tiny("llama", layers=4)
    weights = random_weights(architecture)
    checkpoint = write_checkpoint(tmp_path / "c", architecture, weights)
    package = convert(checkpoint, "cpu-fp32", tmp_path / "out")
    weights["model.layers.2.mlp.down_proj.weight"] *= np.float32(1.1)
    other = open_source(write_checkpoint(tmp_path / "other", architecture, weights))
    errors = prove(package, other).layer_errors
    assert len(errors) == 4 and max(errors[:2]) < 1e-5 < 1e-2 < errors[2]
