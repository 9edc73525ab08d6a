"""The engine of Core ML packages, with our evaluator in place of Apple's runtime."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import coremltools
import numpy as np
import pytest
from checkpoints import tiny, write_checkpoint

from ondevice.errors import EngineError, RequestError
from ondevice.export.convert import convert
from ondevice.export.coreml.evaluate import Program, State
from ondevice.export.coreml.model import EvaluatedModel
from ondevice.export.recipe import Options
from ondevice.package import Package
from ondevice.runtime import coreml
from ondevice.runtime.coreml import CoremlEngine
from ondevice.runtime.engine import Engine
from ondevice.runtime.engines import open_engine

CONTEXT = 40
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


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("coreml")
    checkpoint = write_checkpoint(folder / "checkpoint", tiny("llama"))
    options = Options(context=CONTEXT)
    return convert(checkpoint, "coreml-fp16", folder / "out", options=options, accept=True)


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
    with pytest.raises(RequestError, match="41 tokens"):
        engine.prefill([1] * 41)
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
