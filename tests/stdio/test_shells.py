"""The native shells: every one that can be built here passes the conformance script."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import tiny, write_checkpoint

from ondevice.export.convert import convert

SHELLS = Path(__file__).parents[2] / "apps" / "shells"
ELECTRON_STUB = Path(__file__).with_name("electron_stub.mjs")
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="session")
def long_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny package that can go on answering for seconds: something to interrupt."""
    folder = tmp_path_factory.mktemp("shells")
    checkpoint = write_checkpoint(folder / "checkpoint", tiny(context_length=8192))
    return convert(checkpoint, "cpu-fp32", folder / "tiny").folder


def conformance(*arguments: object, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the script as a person would."""
    environment = {**os.environ, "PATH": os.environ["PATH"] if path is None else path}
    environment.pop("PYTHONSAFEPATH", None)  # its modules lie beside it
    return subprocess.run(
        [sys.executable, str(SHELLS / "conformance.py"), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize("shell", ["c", "node", "java", "csharp", "swift"])
def test_a_shell_passes_the_conformance_script(shell: str, long_package: Path) -> None:
    done = conformance(long_package, "--shell", shell)
    _, found, reason = done.stdout.partition(f"{shell}: not run: ")
    if found:
        pytest.skip(reason.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass" in done.stdout


def test_shells_that_cannot_be_built_are_named_and_none_at_all_is_a_failure(
    tmp_path: Path,
) -> None:
    done = conformance(path=str(tmp_path))
    assert done.returncode == 1
    assert "node: not run: no `node` here" in done.stdout
    assert "csharp: not run: no `dotnet` here" in done.stdout
    assert "pass" not in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="the stand-in is a script with a shebang")
def test_a_shell_that_does_nothing_fails(tmp_path: Path, long_package: Path) -> None:
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\n[ $1 = --version ] && echo v20.0.0\n")
    node.chmod(0o755)
    done = conformance(long_package, "--shell", "node", path=f"{tmp_path}:/usr/bin:/bin")
    assert done.returncode == 1
    assert "FAIL" in done.stdout and "pass" not in done.stdout
    assert "the shell ended before: ready" in done.stdout


@pytest.mark.skipif(shutil.which("node") is None, reason="no `node` here")
def test_the_electron_windows_process_streams_cancels_and_quits(long_package: Path) -> None:
    sidecar = [sys.executable, "-m", "ondevice", "stdio", str(long_package)]
    main = SHELLS / "node" / "electron" / "main.js"
    done = subprocess.run(
        ["node", "--import", ELECTRON_STUB.as_uri(), str(main), "--", *sidecar],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["page"].endswith("index.html") and Path(seen["preload"]).is_file()
    assert seen["default"] == "tiny"
    assert seen["stages"][0] == "loading" and seen["stages"][-1] == "ready"
    assert seen["streamed"] == seen["text"]
    assert "| cancelled |" in seen["line"]
    assert "messages" in seen["refused"]


@pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium here")
def test_the_electron_page_shows_an_answer_its_line_and_an_error() -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        problems: list[str] = []
        page.on("console", lambda said: problems.append(said.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.add_init_script(PRELOAD)
        page.goto((SHELLS / "node" / "electron" / "index.html").as_uri())
        page.get_by_text("tiny is ready").wait_for()
        page.get_by_label("Question").fill("<b>Hi</b>")
        page.keyboard.press("Enter")
        page.get_by_text("[device: tiny]").wait_for()
        shown = page.locator("#conversation p").all_inner_texts()
        page.get_by_label("Question").fill("again")
        page.keyboard.press("Enter")
        page.get_by_text("no more answers").wait_for()
        browser.close()
    assert shown == ["<b>Hi</b>", "the whole answer", "[device: tiny]"]
    assert problems == []


PRELOAD = """
let token, asked = 0
window.ondevice = {
  initialize: async () => ({ default: 'tiny' }),
  chat: async () => {
    if (asked++) return { error: 'no more answers' }
    token({ text: 'the draft', provisional: true })
    return { text: 'the whole answer', line: '[device: tiny]' }
  },
  cancel: () => {},
  onStage: () => {},
  onToken: (listener) => { token = listener },
}
"""
