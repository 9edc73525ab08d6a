"""Convert, read top to bottom: open the source, quantize, write the graph, prove, package.

Nothing appears at the output path before every step has passed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from ondevice.errors import ExportError
from ondevice.export.genai_config import write_genai_config
from ondevice.export.lora import with_adapter
from ondevice.export.npu.write import CONTEXT, write_static_graphs
from ondevice.export.onnx_graph import DATA_FILE, write_graph
from ondevice.export.proof import check_gate, prove
from ondevice.export.quantize.calibrate import calibration_text
from ondevice.export.quantize.plan import make_quantizer, read_text
from ondevice.export.recipe import TARGETS as _TARGETS
from ondevice.export.recipe import Options, Quantizer, Target, find_target
from ondevice.export.source import Source, TokenizerFiles, open_source
from ondevice.export.workspace import workspace
from ondevice.package import (
    Manifest,
    ModelShape,
    Package,
    Proof,
    Quantization,
    Recipe,
    SourceInfo,
    Text,
    describe_file,
    describe_files,
    open_package,
    write_manifest,
)
from ondevice.progress import Progress
from ondevice.runtime.coreml import needing_coremltools

TARGETS = tuple(_TARGETS)
_TOOLS = ("gguf", "numpy", "onnx", "onnx-ir", "onnxruntime")


def convert(
    source: Path,
    target: str,
    out: Path,
    *,
    options: Options | None = None,
    name: str | None = None,
    source_id: str | None = None,
    revision: str | None = None,
    licence: str | None = None,
    accept: bool = False,
    recorded: Callable[[dict[str, str]], Proof | None] | None = None,
    replace: bool = False,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Package:
    """Export a checkpoint to a package folder at `out`.

    `recorded` may return a proof made earlier of a package with exactly these file hashes; it
    then holds here too. Otherwise the proof is run.
    An export of the same source with the same target and options that was killed, or stopped by
    Ctrl-C, goes on where it was, unless `fresh`.
    Raises `SourceError` for what is wrong with the checkpoint, `ExportError` for a target,
    options or output that cannot be, `ProofError` below the gate unless `accept`.
    """
    chosen = find_target(target)
    options = (options or Options()).with_defaults(chosen)
    options.check(chosen)
    with (
        workspace(out, replace=replace, fresh=fresh) as work,
        contextlib.closing(_open(source, options)) as opened,
    ):
        origin = opened.origin()
        journal = work.journal(_identity(origin, chosen, options), DATA_FILE)
        origin = dataclasses.replace(
            origin,
            id=source_id or origin.id,
            revision=revision or origin.revision,
            licence=licence or origin.licence,
        )
        shape = _shape(opened)
        if chosen.graph != "onnx":
            write = {"npu": _write_static, "coreml": _write_coreml}[chosen.graph]
            recipe, context = write(opened, chosen, options, work.package, progress)
            shape = dataclasses.replace(shape, context_length=context)
        else:
            quantizer = make_quantizer(opened, chosen, options, progress)
            write_graph(quantizer, work.package, journal, progress)
            write_genai_config(work.package, opened.architecture, opened.tokenizer)
            recipe = _recipe(quantizer)
        manifest = _describe(opened, shape, recipe, work.package, name or out.name, origin)
        if chosen.graph == "coreml":
            manifest = _with_files_for_macs(Package(work.package, manifest), progress)
        write_manifest(work.package, manifest)
        proof = recorded(manifest.content_hashes()) if recorded is not None else None
        if proof is None:
            proof = prove(open_package(work.package), opened, progress=progress)
        proof = check_gate(proof, target, accept)
        write_manifest(work.package, dataclasses.replace(manifest, proof=proof))
    return open_package(out)


def _open(path: Path, options: Options) -> Source:
    source = open_source(path)
    try:
        return with_adapter(source, options.adapter)
    except BaseException:
        source.close()
        raise


def _identity(origin: SourceInfo, target: Target, options: Options) -> dict[str, object]:
    """Everything the bytes of a package depend on."""
    return {
        "source": origin.files,
        "target": target.name,
        "options": options.identity(),
        "tools": _tools(),
    }


def _tools() -> dict[str, str]:
    return {tool: metadata.version(tool) for tool in ("ondevice", *_TOOLS)}


def _write_static(
    source: Source, target: Target, options: Options, folder: Path, progress: Progress | None
) -> tuple[Recipe, int]:
    """What the package says of its weights, and the positions of its KV cache."""
    text = None if options.calibration is None else read_text(options.calibration)
    bits = options.activation_bits or 16
    context = _context(source, options, CONTEXT)
    written = write_static_graphs(
        source, folder, activation_bits=bits, context=context, text=text, progress=progress
    )
    how = f"int8 per row, activations of {bits} bits"
    sha256 = options.calibration_sha256 or hashlib.sha256(calibration_text().encode()).hexdigest()
    recipe = Recipe(
        target.name,
        written.bits_per_weight,
        {how: written.matrices},
        written.errors,
        Quantization(8, 8, source.architecture.hidden_size, True, "search", sha256),
    )
    return recipe, context


def _write_coreml(
    source: Source, target: Target, options: Options, folder: Path, progress: Progress | None
) -> tuple[Recipe, int]:
    """As `_write_static`."""
    with needing_coremltools(f"--target {target.name}", ExportError):
        from ondevice.export.coreml import write
    context = _context(source, options, write.CONTEXT)
    quantizer = make_quantizer(source, target, options, progress)
    write.write_mlpackage(quantizer, folder, context, progress)
    return _recipe(quantizer), context


def _with_files_for_macs(package: Package, progress: Progress | None) -> Manifest:
    """The description of a Core ML package once it holds what swift-transformers asks of a
    tokenizer, and the logits that Core ML's are compared with."""
    from ondevice.export.coreml.on_device import store_logits
    from ondevice.export.coreml.swift_tokenizer import write_tokenizer_config

    if progress is not None:
        progress("evaluating", 0, 1)
    made = (write_tokenizer_config(package), store_logits(package))
    files = package.manifest.files | {path.name: describe_file(path) for path in made}
    return dataclasses.replace(package.manifest, files=dict(sorted(files.items())))


