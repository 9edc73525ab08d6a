"""llama-bench's JSON (`llama-bench -o json`) as a result of ours. Runs nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from ondevice import json_file
from ondevice.errors import RequestError
from ondevice.runtime import bench_result
from ondevice.runtime.bench_result import (
    EngineResult,
    LoadCheck,
    Metric,
    ModelInfo,
    Protocol,
    Result,
)
from ondevice.runtime.device import Device

_COUNT = {"type": "integer", "minimum": 0, "maximum": 10**9}
_SPEED = {"type": "number", "minimum": 0, "maximum": 1e18}
_TEXT = {"type": "string", "maxLength": 4096}
_SCHEMA = {
    "type": "array",
    "minItems": 1,
    "maxItems": 1000,
    "items": {
        "type": "object",
        "required": ["n_prompt", "n_gen", "avg_ts", "model_filename"],
        "properties": {
            "n_prompt": _COUNT,
            "n_gen": _COUNT,
            "n_depth": _COUNT,
            "n_threads": {"type": "integer", "minimum": 1, "maximum": 10**6},
            "avg_ts": _SPEED,
            "samples_ts": {"type": "array", "items": _SPEED, "maxItems": 10000},
            "model_filename": _TEXT | {"minLength": 1},
            "model_size": {"type": "integer", "minimum": 0, "maximum": 10**15},
            "cpu_info": _TEXT,
            "build_commit": _TEXT,
            "build_number": _COUNT,
            "test_time": _TEXT,
        },
    },
}
# What one entry measured; all else describes how, so entries that agree in it belong together.
_MEASURED = {
    "n_prompt",
    "n_gen",
    "n_depth",
    "test_time",
    "avg_ns",
    "stddev_ns",
    "avg_ts",
    "stddev_ts",
    "samples_ns",
    "samples_ts",
}

Entry = Mapping[str, Any]


def read(path: Path) -> Result:
    """Read a file that llama-bench wrote with `-o json`.

    Only the model's file name is kept of its path. What llama-bench does not tell (load time,
    memory, cores) is None. Raises `RequestError` when it is not such a file.
    """
    return from_data(json_file.read(path), path)


def from_data(data: object, path: Path) -> Result:
    """A result from parsed JSON; `path` is named in the `RequestError` when it does not fit."""
    from jsonschema import Draft202012Validator

    problem = next(iter(Draft202012Validator(_SCHEMA).iter_errors(data)), None)
    if problem is not None:
        where = "/".join(str(part) for part in problem.absolute_path) or "top level"
        message = " ".join(problem.message.split())[:200]
        raise RequestError(f"{path} is not llama-bench's JSON: {where}: {message}")
    assert isinstance(data, list)
    entries = [entry for entry in data if entry["n_prompt"] or entry["n_gen"]]
    if not entries:
        raise RequestError(f"{path} holds no test with tokens; run llama-bench with -p or -n")
    result = _result(entries)
    # Through the schema of our own results, so that whatever reads those can read this.
    return bench_result.from_data(json.loads(result.to_json()), path)


def _result(entries: list[Entry]) -> Result:
    first = entries[0]
    engines = _engines(entries)
    counts = [len(metric.samples) for engine in engines for metric in engine.metrics]
    notes = []
    if any(not entry.get("samples_ts") for entry in entries):
        notes.append("Some tests have no samples in the file, only their average.")
    build = first.get("build_number"), first.get("build_commit")
    return Result(
        tool=" ".join(["llama-bench", *(str(part) for part in build if part)])[:500],
        created=_short(first.get("test_time")),
        device=_device(first.get("cpu_info")),
        protocol=Protocol(None, None, None, None, min(counts), None, interleaved=False),
        load=LoadCheck(None, None, busy=False),
        engines=engines,
        notes=tuple(notes),
    )


def _engines(entries: list[Entry]) -> tuple[EngineResult, ...]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        how = {key: value for key, value in entry.items() if key not in _MEASURED}
        groups.setdefault(json.dumps(how, sort_keys=True), []).append(entry)
    engines = []
    for number, group in enumerate(groups.values(), 1):
        first = group[0]
        metrics = {_test_name(entry): entry for entry in group}  # a test done again replaces
        engines.append(
            EngineResult(
                label="llamacpp" if number == 1 else f"llamacpp ({number})",
                engine="llamacpp",
                engine_version=_short(first.get("build_commit")),
                model=_model(first),
                threads=first.get("n_threads"),
                context_length=None,
                peak_memory=None,
                metrics=tuple(_metric(name, entry) for name, entry in metrics.items()),
            )
        )
    return tuple(engines)


def _test_name(entry: Entry) -> str:
    parts = [f"{kind}{n}" for kind, n in (("pp", entry["n_prompt"]), ("tg", entry["n_gen"])) if n]
    depth = entry.get("n_depth") or 0
    return "+".join(parts) + (f" @ d{depth}" if depth else "")


def _metric(name: str, entry: Entry) -> Metric:
    samples = tuple(entry.get("samples_ts") or (entry["avg_ts"],))
    return Metric(name, "tokens/s", True, samples)


def _model(entry: Entry) -> ModelInfo:
    # A Windows path class splits at both kinds of slash.
    name = PureWindowsPath(entry["model_filename"]).name or entry["model_filename"]
    return ModelInfo(name[:500], "gguf", None, entry.get("model_size", 0), None)


def _device(cpu: str | None) -> Device:
    return Device(
        cpu=_short(cpu),
        architecture=None,
        logical_cores=None,
        physical_cores=None,
        usable_cpus=None,
        cpu_quota=None,
        instruction_sets=(),
        memory_gib=None,
        system=None,
        system_version=None,
        python=None,
        onnxruntime=None,
    )


def _short(text: str | None) -> str | None:
    return text[:500] if text else None
