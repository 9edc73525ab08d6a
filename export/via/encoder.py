"""An encoder or classifier through optimum-onnx: its package, and the proof of it.

The weights stay inside `model.onnx`, so that `ondevice calibrate --encoder` takes the folder too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ondevice.encoder_package import EncoderManifest, EncoderPackage, EncoderProof, EncoderShape
from ondevice.errors import ExportError, ProofError
from ondevice.export.json_files import read_optional_json, read_text
from ondevice.export.proof import proof_text
from ondevice.export.via.checkpoint import Checkpoint
from ondevice.export.via.environment import Environment
from ondevice.export.via.graph import load_graph
from ondevice.export.via.optimum import CLASSIFIER, CONTEXT_NAMES, export_graph, first_integer
from ondevice.export.via.proof import child_arrays
from ondevice.export.via.stored import Stored, describe_matrices
from ondevice.package import Recipe, SourceInfo, describe_files
from ondevice.runtime.device import instruction_sets, usable_cores
from ondevice.runtime.encoder import Encoder

_LONGEST = 512  # tokens of the proof's longest text
_SHORT = 96  # tokens of the others
# RoBERTa's line counts positions from the padding token's id up.
_OFFSET_POSITIONS = ("camembert", "longformer", "mpnet", "roberta", "xlm-roberta")
_GATE_COSINE = 0.9999
_GATE_DIFFERENCE = 1e-3  # of the reference's largest number


@dataclass(frozen=True)
class EncoderSource:
    """What an encoder is made from: the checkpoint, optimum's task for it, its environment."""

    checkpoint: Checkpoint
    task: str
    environment: Environment


def write_encoder(
    source: EncoderSource,
    target: str,
    folder: Path,
    name: str,
    origin: SourceInfo,
    tools: dict[str, str],
    work: Path,
) -> EncoderManifest:
    """Write every file of the package but the manifest.

    Raises `ExportError` when optimum fails, or for weights that one file cannot hold (2 GB).
    """
    checkpoint, environment = source.checkpoint, source.environment
    raw = export_graph(checkpoint, source.task, environment, work)
    beside = [p.name for p in raw.parent.iterdir() if p.name.startswith("model.onnx") and p != raw]
    if beside:
        raise ExportError(
            f"the weights of {checkpoint.folder} do not fit into one ONNX file (2 GB); such an "
            "encoder cannot be packaged"
        )
    shutil.copyfile(raw, folder / "model.onnx")
    text = read_text(checkpoint.folder / "tokenizer.json")
    (folder / "tokenizer.json").write_text(text, encoding="utf-8", newline="")
    version = environment.versions[environment.tool.distribution]
    graph = load_graph(raw)
    stored: Stored = describe_matrices(graph, f"{environment.tool.distribution} {version}")
    return EncoderManifest(
        name=name,
        source=origin,
        encoder=_shape(source),
        recipe=Recipe(target, stored.bits_per_weight, stored.tensors, {}),
        files=describe_files(folder),
        tools=tools,
    )


def prove_encoder(package: EncoderPackage, source: EncoderSource, work: Path) -> EncoderProof:
    """Compare the package with the checkpoint that transformers runs, on the fixed text.

    Its paragraphs one by one, and once as much as the encoder reads (at most 512 tokens).
    """
    shape = package.manifest.encoder
    with Encoder(package, threads=usable_cores()) as encoder:
        texts = _texts(encoder, shape.context_length)
        batch = {"task": source.task, "output": shape.output, "texts": texts}
        expected = child_arrays(
            "encoder", source.checkpoint.folder, batch, source.environment, work
        )
        found = np.concatenate([encoder.run(tokens) for tokens in texts])
    if found.shape != expected.shape:
        raise ExportError(
            f"transformers gives vectors of shape {expected.shape}, the package {found.shape}"
        )
    return _proof(found, np.array(expected), len(texts))


