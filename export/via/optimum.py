"""Models through optimum-onnx: decoders that the builder does not know, and encoders.

optimum traces the float32 model with torch, so it needs that much memory, and gives float32.
"""

from __future__ import annotations

from pathlib import Path

from ondevice.errors import ExportError
from ondevice.export.architectures.fields import Fields
from ondevice.export.via.checkpoint import Checkpoint
from ondevice.export.via.decoder import RawDecoder, Sizes
from ondevice.export.via.environment import Environment
from ondevice.export.via.graph import cache_shape, load_graph
from ondevice.progress import Progress

DECODER = "text-generation-with-past"
CLASSIFIER = "text-classification"
VECTORS = "feature-extraction"
TARGETS = ("cpu-fp32",)
# Names that configurations use for the same number.
_WIDTH = ("hidden_size", "n_embd", "d_model")
_HEADS = ("num_attention_heads", "n_head", "num_heads")
CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
# onnxruntime-genai asks which of its decoders this is. They differ only in the names of inputs
# and outputs, which genai_config.json spells out, so the plainest serves for all.
_GENAI_TYPE = "llama"


def task_of(checkpoint: Checkpoint) -> str:
    """optimum's task for the class of the checkpoint; raises `ExportError` for other kinds."""
    name = checkpoint.model_class
    if name.endswith(("ForCausalLM", "LMHeadModel")):
        return DECODER
    if name.endswith("ForSequenceClassification"):
        return CLASSIFIER
    if name.endswith(("Model", "ForMaskedLM")):  # of the latter, what is below its head
        return VECTORS
    raise ExportError(
        f"{checkpoint.folder} is a {name[:60]}; --via optimum packages decoders (...ForCausalLM), "
        "encoders (...Model, ...ForMaskedLM) and classifiers (...ForSequenceClassification)"
    )


def arguments(folder: Path, task: str, out: Path) -> list[str]:
    """optimum's command line, after the interpreter."""
    return [
        *("-m", "optimum.exporters.onnx"),
        *("--model", str(folder), "--task", task, "--framework", "pt", "--library", "transformers"),
        *("--device", "cpu", "--dtype", "fp32"),
        str(out),
    ]


def export_graph(
    checkpoint: Checkpoint,
    task: str,
    environment: Environment,
    work: Path,
    progress: Progress | None = None,
) -> Path:
    """Run optimum in the folder `work`; the graph's path.

    Raises `ExportError` when it cannot.
    """
    version = environment.versions["optimum-onnx"]
    if progress is not None:
        progress("tracing with optimum", 0, 0)
    environment.run(
        arguments(checkpoint.folder.resolve(), task, work / "raw"),
        work,
        f"optimum-onnx {version} on {checkpoint.model_class}",
    )
    path = work / "raw" / "model.onnx"
    if not path.is_file():
        raise ExportError(f"optimum-onnx {version} wrote no model.onnx; it cannot be packaged")
    return path


def build(
    checkpoint: Checkpoint, environment: Environment, work: Path, progress: Progress | None
) -> RawDecoder:
    """A decoder's graph by optimum; raises `ExportError` when it cannot."""
    graph = load_graph(export_graph(checkpoint, DECODER, environment, work, progress))
    config = checkpoint.config
    sizes = Sizes(
        vocab_size=config.integer("vocab_size"),
        hidden_size=first_integer(config, _WIDTH),
        heads=first_integer(config, _HEADS),
        context_length=checkpoint.context_length(first_integer(config, CONTEXT_NAMES)),
        cache=cache_shape(graph),
    )
    return RawDecoder(graph, sizes, _GENAI_TYPE, shares_buffer=False)


def first_integer(config: Fields, names: tuple[str, ...]) -> int:
    """The number under the first of `names` that is there; raises `SourceError` if none is."""
    name = next((name for name in names if config.present(name)), names[0])
    return config.integer(name)
