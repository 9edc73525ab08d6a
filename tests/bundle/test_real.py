"""SmolLM2 packed for real: copied elsewhere, read-only, it answers without a network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import bundle_probe
from benchmarks.bundle import isolated, sizes
from ondevice.bundle import checksums
from ondevice.bundle.build import Bundle, build
from ondevice.bundle.plan import make_plan
from ondevice.package import Package

pytestmark = [
    pytest.mark.real_model,
    pytest.mark.skipif("sys.platform != 'linux'", reason="desktop.yml does it elsewhere"),
]

LIMIT = 150_000_000


@pytest.fixture(scope="module")
def bundle(smollm2_package: Package, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    made = build(make_plan("Assistant", model=smollm2_package), folder / "built")
    moved = folder / "moved to another place"
    made.folder.rename(moved)
    return Bundle(moved, moved / "Assistant", made.bytes, made.own_bytes, None, None, made.missing)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONDEVICE_HOME", str(tmp_path / "home"))


def run(bundle: Bundle, *arguments: str) -> str:
    command = [bundle.program / "Assistant", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_it_is_small_beside_its_model_and_whole_after_the_move(bundle: Bundle) -> None:
    assert bundle.own_bytes < LIMIT, sizes(bundle.program)
    checksums.check(bundle.program)


def test_nothing_that_trains_or_draws_or_is_under_the_gpl_came_along(bundle: Bundle) -> None:
    names = {path.name.split(".")[0] for path in (bundle.program / "_internal").iterdir()}
    assert not names & {"torch", "transformers", "scipy", "sklearn", "tkinter", "libreadline"}
    bom = json.loads((bundle.program / "sbom.cdx.json").read_text(encoding="utf-8"))
    assert {"onnxruntime", "tokenizers", "cpython", "markdown-it"} <= {
        component["name"] for component in bom["components"]
    }
    assert not list(bundle.program.rglob("libonnxruntime.so*"))


def test_it_answers_on_the_command_line_as_ondevice_does(
    bundle: Bundle, smollm2_package: Package
) -> None:
    question = ["--max-tokens", "8", "What is the capital of France?"]
    here = [sys.executable, "-m", "ondevice", "ask", "-m", str(smollm2_package.folder), *question]
    expected = subprocess.run(here, capture_output=True, text=True, timeout=120, check=True)
    assert run(bundle, "ask", *question) == expected.stdout


def test_it_finds_nothing_missing_in_itself(bundle: Bundle) -> None:
    report = json.loads(run(bundle, "doctor", "--json"))
    assert report["problems"] == []
    assert report["telemetry_off"]


def test_it_makes_models_ready_by_itself(bundle: Bundle, smollm2_gguf: Path) -> None:
    run(bundle, "pull", "smollm2-135m-instruct", "--from", str(smollm2_gguf))
    assert "6 files hold" in run(bundle, "verify", "smollm2-135m-instruct")


def test_its_window_answers_over_loopback(bundle: Bundle) -> None:
    probed = bundle_probe.probe([str(bundle.program / "Assistant")], "What is a bee?", 120)
    assert probed.page == 200
    assert probed.answer.strip()


@pytest.mark.root
@pytest.mark.skipif(
    "__import__('os').geteuid() != 0 or not __import__('shutil').which('strace')",
    reason="needs root and strace",
)
def test_as_nobody_read_only_and_without_a_network_only_loopback_is_used(bundle: Bundle) -> None:
    assert shutil.which("unshare")
    found = isolated(bundle.program, "Assistant")
    assert found["answer"].strip()
    assert found["page"] == 200
    assert found["addresses"] == ["127.0.0.1"]
    assert found["not_loopback"] == []
    assert found["listening"] == ["127.0.0.1"]
