"""Convert, read top to bottom: open the source, quantize, write the graph, prove, package.

Nothing appears at the output path before every step has passed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from ondevice import files
from ondevice.export.genai_config import write_genai_config
from ondevice.export.onnx_graph import write_graph
from ondevice.export.proof import check_gate, prove
from ondevice.export.recipe import TARGETS as _TARGETS
from ondevice.export.recipe import Quantizer, Target, find_target
from ondevice.export.source import Source, TokenizerFiles, open_source
from ondevice.package import (
    Manifest,
    ModelShape,
    Package,
    Proof,
    Recipe,
    SourceInfo,
    Text,
    describe_files,
    open_package,
    write_manifest,
)
from ondevice.progress import Progress

TARGETS = tuple(_TARGETS)
_TOOLS = ("gguf", "numpy", "onnx", "onnx-ir", "onnxruntime")


def convert(
    source: Path,
    target: str,
    out: Path,
    *,
    name: str | None = None,
    source_id: str | None = None,
    revision: str | None = None,
    licence: str | None = None,
    accept: bool = False,
    recorded: Callable[[dict[str, str]], Proof | None] | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> Package:
    """Export a checkpoint to a package folder at `out`.

    `recorded` may return a proof made earlier of a package with exactly these file hashes; it
    then holds here too. Otherwise the proof is run.
    Raises `SourceError` for what is wrong with the checkpoint, `ExportError` for a target or
    output that cannot be, `ProofError` below the gate unless `accept`.
    """
    chosen = find_target(target)
    with files.new_folder(out, replace) as folder:
        opened = open_source(source)
        try:
            _require_space(opened, chosen, folder)
            origin = opened.origin()
            origin = dataclasses.replace(
                origin,
                id=source_id or origin.id,
                revision=revision or origin.revision,
                licence=licence or origin.licence,
            )
            manifest = _build(opened, chosen, folder, name or out.name, origin, progress)
            write_manifest(folder, manifest)
            proof = recorded(manifest.content_hashes()) if recorded is not None else None
            if proof is None:
                proof = prove(open_package(folder), opened, progress=progress)
            proof = check_gate(proof, target, accept)
            write_manifest(folder, dataclasses.replace(manifest, proof=proof))
        finally:
            opened.close()
    return open_package(out)


def _build(
    source: Source,
    target: Target,
    folder: Path,
    name: str,
    origin: SourceInfo,
    progress: Progress | None,
) -> Manifest:
    """Write every file of the package but the manifest."""
    total = sum(len(shape) == 2 for shape in source.architecture.tensor_shapes().values())
    done = 0

    def on_tensor(name: str) -> None:
        nonlocal done
        if progress is not None:
            progress("quantizing", done, total)
        done += 1

    quantizer = Quantizer(source, target)
    write_graph(quantizer, folder, on_tensor)
    tokenizer = source.tokenizer
    _write_text_files(folder, tokenizer)
    write_genai_config(folder, source.architecture, tokenizer)
    return Manifest(
        name=name,
        source=origin,
        shape=_shape(source),
        recipe=Recipe(
            target.name,
            quantizer.bits_per_weight,
            dict(quantizer.counts),
            quantizer.errors,
        ),
        text=Text(
            tokenizer.eos_ids,
            tokenizer.bos_id,
            tokenizer.pad_id,
            tokenizer.chat_template is not None,
        ),
        files=describe_files(folder),
        tools={tool: metadata.version(tool) for tool in ("ondevice", *_TOOLS)},
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
    )


def _parameters(source: Source) -> int:
    return sum(math.prod(shape) for shape in source.architecture.tensor_shapes().values())


def _require_space(source: Source, target: Target, folder: Path) -> None:
    bits = 32 if target.head_bits is None else target.head_bits + 1
    files.require_space(folder, _parameters(source) * bits // 8, f"the {target.name} package")


def _write_text_files(folder: Path, tokenizer: TokenizerFiles) -> None:
    contents = {"tokenizer.json": tokenizer.tokenizer_json}
    if tokenizer.chat_template is not None:
        contents["chat_template.jinja"] = tokenizer.chat_template
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8", newline="")
