"""The whole way with a stand-in for PyInstaller: what is in the folder, and that it is whole."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ondevice import lock
from ondevice.bundle import checksums
from ondevice.bundle.build import build
from ondevice.bundle.freeze import Frozen
from ondevice.bundle.plan import BundleError, Plan, make_plan
from ondevice.errors import OndeviceError, PackageError
from ondevice.package import Package, open_package

Freezer = Callable[[Plan, Path], Frozen]

linux = pytest.mark.skipif("sys.platform != 'linux'", reason="made on Linux only")


@pytest.fixture
def plan(tiny_package: Package) -> Plan:
    return make_plan("My Assistant", model=tiny_package, version="1.2.3")


def test_the_folder_has_the_program_and_all_its_papers(
    plan: Plan, freezer: Freezer, tmp_path: Path, tiny_package: Package
) -> None:
    bundle = build(plan, tmp_path / "out", freezer=freezer)
    program = tmp_path / "out" / "My-Assistant"
    assert bundle.program == program
    assert (program / "VERSION").read_text() == "1.2.3\n"
    assert (program / "models.lock").read_bytes() == lock.shipped_path().read_bytes()
    assert (program / "licences" / "index.txt").is_file()
    inside = program / "_internal" / "models" / tiny_package.manifest.name
    assert open_package(inside).manifest == tiny_package.manifest
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "My-Assistant",
        "SHA256SUMS",
    ]


def test_sizes_count_the_model_apart_and_links_not_at_all(
    plan: Plan, freezer: Freezer, tmp_path: Path, tiny_package: Package
) -> None:
    bundle = build(plan, tmp_path / "out", freezer=freezer)
    files = [path for path in bundle.program.rglob("*") if path.is_file() and not path.is_symlink()]
    assert bundle.bytes == sum(path.stat().st_size for path in files)
    model = tiny_package.total_bytes + (tiny_package.folder / "ondevice.json").stat().st_size
    assert bundle.own_bytes == bundle.bytes - model


def test_the_checksums_hold_for_a_copy_and_find_every_kind_of_damage(
    plan: Plan, freezer: Freezer, tmp_path: Path
) -> None:
    bundle = build(plan, tmp_path / "out", freezer=freezer)
    copy = shutil.copytree(bundle.program, tmp_path / "copy", symlinks=True)
    checksums.check(copy)
    checksums.check(bundle.folder)
    (copy / "more").write_text("more")
    with pytest.raises(OndeviceError, match="more is not listed"):
        checksums.check(copy)
    (copy / "more").unlink()
    (copy / "VERSION").write_text("1.2.4\n")
    with pytest.raises(OndeviceError, match="VERSION has other content"):
        checksums.check(copy)
    (copy / "VERSION").unlink()
    with pytest.raises(OndeviceError, match="VERSION is missing"):
        checksums.check(copy)


@pytest.mark.skipif("shutil.which('sha256sum') is None", reason="needs sha256sum")
def test_sha256sum_reads_the_checksums(plan: Plan, freezer: Freezer, tmp_path: Path) -> None:
    bundle = build(plan, tmp_path / "out", freezer=freezer)
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    for folder in (bundle.folder, bundle.program):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "")


def test_the_same_input_gives_the_same_checksums(
    plan: Plan, freezer: Freezer, tmp_path: Path
) -> None:
    one = build(plan, tmp_path / "one", freezer=freezer)
    two = build(plan, tmp_path / "two", freezer=freezer)
    assert (one.folder / "SHA256SUMS").read_bytes() == (two.folder / "SHA256SUMS").read_bytes()


def test_a_part_without_a_licence_text_is_reported(
    plan: Plan, freezer: Freezer, tmp_path: Path
) -> None:
    bundle = build(plan, tmp_path / "out", freezer=freezer)
    assert "libsmall.so.1" in bundle.missing
    assert "libsmall.so.1\tunknown\tNO TEXT FOUND" in (
        bundle.program / "licences" / "index.txt"
    ).read_text(encoding="utf-8")


def test_the_bill_of_materials_has_what_is_packed_and_nothing_else(
    plan: Plan, freezer: Freezer, tmp_path: Path, tiny_package: Package
) -> None:
    bundle = build(plan, tmp_path / "out", freezer=freezer)
    bom = json.loads((bundle.program / "sbom.cdx.json").read_text(encoding="utf-8"))
    names = {component["name"] for component in bom["components"]}
    model = tiny_package.manifest.name
    assert names == {"ondevice", "pyinstaller", "pytest", "cpython", "libsmall.so.1", model}


def test_an_existing_folder_is_left_alone_unless_forced(
    plan: Plan, freezer: Freezer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(BundleError, match="exists already"):
        build(plan, out, freezer=freezer)
    assert (out / "mine").read_text() == "mine"
    build(plan, out, force=True, freezer=freezer)
    assert not (out / "mine").exists()
    assert (out / "My-Assistant").is_dir()


@pytest.mark.parametrize("problem", [BundleError("no"), KeyboardInterrupt(), OSError(28, "full")])
def test_a_failure_leaves_nothing_behind(
    plan: Plan, tmp_path: Path, problem: BaseException
) -> None:
    def broken(plan: Plan, work: Path) -> Frozen:
        (work / "half").write_text("half")
        raise problem

    with pytest.raises((OndeviceError, KeyboardInterrupt)):
        build(plan, tmp_path / "out", freezer=broken)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_model_is_not_packed(
    tiny_package: Package, freezer: Freezer, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_package.folder, tmp_path / "model")
    plan = make_plan("Assistant", model=open_package(folder))
    weights = folder / "model.onnx.data"
    weights.write_bytes(bytes([weights.read_bytes()[0] ^ 1]) + weights.read_bytes()[1:])
    with pytest.raises(PackageError, match="wrong content"):
        build(plan, tmp_path / "out", freezer=freezer)
    assert not (tmp_path / "out").exists()


@linux
def test_the_appimage_folder_starts_the_program_wherever_it_lies(
    tiny_package: Package, freezer: Freezer, tmp_path: Path
) -> None:
    plan = make_plan("My Assistant", model=tiny_package, appdir=True)
    bundle = build(plan, tmp_path / "out", freezer=freezer)
    assert bundle.appdir is not None
    moved = bundle.appdir.rename(tmp_path / "moved here.AppDir")
    assert (moved / ".DirIcon").read_bytes() == plan.icon.png
    assert "Icon=my-assistant\n" in (moved / "my-assistant.desktop").read_text(encoding="utf-8")
    done = subprocess.run([moved / "AppRun"], capture_output=True, text=True, timeout=20)
    assert done.stdout == "started\n"


@linux
def test_the_appimage_folder_takes_no_second_copy_on_the_disk(
    tiny_package: Package, freezer: Freezer, tmp_path: Path
) -> None:
    plan = make_plan("My Assistant", model=tiny_package, appdir=True)
    bundle = build(plan, tmp_path / "out", freezer=freezer)
    assert bundle.appdir is not None
    copy = bundle.appdir / "usr" / "lib" / "my-assistant" / "VERSION"
    assert copy.samefile(bundle.program / "VERSION")


def test_checksums_are_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b", "a/z", "a.b", "A"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    lines = checksums.write_checksums(tmp_path).read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["A", "a.b", "a/z", "b"]
    assert lines[0].split("  ")[0] == hashlib.sha256(b"A").hexdigest()