def _context(source: Source, options: Options, default: int) -> int:
    """Positions that a KV cache of fixed length holds.

    Raises `ExportError` for more than LongRoPE's short factors reach: programs of one set of
    rotary tables hold no others.
    """
    arch = source.architecture
    context = min(options.context or default, arch.context_length)
    if arch.rope_switch is not None and context > arch.rope_switch:
        raise ExportError(
            f"LongRoPE beyond {arch.rope_switch} tokens needs other graphs; "
            f"choose --context {arch.rope_switch} or less"
        )
    return context


def _recipe(quantizer: Quantizer) -> Recipe:
    return Recipe(
        quantizer.target.name,
        quantizer.bits_per_weight,
        quantizer.counts,
        quantizer.errors,
        quantizer.quantization,
    )


def _describe(
    source: Source,
    shape: ModelShape,
    recipe: Recipe,
    folder: Path,
    name: str,
    origin: SourceInfo,
) -> Manifest:
    """Write the tokenizer beside the graph, and describe all files."""
    tokenizer = source.tokenizer
    _write_text_files(folder, tokenizer)
    return Manifest(
        name=name,
        source=origin,
        shape=shape,
        recipe=recipe,
        text=Text(
            tokenizer.eos_ids,
            tokenizer.bos_id,
            tokenizer.pad_id,
            tokenizer.chat_template is not None,
        ),
        files=describe_files(folder),
        tools=_tools(),
    )


def _shape(source: Source) -> ModelShape:
    arch = source.architecture
    return ModelShape(
        architecture=arch.name,
        vocab_size=arch.vocab_size,
        hidden_size=arch.hidden_size,
        layers=arch.layers,
        heads=arch.heads,
        kv_heads=arch.kv_heads,
        head_dim=arch.head_dim,
        context_length=arch.context_length,
        parameters=_parameters(source),
        rope_switch=arch.rope_switch,
    )


def _parameters(source: Source) -> int:
    return sum(math.prod(shape) for shape in source.architecture.tensor_shapes().values())


def _write_text_files(folder: Path, tokenizer: TokenizerFiles) -> None:
    contents = {"tokenizer.json": tokenizer.tokenizer_json}
    if tokenizer.chat_template is not None:
        contents["chat_template.jinja"] = tokenizer.chat_template
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8", newline="")
