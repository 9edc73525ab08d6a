"""Faults of half precision that a Core ML package can have, looked for on a text.

The program runs twice in the evaluator, in float32 and in half precision: values that half
precision cannot hold, other tokens, and keys that differ at the end of the context (a rotary
embedding computed in half precision goes wrong there first).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ondevice.export.coreml.evaluate import Program
from ondevice.export.coreml.mlpackage import MLPackage
from ondevice.export.coreml.model import EvaluatedModel
from ondevice.export.quantize.calibrate import calibration_text
from ondevice.export.quantize.scales import HALF_TOP
from ondevice.package import Package
from ondevice.runtime.coreml import STATES
from ondevice.runtime.tokenizer import Tokenizer

TOKENS = 64


@dataclass(frozen=True)
class Check:
    """What was found on `tokens` tokens.

    largest: the largest value between operators, in float32, and `largest_in` what it is called.
    overflowing: names of values that half precision cannot hold.
    same_top: tokens whose most probable next token is the same in both precisions.
    cache_difference: the largest of keys and values, of the text and of a token at the last
    position of the context, relative to the largest of them.
    """

    tokens: int
    largest: float
    largest_in: str
    overflowing: tuple[str, ...]
    same_top: int
    cache_difference: float


def check(package: Package) -> Check:
    """Look for faults of half precision in one of our Core ML packages.

    Raises `ExportError` for a damaged one.
    """
    tokenizer = Tokenizer.read(package.tokenizer_file)
    tokens = tokenizer.encode(calibration_text())[:TOKENS]
    context = package.manifest.shape.context_length
    tokens = tokens[: context - 1]
    opened = MLPackage(package.model_file)
    wide = EvaluatedModel(package, "fp32", opened)
    half = EvaluatedModel(package, "fp16", opened)
    found: dict[str, float] = {}

    def observe(name: str, values: np.ndarray) -> None:
        if values.dtype == np.float32 and values.size:
            found[name] = max(found.get(name, 0.0), float(np.abs(values).max()))

    expected = wide.verify(tokens, observe)
    same = int((expected.argmax(axis=1) == half.verify(tokens).argmax(axis=1)).sum())
    for model in (wide, half):
        model.position = context - 1
        model.decode(tokens[0])
    largest = max(found, key=lambda name: found[name])
    return Check(
        tokens=len(tokens),
        largest=found[largest],
        largest_in=largest,
        overflowing=tuple(name for name, value in found.items() if not value <= HALF_TOP),
        same_top=same,
        cache_difference=_cache_difference(wide, half),
    )


def _cache_difference(one: EvaluatedModel, other: EvaluatedModel) -> float:
    differences = []
    for name in STATES:
        expected = one.state[name]
        most = float(np.abs(expected).max()) or 1.0
        differences.append(float(np.abs(expected - other.state[name]).max()) / most)
    return float(f"{max(differences):.3g}")


def describe(package: MLPackage) -> dict[str, dict[str, object]]:
    """Of each function of a package of any origin: operators, inputs, outputs and states.

    Raises `ExportError` when the evaluator has no reference for one of the operators.
    """
    found: dict[str, dict[str, object]] = {}
    for function in package.functions:
        program = Program(package, function)
        states = {state.name: list(state.shape) for state in package.states(function)}
        found[function] = {
            "operators": dict(sorted(program.operators.items())),
            "inputs": [name for name in program.inputs if name not in states],
            "outputs": list(program.outputs),
            "states": states,
        }
    return found
