"""Core ML packages of a GGUF file in the reference evaluator: graph, integers, greedy answers.

    python -m benchmarks.coreml MODEL.gguf [--prompts 100]

Exports the Core ML targets in processes of their own (time and peak memory), then
- compares the stored integers and scales of `coreml-gpu` with those of the `cpu-int4` package;
- runs a prefill of 64 tokens and 8 decode steps, float32 in the evaluator, against the numpy
  reference with the package's own weights;
- answers prompts greedily (16 tokens) in the evaluator, float32, and in onnxruntime with the same
  weights, computed in float32 (not for `coreml-ane`, whose tables no ONNX package has).

Not run on a Mac.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray

import ondevice
from benchmarks.common import WORK, package_for, print_json
from benchmarks.export_cost import export_in_child
from benchmarks.parity_gguf import greedy
from benchmarks.prompts import PROMPTS
from ondevice.export import reference
from ondevice.export.coreml.evaluate import Program
from ondevice.export.coreml.model import EvaluatedModel
from ondevice.export.coreml.weights import mil_name
from ondevice.export.source import Source, open_source
from ondevice.package import Package, open_package
from ondevice.runtime.model import conversation

# And the ONNX package of the same weights; tables of values have none.
TARGETS = {"coreml-gpu": "cpu-int4", "coreml-fp16": "cpu-fp32", "coreml-ane": None}
PREFILL, DECODE, GREEDY = 64, 8, 16
CONTEXT = 1024
_FLOAT32 = 1  # MatMulNBits' accuracy level that computes in float32


@dataclass(frozen=True)
class Figures:
    """Of one target. Logits: the largest difference to the reference with the same weights."""

    target: str
    seconds: float
    peak_mb: int
    package_mb: int
    equal_matrices: int | None
    logit_difference: float
    same_top: int
    positions: int
    prompts: int
    equal_answers: int


class StoredWeights:
    """A source that reads what a Core ML package holds, as Core ML dequantizes it."""

    def __init__(self, source: Source, program: Program) -> None:
        self._program = program
        self.architecture = source.architecture
        self.tokenizer = source.tokenizer

    def read(self, name: str, rows: slice | None = None) -> NDArray[np.float32]:
        whole = self._whole(mil_name(name)).reshape(self.architecture.tensor_shapes()[name])
        return whole if rows is None else whole[rows]

    def _whole(self, name: str) -> NDArray[np.float32]:
        with contextlib.suppress(KeyError):
            values: NDArray[np.float32] = self._program.constant(name)
            return values
        parts: list[NDArray[np.float32]] = []  # a large output matrix is several convolutions
        with contextlib.suppress(KeyError):
            while True:
                parts.append(self._program.constant(f"{name}_{len(parts)}"))
        return np.concatenate(parts)


def equal_matrices(coreml: Package, other: Package, source: Source) -> int:
    """How many matrices have the same integers and scales in both packages."""
    stored = {
        tensor.name: onnx.numpy_helper.to_array(tensor, str(other.folder))
        for tensor in onnx.load(other.model_file, load_external_data=False).graph.initializer
    }
    program, equal = Program(coreml.model_file), 0
    for name, shape in source.architecture.tensor_shapes().items():
        if len(shape) == 2:
            parts = program.stored(mil_name(name))
            packed = stored[f"{name}.integers"].reshape(shape[0], -1)
            bits = 8 * packed.shape[1] // shape[1]
            integers = parts["data"].astype(np.int16) + 2 ** (bits - 1)
            if bits == 4:
                packed = np.stack([packed & 15, packed >> 4], axis=2).reshape(shape)
            scales = stored[f"{name}.scales"]
            same = np.array_equal(integers, packed) and np.array_equal(parts["scale"], scales)
            equal += same
    return equal


def short_proof(package: Package, source: Source, text: Sequence[int]) -> tuple[float, int, int]:
    """The largest difference of logits, equal most probable tokens, positions."""
    tokens = list(text[: PREFILL + DECODE])
    model = EvaluatedModel(package, "fp32")
    found = [model.verify(tokens[:PREFILL])]
    found += [model.decode(token)[None] for token in tokens[PREFILL:]]
    weights = StoredWeights(source, Program(package.model_file, "decode"))
    hidden = reference.reference_hidden(weights, [tokens])  # type: ignore[arg-type]
    expected = reference.logits(weights, hidden[0])  # type: ignore[arg-type]
    logits = np.concatenate(found)
    same = int((logits.argmax(axis=1) == expected.argmax(axis=1)).sum())
    return float(np.abs(logits - expected).max()), same, len(tokens)


@contextlib.contextmanager
def in_float32(package: Package) -> Iterator[Package]:
    """The ONNX package with its products computed in float32, floats rounded to half precision.

    So are those of a Core ML package. Scales of quantized matrices have half precision anyway.
    """
    with TemporaryDirectory(dir=package.folder.parent) as temporary:
        folder = Path(temporary)
        for path in package.folder.iterdir():
            if path.name != package.model_file.name:
                (folder / path.name).hardlink_to(path)
        model = onnx.load(package.model_file, load_external_data=False)
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "accuracy_level":
                    attribute.i = _FLOAT32
        if package.manifest.recipe.quantization is None:
            _round_floats(model, folder)
        onnx.save(model, folder / package.model_file.name)
        yield Package(folder, package.manifest)


def _round_floats(model: onnx.ModelProto, folder: Path) -> None:
    """Round every float32 initializer; those of the data file in a copy of it."""
    data = folder / "model.onnx.data"
    values = np.fromfile(data, np.float32)
    data.unlink()
    values.astype(np.float16).astype(np.float32).tofile(data)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and not tensor.external_data:
            inline = onnx.numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(inline, tensor.name))


def equal_answers(coreml: Package, other: Package, count: int, threads: int) -> int:
    """Of so many prompts, those with the same greedy tokens in both."""
    equal = 0
    model = EvaluatedModel(coreml, "fp32")
    eos = coreml.manifest.text.eos_ids
    with (
        in_float32(other) as package,
        ondevice.load(package, threads=threads, context_length=CONTEXT) as onnx_model,
    ):
        asked = PROMPTS[:: len(PROMPTS) // count][:count]
        for index, prompt in enumerate(asked):
            tokens = list(onnx_model.prepare(conversation(prompt.text)).tokens)
            ours = greedy(model, tokens, GREEDY, eos)  # type: ignore[arg-type]
            equal += ours == greedy(onnx_model.engine, tokens, GREEDY, eos)
            print(f"prompt {index + 1}: {equal} equal", file=sys.stderr)
    return equal


def measure(gguf: Path, target: str, work: Path, prompts: int, threads: int) -> Figures:
    out = work / f"{gguf.stem}-{target}"
    kept = work / f"{out.name}.cost.json"
    if not out.is_dir():
        kept.write_text(json.dumps(asdict(export_in_child(gguf, target, out, None))))
    cost = json.loads(kept.read_text())
    package, source = open_package(out), open_source(gguf)
    beside = TARGETS[target]
    other = package_for(gguf, beside, work) if beside else None
    text = source.tokenizer.encode(Path(__file__).with_name("text.txt").read_text("utf-8"))
    difference, same, positions = short_proof(package, source, text)
    return Figures(
        target,
        cost["seconds"],
        round(cost["peak_bytes"] / 1e6),
        round(package.total_bytes / 1e6),
        equal_matrices(package, other, source) if other and target == "coreml-gpu" else None,
        float(f"{difference:.3g}"),
        same,
        positions,
        prompts if other else 0,
        equal_answers(package, other, prompts, threads) if other and prompts else 0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--work", type=Path, default=WORK, help="folder for packages")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    targets = options.target or list(TARGETS)
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    figures = [
        asdict(measure(options.gguf.resolve(), target, work, options.prompts, options.threads))
        for target in targets
    ]
    print_json(figures)


if __name__ == "__main__":
    main()
