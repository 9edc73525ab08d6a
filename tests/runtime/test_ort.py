"""The laws of an engine with a KV cache, and what plain onnxruntime refuses by itself."""

from __future__ import annotations

import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from checkpoints import tokens as vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice.errors import EngineError, RequestError
from ondevice.package import (
    Manifest,
    Package,
    describe_files,
    open_package,
    verify_hashes,
    write_manifest,
)
from ondevice.runtime.ort import OrtEngine

CONTEXT = 48
VOCABULARY = len(vocabulary())
TOLERANCE = 1e-4

IDS = st.integers(0, VOCABULARY - 1)
TEXTS = st.lists(IDS, min_size=1, max_size=24)


@pytest.fixture(scope="module")
def engine(tiny_package: Package) -> Iterator[OrtEngine]:
    opened = OrtEngine(tiny_package, 1, CONTEXT)
    yield opened
    opened.close()


def close_to(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def fresh(engine: OrtEngine, tokens: list[int]) -> np.ndarray:
    engine.rewind(0)
    return engine.prefill(tokens)


@settings(max_examples=25)
@given(TEXTS)
def test_verified_rows_are_those_of_decoding_one_by_one(
    engine: OrtEngine, tokens: list[int]
) -> None:
    engine.rewind(0)
    one_by_one = np.stack([engine.decode(token) for token in tokens])
    engine.rewind(0)
    rows = engine.verify(tokens)
    assert rows.shape == (len(tokens), VOCABULARY) and engine.position == len(tokens)
    close_to(rows, one_by_one)
    close_to(fresh(engine, tokens), rows[-1])


@settings(max_examples=25)
@given(TEXTS, st.data())
def test_a_prompt_in_chunks_gives_what_it_gives_at_once(
    engine: OrtEngine, tokens: list[int], data: st.DataObject
) -> None:
    expected = fresh(engine, tokens)
    engine.rewind(0)
    while engine.position < len(tokens):
        size = data.draw(st.integers(1, len(tokens) - engine.position))
        found = engine.prefill(tokens[engine.position : engine.position + size])
    close_to(found, expected)


@settings(max_examples=25)
@given(TEXTS, TEXTS, st.data())
def test_going_on_after_a_rewind_is_like_starting_afresh(
    engine: OrtEngine, tokens: list[int], other: list[int], data: st.DataObject
) -> None:
    kept = data.draw(st.integers(0, len(tokens)))
    fresh(engine, tokens)
    engine.rewind(kept)
    assert engine.position == kept
    close_to(engine.prefill(other), fresh(engine, tokens[:kept] + other))


@settings(max_examples=15)
@given(TEXTS, TEXTS, TEXTS)
def test_a_restored_snapshot_goes_on_like_the_original(
    engine: OrtEngine, tokens: list[int], between: list[int], after: list[int]
) -> None:
    fresh(engine, tokens)
    snapshot = engine.snapshot()
    expected = engine.prefill(after)
    fresh(engine, between)
    engine.restore(snapshot)
    assert engine.position == len(tokens)
    np.testing.assert_array_equal(engine.prefill(after), expected)
    engine.restore(snapshot)
    assert engine.snapshot() == snapshot


def test_a_snapshot_fits_into_any_kv_cache_that_is_long_enough(
    tiny_package: Package, engine: OrtEngine
) -> None:
    fresh(engine, [5, 6, 7])
    snapshot = engine.snapshot()
    expected = engine.decode(8)
    for context in (4, 200):
        other = OrtEngine(tiny_package, 1, context)
        other.restore(snapshot)
        close_to(other.decode(8), expected)
    short = OrtEngine(tiny_package, 1, 2)
    before = short.prefill([1])
    with pytest.raises(RequestError, match="3 positions"):
        short.restore(snapshot)
    assert short.position == 1
    short.rewind(0)
    np.testing.assert_array_equal(short.prefill([1]), before)


def test_an_empty_snapshot_empties_and_a_foreign_one_is_refused(engine: OrtEngine) -> None:
    engine.rewind(0)
    assert engine.snapshot() == b""
    fresh(engine, [1, 2])
    for foreign in (b"abc", bytes(4), bytes(engine.limits.vocab_size * 4 + 1)):
        with pytest.raises(RequestError, match="not made by this package"):
            engine.restore(foreign)
    assert engine.position == 2
    engine.restore(b"")
    assert engine.position == 0


@pytest.mark.parametrize("call", ["prefill", "verify"])
def test_more_than_fits_is_refused_and_changes_nothing(engine: OrtEngine, call: str) -> None:
    fresh(engine, list(range(CONTEXT - 2)))
    before = engine.snapshot()
    with pytest.raises(RequestError, match=f"{CONTEXT + 1} tokens do not fit"):
        getattr(engine, call)([1, 2, 3])
    assert (engine.position, engine.snapshot()) == (CONTEXT - 2, before)
    engine.prefill([1, 2])
    with pytest.raises(RequestError, match="do not fit"):
        engine.decode(3)
    assert engine.position == CONTEXT


@pytest.mark.parametrize("tokens", [[-1], [VOCABULARY], [0, 2**31], [2**70], [-(2**70), 0]])
def test_ids_outside_the_vocabulary_are_refused_and_change_nothing(
    engine: OrtEngine, tokens: list[int]
) -> None:
    fresh(engine, [1, 2])
    before = engine.snapshot()
    for call in (engine.prefill, engine.verify):
        with pytest.raises(RequestError, match=f"0 .. {VOCABULARY - 1}"):
            call(tokens)
    with pytest.raises(RequestError, match=r"0 \.\. "):
        engine.decode(tokens[0] or tokens[-1])
    assert (engine.position, engine.snapshot()) == (2, before)


def test_no_tokens_are_refused(engine: OrtEngine) -> None:
    for call in (engine.prefill, engine.verify):
        with pytest.raises(RequestError, match="no tokens"):
            call([])


def test_a_rewind_never_goes_forward(engine: OrtEngine) -> None:
    fresh(engine, [1, 2])
    for position in (3, -1):
        with pytest.raises(ValueError, match="cannot rewind"):
            engine.rewind(position)


def test_logits_stay_as_they_were_when_the_engine_goes_on(engine: OrtEngine) -> None:
    logits = fresh(engine, [1, 2, 3])
    rows = engine.verify([4, 5])
    copies = logits.copy(), rows.copy()
    for token in range(20):
        engine.decode(token)
    np.testing.assert_array_equal(logits, copies[0])
    np.testing.assert_array_equal(rows, copies[1])


@pytest.mark.parametrize("context", [0, -1, 257])
def test_a_context_that_the_model_does_not_have_is_refused(
    tiny_package: Package, context: int
) -> None:
    with pytest.raises(RequestError, match="not between 1 and the 256"):
        OrtEngine(tiny_package, 1, context)


def test_without_a_wish_the_context_is_the_models(tiny_package: Package) -> None:
    opened = OrtEngine(tiny_package, 1)
    assert (opened.limits.context_length, opened.limits.vocab_size) == (256, VOCABULARY)
    assert (opened.name, opened.position) == ("ort", 0)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_threads_asked_for_are_the_threads_made(tiny_package: Package, count: int) -> None:
    before = psutil.Process().num_threads()
    opened = OrtEngine(tiny_package, count, CONTEXT)
    assert psutil.Process().num_threads() - before == count - 1  # the caller's is the first
    opened.close()
    assert psutil.Process().num_threads() == before


def test_the_number_of_threads_changes_only_rounding(
    tiny_package: Package, engine: OrtEngine
) -> None:
    tokens = list(range(20))
    close_to(OrtEngine(tiny_package, 3, CONTEXT).verify(tokens), verified(engine, tokens))


def verified(engine: OrtEngine, tokens: list[int]) -> np.ndarray:
    engine.rewind(0)
    return engine.verify(tokens)


def test_two_engines_in_two_threads_do_not_disturb_each_other(tiny_package: Package) -> None:
    engines = [OrtEngine(tiny_package, 1, CONTEXT) for _ in range(2)]
    texts = [list(range(1, 40)), list(range(101, 140))]
    expected = [verified(one, text) for one, text in zip(engines, texts, strict=True)]
    found: list[Any] = [None, None]

    def work(index: int) -> None:
        engines[index].rewind(0)
        found[index] = np.stack([engines[index].decode(token) for token in texts[index]])

    workers = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for rows, rows_expected in zip(found, expected, strict=True):
        close_to(rows, rows_expected)


def test_closing_lets_go_of_session_and_kv_cache(tiny_package: Package) -> None:
    opened = OrtEngine(tiny_package, 1, CONTEXT)
    opened.prefill([1, 2])
    held = [weakref.ref(buffer) for buffer in opened._cache.values()]
    held.append(weakref.ref(opened._session))
    assert all(ref() is not None for ref in held)
    opened.close()
    assert [ref() for ref in held] == [None] * 5
    opened.close()  # twice is once


# What the package's maker got wrong, or did on purpose


@pytest.fixture
def folder(tiny_package: Package, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_package.folder, tmp_path / "package")


def edited(folder: Path, edit: Callable[[onnx.ModelProto], object]) -> Package:
    """The package with another graph, described as if it were right."""
    path = folder / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    edit(model)
    path.write_bytes(model.SerializeToString())
    return described(folder, lambda manifest: manifest)


def described(folder: Path, change: Callable[[Manifest], Manifest]) -> Package:
    manifest = replace(open_manifest(folder), files=describe_files(folder))
    write_manifest(folder, change(manifest))
    package = open_package(folder)
    verify_hashes(package)
    return package


def open_manifest(folder: Path) -> Manifest:
    """The manifest of a folder whose files may have been changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ondevice.package._check_hash", lambda *_: None)
        patch.setattr("ondevice.package._check_size", lambda *_: None)
        return open_package(folder).manifest


def refusal(package: Package) -> str:
    with pytest.raises(EngineError) as caught:
        OrtEngine(package, 1, CONTEXT)
    message = str(caught.value)
    assert "\n" not in message and str(package.model_file) in message
    return message


def point_to(location: str) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location

    return edit


@pytest.mark.parametrize("place", ["../secret.bin", "x/../../secret.bin", "{absolute}"])
def test_weights_outside_the_package_are_not_read(folder: Path, place: str) -> None:
    secret = folder.parent / "secret.bin"
    shutil.copy(folder / "model.onnx.data", secret)
    location = place.format(absolute=secret.as_posix())
    assert "External data path" in refusal(edited(folder, point_to(location)))
    shutil.copy(secret, folder / "inside.bin")  # it is the place that is refused, nothing else
    OrtEngine(edited(folder, point_to("inside.bin")), 1, CONTEXT).prefill([1])


def test_weights_behind_an_unlisted_link_are_not_read(folder: Path) -> None:
    (folder / "model.onnx.data").rename(folder.parent / "secret.bin")
    (folder / "link.bin").symlink_to("../secret.bin")
    path = folder / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    point_to("link.bin")(model)
    path.write_bytes(model.SerializeToString())
    listed = {name: info for name, info in describe_files(folder).items() if name != "link.bin"}
    package = described(folder, lambda manifest: replace(manifest, files=listed))
    assert "escapes model directory" in refusal(package)


def rename(name: str) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        graph = model.graph
        value = next(v for v in (*graph.input, *graph.output) if v.name == name)
        value.name = f"{name}_x"
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [f"{n}_x" if n == name else n for n in names]
        for tensor in graph.initializer:
            tensor.name = f"{name}_x" if tensor.name == name else tensor.name

    return edit


@pytest.mark.parametrize(
    "name", ["input_ids", "attention_mask", "num_logits", "logits", "present.1.value"]
)
def test_a_graph_without_one_of_its_names_is_refused(folder: Path, name: str) -> None:
    assert f"it has no {name}" in refusal(edited(folder, rename(name)))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("layers", 2**31, "2 layers instead of 2147483648"),
        ("layers", 1, "2 layers instead of 1"),
        ("kv_heads", 2**31, "past_key_values.0.key has shape"),
        ("head_dim", 32, "past_key_values.0.key has shape"),
        ("vocab_size", 2**31, "logits has shape"),
    ],
)
def test_a_manifest_of_another_graph_is_refused(
    folder: Path, field: str, value: Any, said: str
) -> None:
    package = described(
        folder, lambda manifest: replace(manifest, shape=replace(manifest.shape, **{field: value}))
    )
    assert said in refusal(package)


def test_a_context_beyond_all_memory_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    package = described(
        folder,
        lambda manifest: replace(manifest, shape=replace(manifest.shape, context_length=2**31)),
    )
    monkeypatch.setattr("ondevice.runtime.ort.np.zeros", no_memory)
    with pytest.raises(EngineError, match=r"1,099,512 MB.*smaller context"):
        OrtEngine(package, 1, 2**31)


def test_a_run_that_fails_is_one_line_and_changes_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # More positions than the graph has rotary angles for.
    package = described(
        folder,
        lambda manifest: replace(manifest, shape=replace(manifest.shape, context_length=512)),
    )
    opened = OrtEngine(package, 1, 512)
    opened.prefill([1, 2])
    with pytest.raises(EngineError, match="cannot run") as caught:
        opened.prefill([1] * 400)
    assert "\n" not in str(caught.value) and capfd.readouterr() == ("", "")
    assert opened.position == 2
    close_to(opened.prefill([3]), OrtEngine(package, 1, 8).prefill([1, 2, 3]))


def test_no_graph_at_all_is_one_line_and_nothing_else_is_printed(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "model.onnx").write_bytes(b"no graph")
    assert "onnxruntime cannot load" in refusal(described(folder, lambda manifest: manifest))
    assert capfd.readouterr() == ("", "")
