"""The separate Python environments in which other exporters run, and running them there.

The exporters need torch and versions of transformers that exclude each other, so they are
child processes: this module finds out whether an environment has what a tool needs, and starts
the tool without network, telemetry or the user's own Python settings.
Knows nothing about models or graphs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ondevice.errors import ExportError

_SETTINGS = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DO_NOT_TRACK": "1",
    "PYTHONUTF8": "1",
}
_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_PROBE = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""
_PROBE_SECONDS = 60


@dataclass(frozen=True)
class Tool:
    """An exporter of others: its name after `--via`, and the distributions that it is.

    `requirements` are exact: with other versions its graphs may differ from what was tried.
    `majors` are the first numbers of versions that must match: the two tools want different
    transformers.
    """

    name: str
    distribution: str
    requirements: tuple[str, ...]
    majors: Mapping[str, str]

    @property
    def distributions(self) -> tuple[str, ...]:
        return tuple(requirement.split("==")[0] for requirement in self.requirements)


GENAI = Tool(
    "genai",
    "onnxruntime-genai",
    (
        "onnxruntime-genai==0.18.0",
        "onnxruntime==1.32.0",
        "onnx-ir==1.1.0",
        "transformers==5.24.0",
        "torch==2.13.0",
    ),
    {"transformers": "5"},
)
OPTIMUM = Tool(
    "optimum",
    "optimum-onnx",
    (
        "optimum-onnx==0.1.0",
        "onnxruntime==1.32.0",
        "onnx==1.23.2",
        "transformers==4.57.6",
        "accelerate==1.15.0",
        "torch==2.13.0",
    ),
    {"transformers": "4"},
)
TOOLS = {tool.name: tool for tool in (GENAI, OPTIMUM)}


@dataclass(frozen=True)
class Environment:
    """A Python interpreter that has what a tool needs; `versions` by distribution."""

    tool: Tool
    python: Path
    versions: Mapping[str, str]

    @property
    def reference(self) -> str:
        """What computes a reference in it, with versions."""
        return f"transformers {self.versions['transformers']}, torch {self.versions['torch']}"

    def run(
        self,
        arguments: Sequence[str],
        folder: Path,
        what: str,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        """Run `python -I ARGUMENTS` in `folder`; `on_line` gets each line that it prints.

        Raises `ExportError` with the last line of its complaint when it fails. It is killed
        when this process is interrupted.
        """
        command = [str(self.python), "-I", *arguments]
        with tempfile.TemporaryFile() as complaint:
            try:
                child = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=_variables(folder),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=complaint,
                    encoding="utf-8",
                    errors="replace",
                )
            except OSError as error:
                raise ExportError(
                    f"{self.python} cannot be started: {error.strerror or error}"
                ) from error
            code = _follow(child, on_line)
            if code:
                complaint.seek(0)
                reason = _last_line(complaint.read().decode("utf-8", "replace"))
                raise ExportError(f"{what} failed: {reason or f'it ended with code {code}'}")


def find_environment(tool: Tool, python: Path | None = None) -> Environment:
    """The environment of `python` (default: this one), checked to have what the tool needs.

    Raises `ExportError` with the commands that make one where it does not.
    """
    chosen = _interpreter(python)
    versions = _probe(tool, chosen)
    lacking = [name for name in tool.distributions if name not in versions]
    unfit = [
        f"{name} {major}"
        for name, major in tool.majors.items()
        if name in versions and versions[name].split(".")[0] != major
    ]
    if lacking or unfit:
        raise ExportError(
            f"--via {tool.name} needs {', '.join([*lacking, *unfit])}, which {chosen} does not "
            f"have; {_remedy(tool)}"
        )
    return Environment(tool, chosen, versions)


def _interpreter(python: Path | None) -> Path:
    """Its absolute path, for a child that starts in another folder. Links are not followed: an
    environment's interpreter is one."""
    if python is None:
        return Path(sys.executable)
    return Path(shutil.which(python) or python).absolute()


def _remedy(tool: Tool) -> str:
    folder = f"via-{tool.name}"
    binaries = f"{folder}\\Scripts" if os.name == "nt" else f"{folder}/bin"
    return (
        f"make an environment: python -m venv {folder} && {binaries}/pip install "
        f"{' '.join(tool.requirements)}; then give --python {binaries}/python"
    )


def _probe(tool: Tool, python: Path) -> dict[str, str]:
    command = [str(python), "-I", "-c", _PROBE, *tool.distributions]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=True
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ExportError(
            f"{python} is not a Python interpreter that runs; give --python the one of an "
            f"environment made for --via {tool.name}"
        ) from error
    return {str(name): str(version) for name, version in found.items()}


def _variables(folder: Path) -> dict[str, str]:
    """The child's environment variables: ours without secrets, offline, nothing in the home."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") and name not in _SECRETS
    }
    return kept | _SETTINGS | {"HF_HOME": str(folder / "hf")}


def _follow(child: subprocess.Popen[str], on_line: Callable[[str], None] | None) -> int:
    assert child.stdout is not None
    try:
        for line in child.stdout:
            if on_line is not None:
                on_line(line.rstrip())
        return child.wait()
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        child.stdout.close()


def _last_line(text: str) -> str:
    """The last line that says something, cut to what fits."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    printable = "".join(letter for letter in (lines or [""])[-1] if letter.isprintable())
    return printable[:300]
