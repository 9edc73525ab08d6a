"""The commands about models and the machine: what they call and what they print."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ondevice import cli, doctor, lock, store
from ondevice.export.recipe import Options
from ondevice.package import (
    Manifest,
    ModelShape,
    Package,
    Proof,
    Recipe,
    SourceInfo,
    Text,
    describe_files,
    open_package,
    write_manifest,
)

Captured = pytest.CaptureFixture[str]

PROOF = Proof(
    text_sha256="0" * 64,
    tokens=1000,
    kl_mean=0.01,
    kl_p99=0.1,
    top1_agreement=0.95,
    perplexity=11.0,
    reference_perplexity=10.0,
    engine="ort",
    instruction_sets=("AVX2",),
)


def make_package(folder: Path, name: str, proof: Proof | None = PROOF) -> Package:
    """A package whose model is a few bytes: enough for everything that does not run it."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    write_manifest(
        folder,
        Manifest(
            name=name,
            source=SourceInfo("owner/model", "a" * 40, "Apache-2.0", "gguf", {"m.gguf": "0" * 64}),
            shape=ModelShape("llama", 256, 64, 2, 4, 2, 16, 512, 1_000_000),
            recipe=Recipe("cpu-int4", 4.5, {"int4 block 32": 14}, {}),
            text=Text((0,), None, None, False),
            files=describe_files(folder),
            tools={"onnx": "1.0"},
            proof=proof,
        ),
    )
    return open_package(folder)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ONDEVICE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def small() -> Package:
    return make_package(store.package_folder("small"), "small")


def output(capsys: Captured, *arguments: str, code: int = 0) -> str:
    assert cli.run(list(arguments)) == code
    return capsys.readouterr().out


def test_list_prints_a_table_or_json(small: Package, capsys: Captured) -> None:
    heading, row = output(capsys, "list").splitlines()
    assert heading.split() == ["NAME", "TARGET", "SIZE", "LICENCE", "FOLDER"]
    assert row.split()[:2] == ["small", "cpu-int4"]
    (found,) = json.loads(output(capsys, "list", "--json"))
    assert found["name"] == "small"
    assert found["bytes"] == 7
    assert found["proof"]["top1_agreement"] == 0.95


def test_list_of_an_empty_store_is_empty(capsys: Captured) -> None:
    assert output(capsys, "list") == ""
    assert json.loads(output(capsys, "list", "--json")) == []


def test_list_tells_of_a_damaged_model_and_shows_the_others(
    small: Package, capsys: Captured
) -> None:
    damaged = make_package(store.package_folder("damaged"), "damaged")
    damaged.model_file.unlink()
    assert cli.run(["list"]) == 0
    out, err = capsys.readouterr()
    assert "small" in out
    assert "model.onnx is missing" in err


def test_info_shows_source_licence_and_proof(small: Package, capsys: Captured) -> None:
    text = output(capsys, "info", "small")
    for part in ("owner/model at aaaaaaaaaaaa", "Apache-2.0", "95.00%", "x1.1000", "1,000 tokens"):
        assert part in text
    found = json.loads(output(capsys, "info", str(small.folder), "--json"))
    assert found["recipe"]["target"] == "cpu-int4"
    assert found["folder"] == str(small.folder)


def test_remove_deletes_the_model_and_says_what_that_freed(
    small: Package, capsys: Captured
) -> None:
    freed = json.loads(output(capsys, "remove", "small", "--json"))
    assert freed["removed"] == "small"
    assert freed["bytes"] > 7
    assert not small.folder.exists()


def test_verify_reads_every_byte(small: Package, capsys: Captured) -> None:
    assert "2 files" in output(capsys, "verify", "small")
    found = json.loads(output(capsys, "verify", "small", "--json"))
    assert found["files_ok"] is True
    assert found["proved_now"] is False
    small.model_file.write_bytes(b"grapH")
    assert cli.run(["verify", "small"]) == 2
    assert "model.onnx has the wrong content" in capsys.readouterr().err


