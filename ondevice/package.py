"""The model package: a folder that `ondevice.json` describes, checked before it is used.

The contract between export, runtime and apps; `docs/package.md` explains every field.
"""

from __future__ import annotations

import dataclasses
import json
import math
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ondevice import files, json_file
from ondevice.errors import PackageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMAT_VERSION = 1
MANIFEST = "ondevice.json"
ONNX_MODEL = "model.onnx"
COREML_MODEL = "model.mlpackage"  # a folder
ENCODER = "encoder"  # the `kind` of a manifest that `ondevice.encoder_package` reads
# Everything but weights: graph, tokenizer, template. These are parsed by native code, and hashing
# them takes 3 to 7 ms for real packages.
SMALL_FILE = 16 << 20


@dataclass(frozen=True)
class SourceInfo:
    """What the package was made from."""

    id: str
    revision: str | None
    licence: str | None
    format: str
    files: dict[str, str]  # name -> sha256


@dataclass(frozen=True)
class ModelShape:
    """The numbers a runtime needs to hold a KV cache and check token ids.

    rope_switch: the sequence length above which LongRoPE turns to its long factors, and the KV
    cache is computed anew; None where the rotary embedding is the same for every length.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context_length: int
    parameters: int
    rope_switch: int | None = None


@dataclass(frozen=True)
class Quantization:
    """What was asked of the matrices that were not taken over as they are.

    bits: mean of the layers' matrices; head_bits: of the embedding and the output matrix;
    embedding_bits: of an embedding that has others, else None. block: weights that share a scale,
    0 where rows share a table of values.
    calibration: SHA-256 of the text that activations were taken from, None where the quantizer
    looks at none.
    """

    bits: float
    head_bits: int
    block: int
    symmetric: bool
    quantizer: str
    calibration: str | None = None
    embedding_bits: int | None = None


@dataclass(frozen=True)
class Recipe:
    """How the weights were quantized: the target and how many weights each grid holds.

    `tensors` counts matrices by grid, such as `int8 block 32, exact`;
    `relative_error` is the root mean square error of the requantized ones over their
    root mean square, by tensor, empty where all are exact. `quantization` is None where nothing
    is, and where another exporter did it.
    """

    target: str
    bits_per_weight: float
    tensors: dict[str, int]
    relative_error: dict[str, float]
    quantization: Quantization | None = None


@dataclass(frozen=True)
class Text:
    """Tokens the runtime treats specially. The template is in `chat_template.jinja`."""

    eos_ids: tuple[int, ...]
    bos_id: int | None
    pad_id: int | None
    chat_template: bool


@dataclass(frozen=True)
class Proof:
    """The package against its unquantized reference on a fixed text.

    KL divergence (nats per token) of the package's next-token distribution from the
    reference's, mean and 99th percentile; share of positions whose most probable token is the
    same; perplexities. `text_sha256` names the text, `engine` what ran the package.
    `layer_errors`: after each layer, the root mean square of the difference between the residual
    streams of both, over that of the reference's; empty where layers could not be compared.
    """

    text_sha256: str
    tokens: int
    kl_mean: float
    kl_p99: float
    top1_agreement: float
    perplexity: float
    reference_perplexity: float
    engine: str
    instruction_sets: tuple[str, ...]
    accepted_below_gate: bool = False
    layer_errors: tuple[float, ...] = ()

    @property
    def perplexity_ratio(self) -> float:
        """Perplexity of the package over that of the reference."""
        return self.perplexity / self.reference_perplexity


@dataclass(frozen=True)
class FileInfo:
    """Size in bytes and SHA-256 of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of `ondevice.json`."""

    name: str
    source: SourceInfo
    shape: ModelShape
    recipe: Recipe
    text: Text
    files: dict[str, FileInfo]
    tools: dict[str, str]
    proof: Proof | None = None
    format_version: int = FORMAT_VERSION

    @property
    def is_coreml(self) -> bool:
        """Whether Core ML runs it, and not onnxruntime."""
        return self.recipe.target.startswith("coreml-")

    def content_hashes(self) -> dict[str, str]:
        """SHA-256 by file: what `models.lock` records."""
        return {name: info.sha256 for name, info in sorted(self.files.items())}


@dataclass(frozen=True)
class Package:
    """A package folder whose structure has been checked."""

    folder: Path
    manifest: Manifest

    @property
    def model_file(self) -> Path:
        """The ONNX graph, or the folder of the Core ML program."""
        return self.folder / (COREML_MODEL if self.is_coreml else ONNX_MODEL)

    @property
    def is_coreml(self) -> bool:
        """Whether Core ML runs it, and not onnxruntime."""
        return self.manifest.is_coreml

    @property
    def tokenizer_file(self) -> Path:
        return self.folder / "tokenizer.json"

    @property
    def total_bytes(self) -> int:
        """Size of all described files."""
        return sum(info.bytes for info in self.manifest.files.values())

    def chat_template(self) -> str | None:
        """The Jinja template of the model's conversations, None where it has none.

        Raises `PackageError` when it cannot be read.
        """
        if not self.manifest.text.chat_template:
            return None
        path = self.folder / "chat_template.jinja"
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise PackageError(f"{path} cannot be read: {_reason(error)}") from error


def open_package(folder: Path) -> Package:
    """Read a package and check it: schema, files present, sizes, no escape, and the hashes of
    files below 16 MiB.

    Raises `PackageError` naming the file or field. Hashes of the weights are `verify_hashes`'s
    business.
    """
    package = Package(folder, _parse(read_manifest(folder), folder / MANIFEST))
    _require(folder, package.manifest)
    check_files(folder, package.manifest.files)
    return package


def read_manifest(folder: Path) -> object:
    """The JSON value in a folder's manifest; raises `PackageError` when it cannot be read."""
    path = folder / MANIFEST
    try:
        if not path.is_file():
            raise PackageError(f"{folder} is not a model package: it has no {MANIFEST}")
        data = json_file.loads(path.read_text(encoding="utf-8"))
        _require_plain(data)
    except (ValueError, OSError, RecursionError) as error:
        raise PackageError(f"{path} cannot be read: {_reason(error)}") from error
    return data


