"""Quantizers that look at activations: calibration, GPTQ, bits by sensitivity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from checkpoints import random_weights, tiny, write_checkpoint, write_gguf
from numpy.typing import NDArray

from ondevice.errors import ExportError
from ondevice.export import reference
from ondevice.export.architecture import HEAD
from ondevice.export.convert import convert
from ondevice.export.quantize import gptq, scales
from ondevice.export.quantize.calibrate import Activations, calibration_windows
from ondevice.export.quantize.scales import Scheme
from ondevice.export.quantize.sensitivity import allocate, sensitivities
from ondevice.export.recipe import Options
from ondevice.export.source import Source, open_source
from ondevice.package import Package

Floats = NDArray[np.float32]
WINDOWS = [list(range(40)), list(range(60, 100))]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("quantize") / "c", tiny("llama", layers=3))


@pytest.fixture(scope="module")
def source(checkpoint: Path) -> Source:
    return open_source(checkpoint)


def correlated(tokens: int = 2000, width: int = 128) -> Floats:
    """Activations as they are: columns of very different size that go together."""
    chance = np.random.default_rng(0)
    mix = chance.standard_normal((width, width)) * 0.3 + np.eye(width)
    sizes = np.exp(chance.standard_normal(width))
    return ((chance.standard_normal((tokens, width)) * sizes) @ mix).astype(np.float32)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("block", [16, 32, 128, 256])
def test_gptq_halves_the_error_of_the_product(block: int, symmetric: bool) -> None:
    inputs = correlated()
    weight = np.random.default_rng(1).standard_normal((48, 128)).astype(np.float32)
    hessian = inputs.T @ inputs / len(inputs)
    importance = np.diag(hessian).copy()
    scheme = Scheme(4, block, symmetric)

    def error(dequantized: Floats) -> float:
        return float(np.linalg.norm(inputs @ (dequantized - weight).T))

    searched = scales.quantize(weight, scheme)
    found = gptq.quantize(weight, scheme, gptq.error_factor(hessian), importance)
    assert found.integers.max() < 16 and found.scales.shape == searched.scales.shape
    assert (found.zero_points is None) == symmetric
    assert error(found.dequantize()) < 0.6 * error(searched.dequantize())


def test_gptq_of_some_rows_is_that_of_all() -> None:
    inputs = correlated(500, 80)
    weight = np.random.default_rng(1).standard_normal((9, 80)).astype(np.float32)
    factor = gptq.error_factor(inputs.T @ inputs / len(inputs))
    importance = np.square(inputs).mean(axis=0)
    whole = gptq.quantize(weight, Scheme(4, 32), factor, importance)
    part = gptq.quantize(weight[3:5], Scheme(4, 32), factor, importance)
    assert (whole.integers[3:5] == part.integers).mean() > 0.99  # sums in another order
    np.testing.assert_allclose(whole.scales[3:5], part.scales, rtol=1e-3)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("width", [80, 96, 300])
def test_gptq_is_the_algorithm_column_by_column(width: int, symmetric: bool) -> None:
    inputs = correlated(700, width)
    weight = np.random.default_rng(1).standard_normal((32, width)).astype(np.float32)
    factor = gptq.error_factor(inputs.T @ inputs / len(inputs))
    importance, scheme = np.square(inputs).mean(axis=0), Scheme(4, 32, symmetric)
    rest, expected = weight.copy(), np.empty(weight.shape, np.uint8)
    for column in range(width):
        if column % 32 == 0:
            block = slice(column, column + 32)
            scale, zero = scales.fit_block(rest[:, block], scheme, importance[block])
        level = np.clip(np.rint(rest[:, column] / scale) + zero, 0, 15)
        error = (rest[:, column] - (level - zero) * scale) / factor[column, column]
        rest[:, column + 1 :] -= np.outer(error, factor[column, column + 1 :])
        expected[:, column] = level
    found = gptq.quantize(weight, scheme, factor, importance)
    assert (found.integers == expected).mean() > 0.99  # sums in another order


def test_without_correlation_gptq_is_no_worse_than_rounding() -> None:
    weight = np.random.default_rng(1).standard_normal((8, 64)).astype(np.float32)
    ones = np.ones(64, np.float32)
    factor = gptq.error_factor(np.eye(64, dtype=np.float32))
    found = gptq.quantize(weight, Scheme(4, 32), factor, ones)
    searched = scales.quantize(weight, Scheme(4, 32), ones)
    errors = [float(np.square(grid.dequantize() - weight).sum()) for grid in (found, searched)]
    assert errors[0] <= errors[1] * 1.0001


def test_a_column_that_no_activation_reached_breaks_nothing() -> None:
    hessian = np.diag(np.array([1, 0, 2, 0], np.float32))
    factor = gptq.error_factor(hessian)
    assert np.isfinite(factor).all() and (np.tril(factor, -1) == 0).all()


def test_the_factor_is_that_of_the_inverse() -> None:
    inputs = correlated(300, 32)
    hessian = inputs.T @ inputs / 300
    diagonal = np.diag(hessian)
    damped = 0.7 * hessian + np.diag(0.3 * diagonal + 0.01 * diagonal.mean())
    factor = gptq.error_factor(hessian)
    np.testing.assert_allclose(factor.T @ factor, np.linalg.inv(damped), rtol=1e-3, atol=1e-4)


def test_statistics_are_of_what_goes_into_each_matrix(source: Source) -> None:
    found = Activations(source, WINDOWS, hessians=True)
    states = reference.embed(source, WINDOWS)
    for index in range(source.architecture.layers):
        seen: dict[str, list[Floats]] = {}

        def observe(name: str, inputs: Floats, seen: dict[str, list[Floats]] = seen) -> None:
            seen.setdefault(name, []).append(inputs)

        states = reference.Layer(source, index).apply(states, observe)
        assert len(seen) == 7
        for name, parts in seen.items():
            inputs = np.concatenate(parts)
            statistics = found.statistics(name)
            assert statistics is not None and statistics.error_factor is not None
            np.testing.assert_allclose(
                statistics.mean_square, np.square(inputs).mean(axis=0), rtol=1e-4
            )
            expected = gptq.error_factor(inputs.T @ inputs / np.float32(len(inputs)))
            np.testing.assert_allclose(statistics.error_factor, expected, rtol=0.05, atol=1e-2)
    head = found.statistics(HEAD)
    inputs = np.concatenate(reference.final_norm(source, states))
    assert head is not None
    np.testing.assert_allclose(head.mean_square, np.square(inputs).mean(axis=0), rtol=1e-4)
    assert found.statistics("model.embed_tokens.weight") is None


def test_statistics_can_begin_at_any_layer(source: Source) -> None:
    """As they do when an export goes on where it was."""
    name = "model.layers.2.mlp.down_proj.weight"
    late, steady = Activations(source, WINDOWS), Activations(source, WINDOWS)
    for layer in range(2):
        steady.statistics(f"model.layers.{layer}.mlp.up_proj.weight")
    one, other = late.statistics(name), steady.statistics(name)
    assert one is not None and other is not None
    assert (one.mean_square == other.mean_square).all()


def test_the_built_in_text_gives_windows_of_one_context(source: Source) -> None:
    windows = calibration_windows(source)
    assert {len(window) for window in windows[:-1]} == {source.architecture.context_length}
    assert sum(map(len, windows)) == 4096
    with pytest.raises(ExportError, match="no tokens"):
        calibration_windows(source, "")


def test_sensitivity_finds_the_matrices_that_matter(tmp_path: Path) -> None:
    architecture = tiny("llama", layers=2)
    weights = random_weights(architecture)
    for layer in range(2):
        for part in "qk":  # attention hardly looks: rounding these costs nothing
            weights[f"model.layers.{layer}.self_attn.{part}_proj.weight"] *= np.float32(1e-3)
    weights["model.layers.1.mlp.down_proj.weight"] *= np.float32(10)
    source = open_source(write_checkpoint(tmp_path / "c", architecture, weights))
    found = sensitivities(source, WINDOWS, Scheme(4, 32))
    assert len(found) == 14
    assert max(found, key=found.__getitem__).startswith("model.layers.1.mlp.")
    least = sorted(found, key=found.__getitem__)[:4]
    assert {name.split(".")[4] for name in least} == {"q_proj", "k_proj"}


def test_bits_go_where_they_take_off_most_within_the_budget() -> None:
    weights = {"a": 100, "b": 100, "c": 400, "d": 200}
    errors = {"a": 1.0, "b": 3.0, "c": 4.0, "d": 0.1}
    assert allocate(weights, errors, 4.0) == dict.fromkeys("abcd", 4)
    assert allocate(weights, errors, 5.0) == {"a": 8, "b": 8, "c": 4, "d": 4}
    assert allocate(weights, errors, 8.0) == dict.fromkeys("abcd", 8)
    for mean in (4.3, 4.5, 6.1, 7.9):
        bits = allocate(weights, errors, mean)
        assert sum(bits[name] * weights[name] for name in weights) <= mean * 800


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> dict[str, Package]:
    chosen = {
        "search": Options(),
        "activation": Options(quantizer="activation"),
        "gptq": Options(quantizer="gptq", symmetric=False),
        "mixed": Options(bits=5.0),
    }
    folder = checkpoint.parent
    return {
        name: convert(checkpoint, "cpu-int4", folder / name, options=options, accept=True)
        for name, options in chosen.items()
    }


def test_exports_say_how_they_were_quantized(exported: dict[str, Package]) -> None:
    for name, package in exported.items():
        quantization = package.manifest.recipe.quantization
        assert quantization is not None
        assert quantization.quantizer == ("search" if name == "mixed" else name)
        assert (quantization.calibration is None) == (name == "search")
        assert quantization.symmetric == (name != "gptq")
        assert quantization.bits == (5.0 if name == "mixed" else 4)


def test_mixed_bits_are_within_their_mean(exported: dict[str, Package]) -> None:
    graph = onnx.load(str(exported["mixed"].model_file), load_external_data=False).graph
    bits: dict[str, list[int]] = {"4": [], "8": []}
    for node in graph.node:
        if node.op_type == "MatMulNBits" and "layers" in node.input[1]:
            fields = {a.name: a.i for a in node.attribute}
            bits[str(fields["bits"])].append(fields["N"] * fields["K"])
    four, eight = sum(bits["4"]), sum(bits["8"])
    assert 4.5 < (4 * four + 8 * eight) / (four + eight) <= 5.0


def test_more_bits_and_better_quantizers_are_nearer(exported: dict[str, Package]) -> None:
    proofs = {name: package.manifest.proof for name, package in exported.items()}
    kl = {name: proof.kl_mean for name, proof in proofs.items() if proof is not None}
    assert kl["mixed"] < kl["search"]
    assert kl["gptq"] < kl["search"]


def test_an_export_with_calibration_is_the_same_again(
    checkpoint: Path, exported: dict[str, Package], tmp_path: Path
) -> None:
    again = convert(
        checkpoint,
        "cpu-int4",
        tmp_path / "again",
        options=Options(quantizer="activation"),
        accept=True,
    )
    ours, theirs = again.manifest, exported["activation"].manifest
    assert ours.content_hashes() == theirs.content_hashes()


def test_a_calibration_text_is_named_by_its_hash_and_must_be_text(
    checkpoint: Path, exported: dict[str, Package], tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Numbers: 1, 2, 3. " * 50, encoding="utf-8")
    options = Options(quantizer="activation", calibration=text)
    package = convert(checkpoint, "cpu-int4", tmp_path / "o", options=options, accept=True)
    found = package.manifest.recipe.quantization
    built_in = exported["activation"].manifest.recipe.quantization
    assert found is not None and built_in is not None and found.calibration != built_in.calibration
    text.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ExportError, match="cannot be read as UTF-8"):
        convert(checkpoint, "cpu-int4", tmp_path / "p", options=options, accept=True)
    with pytest.raises(ExportError, match="--calibration is read by"):
        unused = replace(options, quantizer="search")
        convert(checkpoint, "cpu-int4", tmp_path / "q", options=unused, accept=True)


def stored(package: Package) -> dict[str, NDArray[np.generic]]:
    """Every quantized array of a package's graph by name."""
    graph = ir.load(package.model_file).graph
    values = {name: value.const_value for name, value in graph.initializers.items()}
    ends = (".integers", ".scales", ".zero_points")
    return {n: t.numpy() for n, t in values.items() if t is not None and n.endswith(ends)}


def test_a_grid_has_the_same_integers_in_every_target_of_its_width(tmp_path: Path) -> None:
    """Not depending on how the graph around it computes: as-is, int8, and int4 with 8-bit parts.

    Beside 4 bits, 8-bit blocks are as large as the width allows: here 64.
    """
    file = write_gguf(tmp_path / "m.gguf", tiny("llama"), matrices="Q4_1")
    folders = {target: tmp_path / target for target in ("cpu-as-is", "cpu-int8", "cpu-int4")}
    found = {
        target: stored(convert(file, target, out, accept=True)) for target, out in folders.items()
    }
    assert len(found["cpu-int8"]) == 2 * 16
    assert found["cpu-as-is"].keys() == found["cpu-int8"].keys()
    for name, array in found["cpu-int8"].items():
        assert (found["cpu-as-is"][name] == array).all(), name
    shared = [name for name in found["cpu-int4"] if "layers" not in name]
    assert len(shared) == 4
    wide = Options(block=64)
    other = stored(convert(file, "cpu-int8", tmp_path / "wide", options=wide, accept=True))
    for name in shared:
        assert (found["cpu-int4"][name] == other[name]).all(), name