def test_pull_passes_its_options_on_and_prints_the_package(
    small: Package, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, dict[str, object]]] = []

    def pull(name: object, **options: object) -> Package:
        calls.append((name, options))
        return small

    monkeypatch.setattr("ondevice.pull.pull", pull)
    text = output(capsys, "pull", "small", "--from", "mirror", "--target", "cpu-int8")
    assert "small (cpu-int4, 0 MB) is ready in" in text
    assert json.loads(output(capsys, "pull", "--json", "--force"))["name"] == "small"
    (first, given), (second, forced) = calls
    assert (first, second) == ("small", None)
    assert (given["source"], given["target"], given["force"]) == ("mirror", "cpu-int8", False)
    assert (forced["source"], forced["target"], forced["force"]) == (None, None, True)
    assert given["progress"] is None  # nobody watches a pipe


def test_export_passes_its_options_on(
    small: Package, capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[tuple[object, ...], dict[str, object]]] = []

    def convert(*arguments: object, **options: object) -> Package:
        calls.append((arguments, options))
        return small

    monkeypatch.setattr("ondevice.export.convert.convert", convert)
    out = tmp_path / "out"
    options = f"m.gguf --target cpu-fp32 --out {out} --accept --name N --licence MIT --replace"
    options += " --bits 8 --block 64 --asymmetric --fresh"
    assert "is ready in" in output(capsys, "export", *options.split())
    ((arguments, given),) = calls
    assert arguments == (Path("m.gguf"), "cpu-fp32", out)
    assert given == {
        "options": Options(bits=8, block=64, symmetric=False),
        "fresh": True,
        "name": "N",
        "source_id": None,
        "licence": "MIT",
        "accept": True,
        "replace": True,
        "progress": None,
    }


def test_lock_lists_the_models_and_marks_the_default(capsys: Captured) -> None:
    known = lock.read()
    text = output(capsys, "lock")
    assert all(name in text for name in known.models)
    assert f"{known.default} (default)" in text
    shown = json.loads(output(capsys, "lock", "--json"))
    assert shown["default"] == known.default
    assert set(shown["models"]) == set(known.models)


def test_lock_check_leaves_with_1_when_something_differs(capsys: Captured) -> None:
    assert "not installed" in output(capsys, "lock", "--check")
    name = lock.read().find().name
    make_package(store.package_folder(name), name)
    assert "WRONG" in output(capsys, "lock", "--check", code=1)
    findings = json.loads(output(capsys, "lock", "--check", "--json", code=1))
    assert [finding["model"] for finding in findings if not finding["ok"]] == [name]


def test_doctor_has_nothing_against_a_sound_installation(small: Package, capsys: Captured) -> None:
    text = output(capsys, "doctor")
    assert "problem" not in text
    assert "CPUExecutionProvider" in text
    found = json.loads(output(capsys, "doctor", "--json"))
    assert found["telemetry_off"] is True
    assert found["models"] == ["small"]
    assert found["problems"] == []


def test_doctor_says_what_is_missing_and_what_to_do(capsys: Captured) -> None:
    text = output(capsys, "doctor", code=1)
    assert "problem: no model is installed: `ondevice pull`" in text


def test_doctor_sees_a_damaged_model(small: Package) -> None:
    small.model_file.write_bytes(b"longer than it was")
    (problem,) = doctor.examine().problems
    assert "model.onnx has 18 bytes instead of 5" in problem


def test_doctor_sees_that_telemetry_was_switched_on_again(
    small: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    report = doctor.examine()
    assert not report.telemetry_off
    assert any("ORT_DISABLE_TELEMETRY" in problem for problem in report.problems)


def test_doctor_sees_a_missing_library(small: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LIBRARIES", (*doctor.LIBRARIES, "no-such-distribution"))
    report = doctor.examine()
    assert report.libraries["no-such-distribution"] == "not installed"
    assert any("no-such-distribution" in problem for problem in report.problems)


def test_doctor_warns_of_a_disk_too_full_for_a_pull(
    small: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**6))
    report = doctor.examine()
    assert report.free_bytes == 10**6
    assert "1 MB are free" in report.hints[0]


def test_doctor_changes_nothing(home: Path) -> None:
    doctor.examine()
    assert not home.exists()
