"""The engine of Core ML packages, with our evaluator in place of Apple's runtime."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import coremltools
import numpy as np
import pytest
from checkpoints import FOR_ANE, tiny, write_checkpoint

from ondevice import cli
from ondevice.errors import EngineError, PackageError, RequestError
from ondevice.export.convert import convert
from ondevice.export.coreml.evaluate import Program, State
from ondevice.export.coreml.model import EvaluatedModel
from ondevice.export.coreml.on_device import LOGITS_FILE, read_logits
from ondevice.export.recipe import Options
from ondevice.package import Package
from ondevice.runtime import coreml
from ondevice.runtime.coreml import CoremlEngine
from ondevice.runtime.engine import Engine
from ondevice.runtime.engines import open_engine

CONTEXT = 64
TOKENS = [int(token) for token in np.random.default_rng(2).integers(0, 264, 30)]


class StandInState:
    """coremltools' MLState."""

    def __init__(self, values: State) -> None:
        self.values = values

    def read_state(self, name: str) -> np.ndarray:
        return self.values[name].astype(np.float16)

    def write_state(self, name: str, value: np.ndarray) -> None:
        self.values[name][...] = value


class StandInModel:
    """coremltools' MLModel, as far as the engine knows it."""

    def __init__(self, path: str, compute_units: Any, function_name: str) -> None:
        assert isinstance(compute_units, coremltools.ComputeUnit)
        self._program = Program(Path(path), function_name, "fp16")

    def make_state(self) -> StandInState:
        return StandInState(self._program.make_state())

    def predict(self, data: dict[str, np.ndarray], state: StandInState) -> dict[str, np.ndarray]:
        if data["inputIds"].dtype != np.int32 or data["causalMask"].dtype != np.float16:
            raise RuntimeError("inputs of another type than declared")
        return self._program.run(data, state.values)


@pytest.fixture(scope="module", params=["coreml-fp16", "coreml-ane"])
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("coreml")
    static = request.param == "coreml-ane"
    checkpoint = write_checkpoint(folder / "checkpoint", tiny("llama", **FOR_ANE if static else {}))
    options = Options(context=CONTEXT, quantizer="search" if static else None)
    return convert(checkpoint, request.param, folder / "out", options=options, accept=True)


@pytest.fixture
def engine(package: Package, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(coremltools.models, "MLModel", StandInModel)
    monkeypatch.setattr(coreml, "_CHUNK", 8)
    return open_engine(package)


def test_prompts_in_parts_and_single_tokens_give_the_program_s_logits(
    engine: Engine, package: Package
) -> None:
    expected = EvaluatedModel(package).verify(TOKENS)
    assert np.allclose(engine.prefill(TOKENS[:20]), expected[19], atol=5e-3)
    assert engine.position == 20
    for index in range(20, 30):
        assert np.allclose(engine.decode(TOKENS[index]), expected[index], atol=5e-3)
    engine.rewind(11)
    assert np.allclose(engine.verify(TOKENS[11:]), expected[11:], atol=5e-3)


def test_a_snapshot_brings_the_cache_back(engine: Engine) -> None:
    engine.prefill(TOKENS[:12])
    kept = engine.snapshot()
    expected = engine.decode(TOKENS[12])
    engine.rewind(0)
    engine.prefill(TOKENS[20:])
    engine.restore(kept)
    assert engine.position == 12
    assert (engine.decode(TOKENS[12]) == expected).all()
    with pytest.raises(RequestError, match="not made by this package"):
        engine.restore(kept[:-2])


def test_more_tokens_than_the_cache_holds_are_refused(engine: Engine) -> None:
    with pytest.raises(RequestError, match="65 tokens"):
        engine.prefill([1] * 65)
    assert engine.position == 0


def test_elsewhere_the_error_says_where_it_runs(package: Package) -> None:
    if sys.platform == "darwin":
        pytest.skip("it runs here")
    with pytest.raises(EngineError, match="runs on a Mac"):
        open_engine(package)


def test_a_package_that_core_ml_refuses_is_an_error(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("compile\nfailed")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(coremltools.models, "MLModel", refuse)
    with pytest.raises(EngineError, match=r"cannot load .*: compile failed"):
        CoremlEngine(package)
    with pytest.raises(EngineError, match="unknown compute units 'GPU'"):
        CoremlEngine(package, units="GPU")


def test_the_stored_logits_are_those_of_the_engine(
    engine: Engine, package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["verify", str(package.folder), "--on-device", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)["on_device"]
    assert compared["positions"] == 9
    assert compared["largest_difference"] < 0.05
    # The stand-in is the evaluator in half precision, of which half precision is stored.
    assert compared["kl_mean"] == pytest.approx(compared["half_kl_mean"], abs=1e-5)


def test_other_logits_than_the_stored_ones_are_an_error(
    engine: Engine,
    package: Package,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    right = StandInModel.predict

    def wrong(self: StandInModel, data: dict[str, np.ndarray], state: StandInState) -> Any:
        found = right(self, data, state)
        return {name: np.roll(values, 1) for name, values in found.items()}

    monkeypatch.setattr(StandInModel, "predict", wrong)
    assert cli.run(["verify", str(package.folder), "--on-device"]) == 2
    assert "other logits than it holds" in capsys.readouterr().err


def test_on_device_needs_a_mac_and_a_whole_core_ml_package(
    package: Package, tiny_package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    if sys.platform != "darwin":
        assert cli.run(["verify", str(package.folder), "--on-device"]) != 0
        assert "runs on a Mac" in capsys.readouterr().err
    assert cli.run(["verify", str(tiny_package.folder), "--on-device"]) == 2
    assert "is no Core ML package" in capsys.readouterr().err
    assert cli.run(["verify", str(package.model_file), "--on-device"]) == 2
    assert "is a program alone" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_damaged_stored_logits_are_an_error(package: Package, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(package.folder, folder)
    path = folder / LOGITS_FILE
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        np.savez(path, tokens=np.zeros(3, np.int32), exact=np.zeros(3), half=np.zeros(3))
    with pytest.raises(PackageError, match="export the package again"):
        read_logits(Package(folder, package.manifest))
