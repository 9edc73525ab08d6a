"""The hub, played by a stand-in on loopback: what a repository holds, what can go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from standin import COMMIT, Hub, Repository, locked, sha256

from ondevice import hub
from ondevice.errors import FetchError
from ondevice.hub import HubUnavailable
from ondevice.lock import LockedFile


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub({}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url + "/")
        yield server


def holds(server: Hub, *names: str, **options: object) -> None:
    held = {name: name.encode() for name in names}
    big = tuple(name for name in names if name.endswith((".gguf", ".safetensors")))
    server.repositories["owner/Tiny-GGUF"] = Repository(held, lfs=big, **options)  # type: ignore[arg-type]


def test_a_repository_with_one_gguf_file_gives_that_file(server: Hub) -> None:
    holds(server, "README.md", "tiny.gguf", "mmproj-tiny.gguf")
    model = hub.describe("owner/Tiny-GGUF")
    assert model.name == "tiny"
    assert model.source_id == "owner/Tiny-GGUF"
    assert model.revision == COMMIT
    assert model.files == (LockedFile("tiny.gguf", 9, sha256(b"tiny.gguf")),)
    assert [method for method, _, _ in server.requests] == ["GET"]


def test_of_several_gguf_files_one_must_be_named(server: Hub) -> None:
    holds(server, "tiny-q4_k_m.gguf", "tiny-q8_0.gguf", "tiny-f16-00001-of-00002.gguf")
    with pytest.raises(FetchError, match=r"--file from: tiny-q4_k_m\.gguf, tiny-q8_0\.gguf$"):
        hub.describe("owner/Tiny-GGUF")
    for words in ("tiny-q8_0.gguf", "Q8_0"):
        assert hub.describe("owner/Tiny-GGUF", file=words).files[0].name == "tiny-q8_0.gguf"
    with pytest.raises(FetchError, match="is not one of its files"):
        hub.describe("owner/Tiny-GGUF", file="q5_0")


def test_a_safetensors_checkpoint_is_locked_with_its_small_files_hashed_here(server: Hub) -> None:
    weights = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    small = ("config.json", "tokenizer.json", "model.safetensors.index.json")
    more = ("consolidated.safetensors", "pytorch_model.bin", "README.md", "onnx/model.onnx")
    holds(server, *weights, *small, *more)
    model = hub.describe("owner/Tiny-GGUF", name="mine", target="cpu-int8")
    assert (model.name, model.target) == ("mine", "cpu-int8")
    assert {file.name: file.sha256 for file in model.files} == {
        name: sha256(name.encode()) for name in (*weights, *small)
    }


def test_pickled_weights_are_refused(server: Hub) -> None:
    holds(server, "config.json", "pytorch_model.bin")
    with pytest.raises(FetchError, match="pickled weights are not read"):
        hub.describe("owner/Tiny-GGUF")


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ({"license": "mit"}, "mit"),
        ({"license": "other", "license_name": "llama3"}, "llama3"),
        ({}, "unknown"),
    ],
)
def test_the_licence_comes_from_the_model_card(
    server: Hub, card: dict[str, str], licence: str
) -> None:
    holds(server, "tiny.gguf", card=card)
    assert hub.describe("owner/Tiny-GGUF").licence == licence


def test_what_the_hub_does_not_have_is_said_in_a_line(server: Hub, tmp_path: Path) -> None:
    holds(server, "tiny.gguf")
    with pytest.raises(HubUnavailable, match="owner/absent: the hub has no such repository"):
        hub.describe("owner/absent")
    with pytest.raises(HubUnavailable, match="does not have this revision"):
        hub.describe("owner/Tiny-GGUF", revision="v9")
    with pytest.raises(FetchError, match="not a hub id"):
        hub.describe("../../etc/passwd")
    server.repositories["owner/tiny"] = Repository({})
    with pytest.raises(HubUnavailable, match="does not have this file"):
        hub.fetch(model := locked(b"x"), model.files[0], tmp_path / "part", lambda _: None)


def test_a_server_that_is_no_hub_is_said_in_a_line(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds(server, "tiny.gguf")
    server.repositories["owner/Tiny-GGUF"].commit = ""
    with pytest.raises(FetchError, match="does not say what"):
        hub.describe("owner/Tiny-GGUF")
    for address in ("http://127.0.0.1:9", "http://127.0.0.1:wrong", "nonsense"):
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(HubUnavailable, match="cannot be reached"):
            hub.describe("owner/Tiny-GGUF")


def test_a_file_begun_is_finished_and_one_too_long_is_begun_anew(
    server: Hub, tmp_path: Path
) -> None:
    server.repositories["owner/tiny"] = Repository({"tiny.gguf": b"data"}, lfs=("tiny.gguf",))
    model = locked(b"data")
    (tmp_path / "part").write_bytes(b"da")
    seen: list[int] = []
    hub.fetch(model, model.files[0], tmp_path / "part", seen.append)
    assert (tmp_path / "part").read_bytes() == b"data"
    assert seen == [4]
    assert server.requests[-1][2] == "bytes=2-"
    (tmp_path / "part").write_bytes(b"longer than it should be")
    hub.fetch(model, model.files[0], tmp_path / "part", seen.append)
    assert (tmp_path / "part").read_bytes() == b"data"
    assert server.requests[-1][2] is None