def check_files(folder: Path, infos: dict[str, FileInfo]) -> None:
    """Raise `PackageError` unless all files are there, inside, of their size, and the small ones
    as their hashes say."""
    for name, info in infos.items():
        _check_size(folder, name, info)
        if info.bytes < SMALL_FILE:
            _check_hash(folder, name, info)


def verify_hashes(package: Package, progress: Callable[[int], None] | None = None) -> None:
    """Hash every file; raises `PackageError` naming the first that differs.

    `progress` is called with the bytes of each chunk.
    """
    for name, info in package.manifest.files.items():
        _check_hash(package.folder, name, info, progress)


def _check_size(folder: Path, name: str, info: FileInfo) -> None:
    try:
        file = files.inside(folder, name, PackageError)
        size = file.stat().st_size if file.is_file() else None
    except (OSError, RuntimeError) as error:  # a name too long, a link to itself
        raise PackageError(f"{folder}: {name[:80]} cannot be read: {_reason(error)}") from error
    if size is None:
        raise PackageError(f"{folder}: {name} is missing; fetch or export the package again")
    if size != info.bytes:
        raise PackageError(
            f"{folder}: {name} has {size} bytes instead of {info.bytes}; "
            "fetch or export the package again"
        )


def _check_hash(
    folder: Path, name: str, info: FileInfo, progress: Callable[[int], None] | None = None
) -> None:
    try:
        found = files.sha256(files.inside(folder, name, PackageError), progress)
    except (OSError, RuntimeError) as error:
        raise PackageError(f"{folder}: {name[:80]} cannot be read: {_reason(error)}") from error
    if found != info.sha256:
        raise PackageError(
            f"{folder}: {name} has the wrong content (sha256 {found[:12]}..., "
            f"expected {info.sha256[:12]}...); fetch or export the package again"
        )


def describe_files(folder: Path) -> dict[str, FileInfo]:
    """Size and hash of every file in a folder except the manifest."""
    return {
        path.relative_to(folder).as_posix(): describe_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def describe_file(path: Path) -> FileInfo:
    """Size and hash of a file."""
    return FileInfo(path.stat().st_size, files.sha256(path))


def write_manifest(folder: Path, manifest: DataclassInstance) -> None:
    """Write `ondevice.json`; the same manifest, of whatever kind, always gives the same bytes."""
    data = dataclasses.asdict(manifest)
    text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    files.write_text(folder / MANIFEST, text + "\n")


def _require_plain(data: object) -> None:
    """Raise `ValueError` for a string that could not be shown in one line as it is."""
    for text in _strings(data):
        if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text):
            raise ValueError(f"{text[:80]!a} has characters that cannot be shown")


def _strings(data: object) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        yield from data
        for value in data.values():
            yield from _strings(value)
    elif isinstance(data, list):
        for value in data:
            yield from _strings(value)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200]


def _parse(data: object, path: Path) -> Manifest:
    json_file.require_version(data, FORMAT_VERSION, path, PackageError)
    if isinstance(data, dict) and data.get("kind") == ENCODER:
        raise PackageError(
            f"{path.parent} is an encoder: it gives vectors, no text; open it with "
            "ondevice.runtime.encoder, and choose a language model here"
        )
    if problem := json_file.problem(data, "package"):
        raise PackageError(f"{path}: {problem}")
    assert isinstance(data, dict)
    return _manifest(data)


def _manifest(data: dict[str, Any]) -> Manifest:
    text = data["text"] | {"eos_ids": tuple(data["text"]["eos_ids"])}
    quantization = data["recipe"].get("quantization")
    if quantization is not None:
        quantization = Quantization(**quantization)
    proof = data.get("proof")
    if proof is not None:
        lists = {name: tuple(value) for name, value in proof.items() if isinstance(value, list)}
        proof = Proof(**(proof | lists))
    return Manifest(
        name=data["name"],
        source=SourceInfo(**data["source"]),
        shape=ModelShape(**data["shape"]),
        recipe=Recipe(**(data["recipe"] | {"quantization": quantization})),
        text=Text(**text),
        files={name: FileInfo(**info) for name, info in data["files"].items()},
        tools=data["tools"],
        proof=proof,
        format_version=data["format_version"],
    )


def _require(folder: Path, manifest: Manifest) -> None:
    model = f"{COREML_MODEL}/Manifest.json" if manifest.is_coreml else ONNX_MODEL
    needed = {model, "tokenizer.json"}
    if manifest.text.chat_template:
        needed.add("chat_template.jinja")
    missing = sorted(needed - manifest.files.keys())
    if missing:
        raise PackageError(f"{folder}: {MANIFEST} does not list {', '.join(missing)}")
    ids = [*manifest.text.eos_ids, manifest.text.bos_id, manifest.text.pad_id]
    wrong = [i for i in ids if i is not None and i >= manifest.shape.vocab_size]
    if wrong:
        raise PackageError(f"{folder}: special token {wrong[0]} is outside the vocabulary")
    if manifest.proof and not math.isfinite(manifest.proof.perplexity_ratio):
        raise PackageError(f"{folder}: the proof's perplexities are not numbers")
