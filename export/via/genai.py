"""A decoder through onnxruntime-genai's model builder.

The builder loads the whole model in float32 (transformers), so it needs that much memory.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ondevice.errors import ExportError
from ondevice.export.via.checkpoint import Checkpoint
from ondevice.export.via.decoder import RawDecoder, Sizes
from ondevice.export.via.environment import Environment
from ondevice.export.via.graph import CacheShape, load_graph
from ondevice.progress import Progress

_PRECISIONS = {"cpu-fp32": "fp32", "cpu-int8": "int8", "cpu-int4": "int4"}
TARGETS = tuple(_PRECISIONS)
# A KV cache of full length in every layer, as the package's contract says.
_OPTIONS = ("windowed_kv_cache=false", "hf_remote=false")
_QUANTIZED = ("accuracy_level=4", "block_size=32")
# As in our own cpu-int4. With a head tied to the embedding, builder 0.18 then writes a graph that
# misses the head's integers.
_FINE_HEAD = "matmul_mixed_precision=last_matmul:int8"
_LAYER = re.compile(r"Reading layer (\d+)")


def arguments(folder: Path, target: str, tied: bool, out: Path, cache: Path) -> list[str]:
    """The builder's command line, after the interpreter.

    `tied`: the output matrix is the embedding.
    """
    precision = _PRECISIONS[target]
    options = [*_OPTIONS, *(_QUANTIZED if target != "cpu-fp32" else ())]
    if target == "cpu-int4" and not tied:
        options.append(_FINE_HEAD)
    return [
        *("-m", "onnxruntime_genai.models.builder"),
        *("-i", str(folder), "-o", str(out), "-p", precision, "-e", "cpu", "-c", str(cache)),
        *("--extra_options", *options),
    ]


def build(
    checkpoint: Checkpoint,
    target: str,
    environment: Environment,
    work: Path,
    progress: Progress | None,
) -> RawDecoder:
    """Run the builder in the folder `work`; raises `ExportError` when it cannot."""
    layers = checkpoint.config.values.get("num_hidden_layers")
    total = layers if isinstance(layers, int) else 0

    def on_line(line: str) -> None:
        match = _LAYER.match(line)
        if match and progress is not None:
            progress("building", int(match[1]), total)

    raw = work / "raw"
    version = environment.versions["onnxruntime-genai"]
    environment.run(
        arguments(checkpoint.folder.resolve(), target, checkpoint.tied, raw, work / "cache"),
        work,
        f"the model builder of onnxruntime-genai {version} on {checkpoint.model_class}",
        on_line,
    )
    return _read(raw, checkpoint)


def _read(raw: Path, checkpoint: Checkpoint) -> RawDecoder:
    try:
        model = json.loads((raw / "genai_config.json").read_text(encoding="utf-8"))["model"]
        sizes = _sizes(model, checkpoint)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ExportError(
            "the model builder wrote no genai_config.json of a decoder; this model cannot be "
            "packaged"
        ) from error
    return RawDecoder(load_graph(raw / "model.onnx"), sizes, str(model["type"]), True)


def _sizes(model: dict[str, Any], checkpoint: Checkpoint) -> Sizes:
    decoder = model["decoder"]
    return Sizes(
        vocab_size=int(model["vocab_size"]),
        hidden_size=int(decoder["hidden_size"]),
        heads=int(decoder["num_attention_heads"]),
        context_length=checkpoint.context_length(int(model["context_length"])),
        cache=CacheShape(
            int(decoder["num_hidden_layers"]),
            int(decoder["num_key_value_heads"]),
            int(decoder["head_size"]),
        ),
    )
