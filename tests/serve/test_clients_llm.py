"""The server as a person uses it with `llm` on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from echoing import TOKEN, Served

VERSION = "0.36"
MODELS = """\
- model_id: here
  model_name: one
  api_base: {url}
  api_key_name: ondevice
  supports_schema: true
  supports_tools: true
- model_id: there
  model_name: none-of-this-name
  api_base: {url}
  api_key_name: ondevice
"""
TOOL = """
def double(number: int) -> str:
    "Twice a number"
    return 'It is 42. «{"answer":"Twice is 42"}»' if number == 21 else ""
"""

Llm = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def program() -> Path:
    """`llm` in an environment of its own, made once in a cache outside the repository."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ondevice-tests"
    folder = cache / f"llm-{VERSION}"
    scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
    program = scripts / ("llm.exe" if sys.platform == "win32" else "llm")
    if not program.is_file():
        venv.create(folder, with_pip=True, clear=True)
        install = [str(scripts / "python"), "-m", "pip", "install", "-q", f"llm=={VERSION}"]
        done = subprocess.run(install, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"llm=={VERSION} cannot be had: {done.stderr.strip()[-200:]}")
    return program


@pytest.fixture(scope="module")
def llm(program: Path, server: Served, tmp_path_factory: pytest.TempPathFactory) -> Llm:
    """Runs `llm` with our server among its models."""
    home = tmp_path_factory.mktemp("llm")
    models = MODELS.format(url=server.url)
    (home / "extra-openai-models.yaml").write_text(models, encoding="utf-8")

    def run(*arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
        (home / "keys.json").write_text(json.dumps({"ondevice": token}), encoding="utf-8")
        return subprocess.run(
            [str(program), *arguments],
            env=os.environ | {"LLM_USER_PATH": str(home), "PYTHONUTF8": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
        )

    return run


def test_a_prompt_is_answered_in_a_stream_and_whole(llm: Llm) -> None:
    streamed = llm("-m", "here", "say «Grüße aus Köln»")
    assert streamed.stdout.strip() == "Grüße aus Köln", streamed.stderr
    whole = llm("-m", "here", "--no-stream", "say «Grüße aus Köln»")
    assert whole.stdout.strip() == "Grüße aus Köln", whole.stderr


def test_a_conversation_goes_on(llm: Llm, server: Served) -> None:
    assert llm("-m", "here", "-s", "Be brief.", "First «one»").stdout.strip() == "one"
    assert llm("-c", "Second «two»").stdout.strip() == "two"
    prompt = server.echo.prompts[-1]
    parts = ("Be brief.", "First", "one", "Second")
    assert [prompt.index(part) for part in parts] == sorted(prompt.index(part) for part in parts)


def test_a_schema_is_followed(llm: Llm) -> None:
    done = llm("-m", "here", "--schema", "age int", 'say «{"age":36}»')
    assert json.loads(done.stdout) == {"age": 36}, done.stderr


def test_a_tool_is_run_and_its_result_is_answered(llm: Llm, server: Served) -> None:
    call = '{"tool":"double","arguments":{"number":21}}'
    done = llm("-m", "here", "--functions", TOOL, f"say «{call}»")
    assert done.stdout.strip() == "Twice is 42", done.stderr
    assert "Result of the tool double:\nIt is 42." in server.echo.prompts[-1]


def test_errors_are_read_as_a_person_needs_them(llm: Llm) -> None:
    unknown = llm("-m", "there", "hello")
    assert unknown.returncode != 0 and "no model 'none-of-this-name'" in unknown.stderr
    stranger = llm("-m", "here", "hello", token="wrong")
    assert stranger.returncode != 0 and "the token is wrong" in stranger.stderr
