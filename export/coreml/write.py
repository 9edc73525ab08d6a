"""Writes the .mlpackage of a decoder: functions that share one weight file."""

from __future__ import annotations

import contextlib
import io
import json
import uuid
from pathlib import Path
from typing import Any

import coremltools as ct
from coremltools.converters.mil.converter import mil_convert
from coremltools.converters.mil.mil import Program
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
from coremltools.proto import Model_pb2

from ondevice.errors import ExportError
from ondevice.export.coreml.decoder import OPSET, Function, build_program
from ondevice.export.coreml.static_decoder import build_static_program, check_sizes
from ondevice.export.coreml.weights import Weights
from ondevice.export.recipe import Quantizer
from ondevice.package import COREML_MODEL
from ondevice.progress import Progress
from ondevice.runtime.coreml import STATIC_TOKENS

CONTEXT = 2048  # positions, unless others are asked for
# Shapes of programs with flexible inputs are computed in 16 bits.
LONGEST_CONTEXT = 2**15 - 1
_DATE = "com.github.apple.coremltools.conversion_date"


def write_mlpackage(
    quantizer: Quantizer, folder: Path, context: int, progress: Progress | None = None
) -> None:
    """Write `model.mlpackage` with two functions around the same weights.

    `main` takes any number of tokens, or a fixed one where the target has tables; `decode` takes
    one. Raises `ExportError` for a matrix whose width is no multiple of the block, a size that
    the Neural Engine's layout cannot have, weights beyond half precision, or too long a context.
    """
    if not 1 <= context <= LONGEST_CONTEXT:
        raise ExportError(
            f"a Core ML KV cache of {context} positions cannot be; choose --context from 1 to "
            f"{LONGEST_CONTEXT}"
        )
    arch = quantizer.source.architecture
    static = bool(quantizer.target.table_rows)
    if static:
        check_sizes(arch, context)
    build = build_static_program if static else build_program
    weights = Weights(quantizer, progress)
    most = min(STATIC_TOKENS, context) if static else None
    functions = (Function("main", most, context), Function("decode", 1, context))
    whole = Program()
    for function in functions:
        program, inputs = build(arch, weights, function)
        made = program.functions["main"]
        made.set_input_types(tuple(inputs))
        whole.add_function(function.name, made)
    whole.default_function_name = functions[0].name
    whole.export_as_multifunction = True
    report = progress or (lambda stage, done, total: None)
    report("writing the Core ML package", 0, 1)
    _convert(whole).save(str(folder / COREML_MODEL))
    _make_repeatable(folder / COREML_MODEL)
    for path in (folder / COREML_MODEL).rglob("*"):  # some are the owner's only
        path.chmod(0o755 if path.is_dir() else 0o644)
    report("writing the Core ML package", 1, 1)


def _convert(program: Any) -> Any:
    """Through coremltools' own passes, which print their progress."""
    sharing = PASS_REGISTRY["common::const_deduplication"]
    with contextlib.redirect_stderr(io.StringIO()):
        sharing._deduplicate_const_across_functions(program)
        return mil_convert(
            program,
            convert_from="milinternal",
            convert_to="mlprogram",
            specification_version=OPSET,
            compute_units=ct.ComputeUnit.CPU_AND_GPU,
            skip_model_load=True,
        )


def _make_repeatable(package: Path) -> None:
    """The same bytes for the same model: coremltools writes random identifiers and the date."""
    manifest = package / "Manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    entries = {entry["path"]: entry for entry in content["itemInfoEntries"].values()}
    root = content["itemInfoEntries"][content["rootModelIdentifier"]]["path"]
    names = {path: str(uuid.uuid5(uuid.NAMESPACE_URL, path)) for path in sorted(entries)}
    content["itemInfoEntries"] = {name: entries[path] for path, name in names.items()}
    content["rootModelIdentifier"] = names[root]
    manifest.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
    model = package / "Data" / root
    spec = Model_pb2.Model.FromString(model.read_bytes())
    spec.description.metadata.userDefined.pop(_DATE, None)
    model.write_bytes(spec.SerializeToString(deterministic=True))
