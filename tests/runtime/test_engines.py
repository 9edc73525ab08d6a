"""Engines are found by name, and a wish that cannot be met is one line."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ondevice.errors import EngineError, PackageError, RequestError
from ondevice.package import Package
from ondevice.runtime.engines import ENGINES, open_engine


def test_an_unknown_engine_names_the_known(tiny_package: Package) -> None:
    with pytest.raises(EngineError, match="unknown engine 'tpu'; known: ort, genai"):
        open_engine(tiny_package, "tpu")


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("threads", [0, -1, 1025, 2**40])
def test_threads_that_cannot_be_are_refused(tiny_package: Package, name: str, threads: int) -> None:
    with pytest.raises(RequestError, match=f"threads must be from 1 to 1024, not {threads}"):
        open_engine(tiny_package, name, threads=threads)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("context", [0, -1, 257])
def test_a_context_that_the_model_does_not_have_is_refused(
    tiny_package: Package, name: str, context: int
) -> None:
    with pytest.raises(RequestError, match=f"context {context} is not between 1 and the 256"):
        open_engine(tiny_package, name, threads=1, context_length=context)


@pytest.mark.parametrize("name", ENGINES)
def test_without_a_wish_the_measured_count_is_taken(
    tiny_package: Package, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Package] = []

    def best_threads(package: Package) -> int:
        asked.append(package)
        return 1

    monkeypatch.setattr("ondevice.runtime.threads.best_threads", best_threads)
    opened = open_engine(tiny_package, name, context_length=32)
    assert (opened.name, opened.limits.context_length) == (name, 32)
    open_engine(tiny_package, name, threads=1, context_length=32)
    assert asked == [tiny_package]


def test_engines_agree(tiny_package: Package) -> None:
    ort, genai = (open_engine(tiny_package, n, threads=1, context_length=32) for n in ENGINES)
    for tokens in ([1, 2, 3], [4], [5, 6]):
        np.testing.assert_allclose(ort.prefill(tokens), genai.prefill(tokens), atol=2e-4)
    np.testing.assert_allclose(ort.verify([7, 8]), genai.verify([7, 8]), atol=2e-4)
    for engine in (ort, genai):
        engine.rewind(2)
        assert engine.position == 2
    np.testing.assert_allclose(ort.decode(9), genai.decode(9), atol=2e-4)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("tokens", [[], [-1], [10**6], [2**40], [1] * 33])
def test_tokens_that_cannot_be_run_are_refused_and_change_nothing(
    tiny_package: Package, name: str, tokens: list[int]
) -> None:
    engine = open_engine(tiny_package, name, threads=1, context_length=32)
    engine.prefill([1, 2])
    with pytest.raises(RequestError):
        engine.prefill(tokens)
    assert engine.position == 2
    after = engine.decode(3)
    engine.rewind(0)
    np.testing.assert_allclose(after, engine.prefill([1, 2, 3]), atol=2e-4)


def test_genai_keeps_its_kv_cache_to_itself(tiny_package: Package) -> None:
    engine = open_engine(tiny_package, "genai", threads=1, context_length=32)
    for call in (engine.snapshot, lambda: engine.restore(b"")):
        with pytest.raises(EngineError, match="use the ort engine"):
            call()


def test_a_missing_genai_says_what_to_install(
    tiny_package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", None)
    with pytest.raises(EngineError, match="pip install"):
        open_engine(tiny_package, "genai", threads=1)


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c["model"]["decoder"].update(filename="../other/model.onnx"),
        lambda c: c["model"]["decoder"].update(filename="/other/model.onnx"),
        lambda c: c["model"]["decoder"]["session_options"].update(custom_ops_library="evil.so"),
        lambda c: c["model"]["decoder"]["session_options"].update(provider_options=[{"cuda": {}}]),
        lambda c: c["model"].update(vision={"filename": "../other/model.onnx"}),
        lambda c: c["model"].pop("decoder"),
        lambda c: c.pop("model"),
    ],
)
def test_a_genai_configuration_that_reaches_elsewhere_is_refused(
    tiny_package: Package, tmp_path: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    folder = shutil.copytree(tiny_package.folder, tmp_path / "package")
    path = folder / "genai_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    edit(config)
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(PackageError, match="is not the configuration of a single"):
        open_engine(Package(folder, tiny_package.manifest), "genai", threads=1)