def check_encoder_gate(proof: EncoderProof, accept: bool) -> EncoderProof:
    """The proof, marked when it is below the gate and accepted all the same.

    Raises `ProofError` with the figures otherwise.
    """
    near = proof.max_difference <= _GATE_DIFFERENCE * proof.largest
    if near and proof.cosine_min >= _GATE_COSINE:
        return proof
    if accept:
        return dataclasses.replace(proof, accepted_below_gate=True)
    raise ProofError(
        f"the encoder is too far from its source: largest difference {proof.max_difference:.4g} "
        f"of numbers up to {proof.largest:.4g} (gate {_GATE_DIFFERENCE} of that), smallest cosine "
        f"{proof.cosine_min:.5f} (gate {_GATE_COSINE}); keep it with --accept"
    )


def _shape(source: EncoderSource) -> EncoderShape:
    checkpoint = source.checkpoint
    config = checkpoint.config
    labels = _labels(checkpoint) if source.task == CLASSIFIER else ()
    width = len(labels) or first_integer(config, ("hidden_size", "dim", "d_model"))
    return EncoderShape(
        architecture=checkpoint.model_type,
        vocab_size=config.integer("vocab_size"),
        context_length=_longest(checkpoint),
        width=width,
        parameters=checkpoint.parameters,
        output="logits" if labels else "last_hidden_state",
        pooling="none" if labels else _pooling(checkpoint.folder),
        labels=labels,
    )


def _longest(checkpoint: Checkpoint) -> int:
    """Tokens of a text that the encoder has positions for."""
    positions = first_integer(checkpoint.config, CONTEXT_NAMES)
    if checkpoint.model_type in _OFFSET_POSITIONS:
        positions -= checkpoint.config.integer("pad_token_id", 1, low=0) + 1
    options = read_optional_json(checkpoint.folder / "tokenizer_config.json")
    stated = options.values.get("model_max_length")
    return stated if isinstance(stated, int) and 0 < stated < positions else positions


def _labels(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Names of the classes by their number; `LABEL_0` and so on where there are none."""
    named = checkpoint.config.values.get("id2label")
    if isinstance(named, dict) and named:
        found = [named.get(str(index)) for index in range(len(named))]
        if all(isinstance(label, str) and label for label in found):
            return tuple(str(label) for label in found)
        raise checkpoint.config.wrong("id2label", "a name for each class from 0")
    # transformers leaves out what it would number by itself: two classes.
    return ("LABEL_0", "LABEL_1")


def _pooling(folder: Path) -> str:
    """As sentence-transformers wrote it beside the checkpoint, or else the mean."""
    pooling = read_optional_json(folder / "1_Pooling" / "config.json")
    return "cls" if pooling.flag("pooling_mode_cls_token") else "mean"


def _texts(encoder: Encoder, context_length: int) -> list[list[int]]:
    paragraphs = [part for part in proof_text().split("\n\n") if part.strip()]
    short = [encoder.encoded(part)[: min(_SHORT, context_length)] for part in paragraphs]
    return [*short, encoder.encoded(proof_text())[: min(_LONGEST, context_length)]]


def _proof(found: NDArray[np.float32], expected: NDArray[np.float32], texts: int) -> EncoderProof:
    apart = np.abs(found.astype(np.float64) - expected)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    products = np.sum(found.astype(np.float64) * expected, axis=1)
    cosines = np.clip(products / np.maximum(lengths, 1e-30), -1, 1)
    return EncoderProof(
        text_sha256=hashlib.sha256(proof_text().encode()).hexdigest(),
        texts=texts,
        rows=len(found),
        max_difference=_rounded(apart.max()),
        mean_difference=_rounded(apart.mean()),
        largest=_rounded(np.abs(expected).max()),
        cosine_min=_rounded(cosines.min()),
        cosine_mean=_rounded(cosines.mean()),
        engine="ort",
        instruction_sets=instruction_sets(),
    )


def _rounded(value: np.floating) -> float:
    return float(f"{float(value):.6g}")
