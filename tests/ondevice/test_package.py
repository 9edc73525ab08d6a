"""What a package folder must be, and the one line said when it is not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ondevice import package as module
from ondevice.errors import PackageError
from ondevice.package import (
    MANIFEST,
    FileInfo,
    Manifest,
    ModelShape,
    Package,
    Proof,
    Recipe,
    SourceInfo,
    Text,
    open_package,
    verify_hashes,
    write_manifest,
)

HASH = "0" * 64
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tiny_package: Package, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_package.folder, tmp_path / "package")


def change(folder: Path, edit: Change) -> None:
    path = folder / MANIFEST
    data = json.loads(path.read_text(encoding="utf-8"))
    edit(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def refusal(folder: Path) -> str:
    with pytest.raises(PackageError) as caught:
        open_package(folder)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    return message


def test_a_sound_package_opens_and_verifies(folder: Path) -> None:
    opened = open_package(folder)
    read: list[int] = []
    verify_hashes(opened, read.append)
    assert sum(read) == opened.total_bytes
    assert opened.chat_template() == (folder / "chat_template.jinja").read_text(encoding="utf-8")


def test_a_folder_without_manifest_is_no_package(tmp_path: Path) -> None:
    assert f"it has no {MANIFEST}" in refusal(tmp_path)
    assert f"it has no {MANIFEST}" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json"])
def test_a_missing_or_cut_file_is_named(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{name} has {path.stat().st_size} bytes instead of" in refusal(folder)
    path.unlink()
    assert f"{name} is missing" in refusal(folder)
    path.mkdir()
    assert f"{name} is missing" in refusal(folder)


@pytest.mark.parametrize("name", ["model.onnx", "chat_template.jinja", "genai_config.json"])
def test_a_wrong_byte_in_a_small_file_is_found_when_it_is_opened(folder: Path, name: str) -> None:
    flip(folder / name)
    assert f"{name} has the wrong content" in refusal(folder)


def test_a_wrong_byte_in_the_weights_is_found_when_it_is_verified(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (folder / "model.onnx.data").stat().st_size
    monkeypatch.setattr(module, "SMALL_FILE", size)
    flip(folder / "model.onnx.data")
    with pytest.raises(PackageError, match=r"model\.onnx\.data has the wrong content"):
        verify_hashes(open_package(folder))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "name",
    [
        "{outside}",
        "../secret.bin",
        "sub/../../secret.bin",
        "..",
        "sub\\..\\..\\secret.bin",
        "C:secret.bin",
        "C:/secret.bin",
        "//server/share/secret.bin",
        "",
    ],
)
def test_a_name_that_leads_outside_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "secret.bin"
    outside.write_bytes(b"secret")
    name = name.format(outside=outside)
    info = {"bytes": 6, "sha256": hashlib.sha256(b"secret").hexdigest()}
    change(folder, lambda data: data["files"].update({name: info}))
    assert "points outside" in refusal(folder)


def test_a_link_that_leads_outside_is_refused(folder: Path, tmp_path: Path) -> None:
    weights = folder / "model.onnx.data"
    weights.rename(tmp_path / "weights")
    weights.symlink_to(tmp_path / "weights")
    assert "points outside" in refusal(folder)
    weights.unlink()
    weights.symlink_to(weights)
    assert "model.onnx.data" in refusal(folder)


def test_a_link_inside_the_folder_is_followed(folder: Path) -> None:
    (folder / "model.onnx.data").rename(folder / "blob")
    (folder / "model.onnx.data").symlink_to("blob")
    verify_hashes(open_package(folder))


def test_a_link_made_after_opening_is_not_followed_outside(folder: Path, tmp_path: Path) -> None:
    opened = open_package(folder)
    (folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    (folder / "tokenizer.json").symlink_to(tmp_path / "tokenizer.json")
    with pytest.raises(PackageError, match="points outside"):
        verify_hashes(opened)


def test_a_newer_format_asks_for_a_newer_ondevice(folder: Path) -> None:
    change(folder, lambda data: data.update(format_version=2, surprise=1))
    assert "format version 2" in refusal(folder) and "upgrade ondevice" in refusal(folder)


INFO = {"bytes": 1, "sha256": HASH}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda d: d.update(surprise=1), "surprise"),
        (lambda d: d["shape"].update(surprise=1), "shape"),
        (lambda d: d["shape"].pop("layers"), "layers"),
        (lambda d: d["shape"].update(layers=2.0), "shape/layers"),
        (lambda d: d["shape"].update(layers=True), "shape/layers"),
        (lambda d: d["shape"].update(layers=0), "shape/layers"),
        (lambda d: d["shape"].update(context_length=2**40), "shape/context_length"),
        (lambda d: d.update(format_version=0), "format_version"),
        (lambda d: d.update(format_version="1"), "format_version"),
        (lambda d: d.pop("format_version"), "format_version"),
        (lambda d: d["source"].update(format="pickle"), "source/format"),
        (lambda d: d["files"]["model.onnx"].update(sha256="A" * 64), "files/model.onnx/sha256"),
        (lambda d: d["files"]["model.onnx"].update(bytes=-1), "files/model.onnx/bytes"),
        (lambda d: d["files"].pop("model.onnx"), "does not list model.onnx"),
        (lambda d: d["files"].pop("chat_template.jinja"), "does not list chat_template.jinja"),
        (lambda d: d["files"].update({"a" * 5000: INFO}), "cannot be read"),
        (lambda d: d["files"].update({"two\nlines": INFO}), "cannot be shown"),
        (lambda d: d["files"].update({"\ud800": INFO}), "cannot be shown"),
        (lambda d: d.update(name="red \x1b[31m"), "cannot be shown"),
        (lambda d: d["text"].update(eos_ids=[10**6]), "special token 1000000"),
        (lambda d: d["text"].update(bos_id=d["shape"]["vocab_size"]), "outside the vocabulary"),
        (lambda d: d["text"].update(pad_id=-1), "text/pad_id"),
        (lambda d: d["proof"].update(kl_mean=float("nan")), "NaN is not a number"),
        (lambda d: d["proof"].update(kl_p99=float("-inf")), "-Infinity is not a number"),
        (lambda d: d["proof"].update(perplexity=1e308, reference_perplexity=1e-308), "perplex"),
        (lambda d: d["recipe"].update(bits_per_weight=0), "recipe/bits_per_weight"),
    ],
)
def test_what_does_not_fit_the_schema_is_named(folder: Path, edit: Change, said: str) -> None:
    change(folder, edit)
    assert said in refusal(folder)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"{",
        b'{"format_version": ' + b"9" * 5000 + b"}",
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * 900 + b"]" * 900,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b'{"proof": {"kl_mean": 1e999}}',
    ],
)
def test_a_manifest_that_is_no_such_json_is_refused(folder: Path, text: bytes) -> None:
    (folder / MANIFEST).write_bytes(text)
    assert MANIFEST in refusal(folder)


def test_a_manifest_that_is_a_folder_is_refused(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).mkdir()
    assert f"has no {MANIFEST}" in refusal(folder)


def test_a_template_that_is_no_text_is_a_package_error(folder: Path) -> None:
    opened = open_package(folder)
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(PackageError, match="cannot be read"):
        opened.chat_template()
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(PackageError, match="cannot be read"):
        opened.chat_template()


def test_the_same_manifest_gives_the_same_bytes(folder: Path) -> None:
    before = (folder / MANIFEST).read_bytes()
    manifest = open_package(folder).manifest
    turned = replace(manifest, files=dict(reversed(manifest.files.items())))
    write_manifest(folder, turned)
    assert (folder / MANIFEST).read_bytes() == before


def test_a_manifest_with_infinite_figures_cannot_be_written(folder: Path) -> None:
    manifest = open_package(folder).manifest
    before = (folder / MANIFEST).read_bytes()
    assert manifest.proof is not None
    with pytest.raises(ValueError):
        write_manifest(folder, replace(manifest, proof=replace(manifest.proof, kl_mean=1e400)))
    assert (folder / MANIFEST).read_bytes() == before


WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12)
COUNTS = st.integers(1, 2**31)
FIGURES = st.floats(-1e6, 1e6)
POSITIVE = st.floats(1e-3, 1e6)
HASHES = st.text("0123456789abcdef", min_size=64, max_size=64)
SOURCES = st.builds(
    SourceInfo,
    id=WORDS,
    revision=st.none() | WORDS,
    licence=st.none() | WORDS,
    format=st.sampled_from(["gguf", "safetensors"]),
    files=st.dictionaries(WORDS, HASHES, max_size=2),
)
SHAPES = st.builds(ModelShape, WORDS, *[COUNTS] * 8)
RECIPES = st.builds(
    Recipe,
    WORDS,
    POSITIVE,
    st.dictionaries(WORDS, COUNTS, max_size=2),
    st.dictionaries(WORDS, POSITIVE, max_size=2),
)
PROOFS = st.builds(
    Proof,
    HASHES,
    COUNTS,
    FIGURES,
    FIGURES,
    st.floats(0, 1),
    POSITIVE,
    POSITIVE,
    WORDS,
    st.lists(WORDS, max_size=2).map(tuple),
    st.booleans(),
)
IDS = st.none() | st.just(0)
TEXTS = st.builds(Text, st.lists(st.just(0), max_size=2).map(tuple), IDS, IDS, st.just(False))
EMPTY = FileInfo(0, hashlib.sha256(b"").hexdigest())
MANIFESTS = st.builds(
    Manifest,
    WORDS,
    SOURCES,
    SHAPES,
    RECIPES,
    TEXTS,
    st.just({"model.onnx": EMPTY, "tokenizer.json": EMPTY}),
    st.dictionaries(WORDS, WORDS, max_size=2),
    st.none() | PROOFS,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MANIFESTS)
def test_reading_gives_what_was_written(tmp_path: Path, manifest: Manifest) -> None:
    for name in manifest.files:
        (tmp_path / name).touch()
    write_manifest(tmp_path, manifest)
    opened = open_package(tmp_path)
    assert opened.manifest == manifest
    text = (tmp_path / MANIFEST).read_bytes()
    write_manifest(tmp_path, opened.manifest)
    assert (tmp_path / MANIFEST).read_bytes() == text
