"""Convert through another exporter: check, run the tool, adapt its graph, prove, package."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ondevice import files
from ondevice.encoder_package import EncoderPackage, open_encoder
from ondevice.errors import ExportError, SourceError
from ondevice.export.proof import check_gate, prove
from ondevice.export.source import open_source
from ondevice.export.via import genai, optimum
from ondevice.export.via.checkpoint import Checkpoint, open_checkpoint
from ondevice.export.via.decoder import RawDecoder, model_shape, write_decoder
from ondevice.export.via.encoder import (
    EncoderSource,
    check_encoder_gate,
    prove_encoder,
    write_encoder,
)
from ondevice.export.via.environment import TOOLS, Environment, find_environment
from ondevice.export.via.proof import prove_by_child
from ondevice.export.via.stored import describe_matrices
from ondevice.package import (
    Manifest,
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

_TARGETS = {"genai": genai.TARGETS, "optimum": optimum.TARGETS}
_OWN_TOOLS = ("ondevice", "numpy", "onnx-ir", "onnxruntime")


@dataclass(frozen=True)
class _Job:
    """What is converted, by which tool, to what, and what the package says of itself."""

    checkpoint: Checkpoint
    environment: Environment
    target: str
    name: str
    origin: SourceInfo
    accept: bool
    progress: Progress | None

    @property
    def tools(self) -> dict[str, str]:
        own = {tool: metadata.version(tool) for tool in _OWN_TOOLS}
        return own | dict(self.environment.versions)


def convert_via(
    tool: str,
    source: Path,
    target: str,
    out: Path,
    *,
    python: Path | None = None,
    name: str | None = None,
    source_id: str | None = None,
    revision: str | None = None,
    licence: str | None = None,
    accept: bool = False,
    replace: bool = False,
    progress: Progress | None = None,
) -> Package | EncoderPackage:
    """Export a safetensors folder to a package at `out` with another exporter.

    `python` is the interpreter of an environment that has the tool; default: this one.
    Raises `ExportError` for a tool, target or environment that cannot be and for a tool that
    fails, `SourceError` for what is wrong with the checkpoint, `ProofError` below the gate
    unless `accept`.
    """
    _require_target(tool, target)
    checkpoint = open_checkpoint(source)
    task = optimum.task_of(checkpoint) if tool == "optimum" else optimum.DECODER
    environment = find_environment(TOOLS[tool], python)
    origin = checkpoint.origin()
    origin = dataclasses.replace(
        origin,
        id=source_id or origin.id,
        revision=revision or origin.revision,
        licence=licence or origin.licence,
    )
    job = _Job(checkpoint, environment, target, name or out.name, origin, accept, progress)
    with (
        files.new_folder(out, replace) as folder,
        tempfile.TemporaryDirectory(prefix="ondevice-via-") as temporary,
    ):
        if task == optimum.DECODER:
            _decoder(job, folder, Path(temporary))
        else:
            _encoder(job, task, folder, Path(temporary))
    return open_package(out) if task == optimum.DECODER else open_encoder(out)


def _decoder(job: _Job, folder: Path, work: Path) -> None:
    """Write a decoder's package into `folder`."""
    if job.environment.tool.name == "genai":
        raw = genai.build(job.checkpoint, job.target, job.environment, work, job.progress)
    else:
        raw = optimum.build(job.checkpoint, job.environment, work, job.progress)
    manifest = _package(job, raw, folder)
    write_manifest(folder, manifest)
    proof, reference = _prove(job, folder, work)
    proof = check_gate(proof, job.target, job.accept)
    tools = manifest.tools | {"reference": reference}
    write_manifest(folder, dataclasses.replace(manifest, proof=proof, tools=tools))


def _encoder(job: _Job, task: str, folder: Path, work: Path) -> None:
    """Write an encoder's package into `folder`."""
    source = EncoderSource(job.checkpoint, task, job.environment)
    manifest = write_encoder(source, job.target, folder, job.name, job.origin, job.tools, work)
    write_manifest(folder, manifest)
    proof = prove_encoder(open_encoder(folder), source, work)
    proof = check_encoder_gate(proof, job.accept)
    tools = manifest.tools | {"reference": job.environment.reference}
    write_manifest(folder, dataclasses.replace(manifest, proof=proof, tools=tools))


def _require_target(tool: str, target: str) -> None:
    if tool not in TOOLS:
        raise ExportError(f"unknown way --via {tool[:40]!r}; known: {', '.join(TOOLS)}")
    if target not in _TARGETS[tool]:
        known = " or ".join(_TARGETS[tool])
        raise ExportError(f"--via {tool} cannot make {target[:40]!r}; choose --target {known}")


def _package(job: _Job, raw: RawDecoder, folder: Path) -> Manifest:
    """Write every file of the package but the manifest."""
    tokenizer = job.checkpoint.tokenizer(raw.sizes.vocab_size)
    write_decoder(raw, tokenizer, folder)
    distribution = job.environment.tool.distribution
    stored = describe_matrices(
        raw.graph, f"{distribution} {job.environment.versions[distribution]}"
    )
    return Manifest(
        name=job.name,
        source=job.origin,
        shape=model_shape(raw, job.checkpoint),
        recipe=Recipe(job.target, stored.bits_per_weight, stored.tensors, {}),
        text=Text(
            tokenizer.eos_ids,
            tokenizer.bos_id,
            tokenizer.pad_id,
            tokenizer.chat_template is not None,
        ),
        files=describe_files(folder),
        tools=job.tools,
    )


def _prove(job: _Job, folder: Path, work: Path) -> tuple[Proof, str]:
    """The proof, and what computed its reference: our own where the architecture is described."""
    package = open_package(folder)
    try:
        source = open_source(job.checkpoint.folder)
    except SourceError:  # not an architecture, or not a variant of one, that we describe
        proof = prove_by_child(package, job.checkpoint.folder, job.environment, work, job.progress)
        return proof, job.environment.reference
    try:
        return prove(package, source, progress=job.progress), "ondevice"
    finally:
        source.close()
