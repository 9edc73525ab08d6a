"""The package of an encoder: a folder like a model package, for a model that gives vectors.

Same file names and checks as `ondevice.package`; another manifest, because there is no KV
cache, no text to generate and no perplexity to prove. docs/via.md explains every field.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ondevice import json_file
from ondevice.errors import PackageError
from ondevice.package import (
    ENCODER,
    MANIFEST,
    FileInfo,
    Recipe,
    SourceInfo,
    check_files,
    read_manifest,
)

FORMAT_VERSION = 1
_NEEDED = {"model.onnx", "tokenizer.json"}


@dataclass(frozen=True)
class EncoderShape:
    """What goes in and what comes out.

    `output` names the graph's output: `last_hidden_state`, a vector (width,) for each token, or
    `logits`, one (width,) for the text. `pooling` says how a text's vector comes of the tokens':
    `mean` of all, that of the first (`cls`), or `none` for logits. `labels` name the logits.
    """

    architecture: str
    vocab_size: int
    context_length: int
    width: int
    parameters: int
    output: str
    pooling: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class EncoderProof:
    """The package's outputs against those of the unquantized model on the fixed text.

    `rows` vectors of `texts` texts: largest and mean absolute difference of a number, largest
    number of the reference; smallest and mean cosine of a vector with the reference's.
    """

    text_sha256: str
    texts: int
    rows: int
    max_difference: float
    mean_difference: float
    largest: float
    cosine_min: float
    cosine_mean: float
    engine: str
    instruction_sets: tuple[str, ...]
    accepted_below_gate: bool = False


@dataclass(frozen=True)
class EncoderManifest:
    """The content of an encoder's `ondevice.json`."""

    name: str
    source: SourceInfo
    encoder: EncoderShape
    recipe: Recipe
    files: dict[str, FileInfo]
    tools: dict[str, str]
    proof: EncoderProof | None = None
    kind: str = ENCODER
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class EncoderPackage:
    """An encoder's folder whose structure has been checked."""

    folder: Path
    manifest: EncoderManifest

    @property
    def model_file(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def tokenizer_file(self) -> Path:
        return self.folder / "tokenizer.json"

    @property
    def total_bytes(self) -> int:
        """Size of all described files."""
        return sum(info.bytes for info in self.manifest.files.values())


def open_encoder(folder: Path) -> EncoderPackage:
    """Read an encoder's package and check it as `open_package` does a decoder's.

    Raises `PackageError` naming the file or field, also for a decoder's package.
    """
    path = folder / MANIFEST
    data = read_manifest(folder)
    json_file.require_version(data, FORMAT_VERSION, path, PackageError)
    if isinstance(data, dict) and data.get("kind") != ENCODER:
        raise PackageError(f"{folder} is a decoder's package, not an encoder's")
    if problem := json_file.problem(data, "encoder"):
        raise PackageError(f"{path}: {problem}")
    assert isinstance(data, dict)
    manifest = _manifest(data)
    if missing := sorted(_NEEDED - manifest.files.keys()):
        raise PackageError(f"{folder}: {MANIFEST} does not list {', '.join(missing)}")
    check_files(folder, manifest.files)
    return EncoderPackage(folder, manifest)


def _manifest(data: dict[str, Any]) -> EncoderManifest:
    shape = data["encoder"] | {"labels": tuple(data["encoder"]["labels"])}
    proof = data["proof"]
    if proof is not None:
        proof = EncoderProof(**(proof | {"instruction_sets": tuple(proof["instruction_sets"])}))
    return EncoderManifest(
        name=data["name"],
        source=SourceInfo(**data["source"]),
        encoder=EncoderShape(**shape),
        recipe=Recipe(**data["recipe"]),
        files={name: FileInfo(**info) for name, info in data["files"].items()},
        tools=data["tools"],
        proof=proof,
    )
