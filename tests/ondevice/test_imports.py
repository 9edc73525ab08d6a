"""What importing costs, and what it must not import."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ("onnxruntime", "onnxruntime_genai", "torch", "transformers", "llama_cpp", "coremltools")


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def modules_after(code: str) -> set[str]:
    names = python(f"{code}\nimport sys\nprint(*(n for n in sys.modules if '.' not in n))")
    return set(names.split())


def test_import_ondevice_imports_no_library() -> None:
    loaded = modules_after("import ondevice")
    assert not loaded & {*HEAVY, "numpy", "onnx", "onnx_ir", "gguf", "huggingface_hub", "rich"}


def test_the_command_line_imports_no_library_before_it_needs_one() -> None:
    loaded = modules_after("import ondevice.cli\nondevice.cli.run(['--version'])")
    assert not loaded & {*HEAVY, "numpy", "onnx", "onnx_ir", "gguf", "huggingface_hub"}


@pytest.mark.parametrize(
    "module",
    ["ondevice.runtime.model", "ondevice.pull", "ondevice.export.convert", "ondevice.doctor"],
)
def test_the_base_install_needs_neither_torch_nor_transformers(module: str) -> None:
    assert not modules_after(f"import {module}") & {"torch", "transformers", "coremltools"}


def test_the_runtime_knows_nothing_of_the_exporter() -> None:
    code = (
        "import importlib, pkgutil, sys, ondevice.runtime\n"
        "for found in pkgutil.iter_modules(ondevice.runtime.__path__):\n"
        "    importlib.import_module('ondevice.runtime.' + found.name)\n"
        "print(*(n for n in sys.modules if n.startswith('ondevice.export')))"
    )
    assert python(code) == ""


@pytest.mark.parametrize("before", [{}, {"ORT_DISABLE_TELEMETRY": "0"}])
def test_telemetry_is_off_before_onnxruntime_can_be_imported(before: dict[str, str]) -> None:
    code = (
        "import sys, os, ondevice\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    assert python(code, **before) == "1"


def test_every_import_of_onnxruntime_finds_telemetry_off() -> None:
    code = (
        "import sys, os\n"
        "def watch(event, arguments):\n"
        "    if event == 'import' and arguments[0] in ('onnxruntime', 'onnxruntime_genai'):\n"
        "        print(arguments[0], os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "sys.addaudithook(watch)\n"
        "from ondevice.doctor import examine\n"
        "examine()"
    )
    assert set(python(code, ORT_DISABLE_TELEMETRY="0").splitlines()) == {"onnxruntime 1"}
