"""The server as the `openai` package of npm sees it, driven by Node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from echoing import TOKEN, Served

VERSION = "7.57.0"
SCRIPT = Path(__file__).with_name("openai_client.mjs")


@pytest.fixture(scope="module")
def package() -> Path:
    """The folder that has the package, installed once into a cache outside the repository."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ondevice-tests"
    folder = cache / f"npm-openai-{VERSION}"
    manifest = folder / "node_modules" / "openai" / "package.json"
    if not manifest.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--prefix", str(folder), "--no-save", "--ignore-scripts"]
        quiet = ["--no-audit", "--no-fund", f"openai@{VERSION}"]
        done = subprocess.run([*install, *quiet], capture_output=True, text=True, timeout=180)
        if done.returncode:
            pytest.skip(f"openai@{VERSION} of npm cannot be had: {done.stderr.strip()[-200:]}")
    assert json.loads(manifest.read_text(encoding="utf-8"))["version"] == VERSION
    return folder


@pytest.fixture(scope="module")
def seen(package: Path, server: Served) -> dict[str, Any]:
    """What the script saw."""
    server.echo.step_s = 0.005  # the answer that is left would take 7 s
    done = subprocess.run(
        ["node", str(SCRIPT), str(package), server.url, TOKEN],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_answers_come_whole_and_in_parts(seen: dict[str, Any]) -> None:
    assert seen["models"] == ["one", "two"]
    assert seen["whole"] == "Grüße 🙂"
    assert seen["usage"] > 0 and seen["source"] == "device"
    assert "".join(seen["streamed"]) == "naïve café" and len(seen["streamed"]) == 3
    assert (seen["continued"], seen["logprobs"]) == ("upon a time", "yes")


def test_schemas_and_tools_are_followed(seen: dict[str, Any]) -> None:
    assert seen["shaped"] == {"age": 36}
    assert seen["call"]["name"] == "weather"
    assert json.loads(seen["call"]["arguments"]) == {"city": "Köln"}
    assert "".join(seen["beside_tools"]) == "warm"


def test_responses_come_whole_and_in_parts(seen: dict[str, Any]) -> None:
    assert seen["response"] == "Grüße"
    assert seen["events"][0] == "response.created"
    assert seen["events"][-1] == "response.completed"
    assert seen["events"].count("response.output_text.delta") == 3


def test_wrong_requests_raise_the_errors_that_programs_know(seen: dict[str, Any]) -> None:
    assert (seen["unknown"]["name"], seen["unknown"]["status"]) == ("NotFoundError", 404)
    assert (seen["wrong"]["name"], seen["wrong"]["param"]) == ("BadRequestError", "messages")
    assert (seen["stranger"]["name"], seen["stranger"]["status"]) == ("AuthenticationError", 401)


def test_a_client_that_goes_ends_its_answer(seen: dict[str, Any], server: Served) -> None:
    assert seen["left"] is True
    assert server.idle(2)
