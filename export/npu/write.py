"""Writes the two static graphs of a decoder, a prefill and a decode graph, around one data file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from ondevice.export.architecture import layer_tensor
from ondevice.export.external_data import ExternalData
from ondevice.export.npu.operators import check_operators
from ondevice.export.npu.ranges import activation_ranges, smoothed, smoothing
from ondevice.export.npu.static_graph import Shape, check_architecture, static_model
from ondevice.export.npu.stored import Settings, Weights
from ondevice.export.onnx_graph import DATA_FILE
from ondevice.export.quantize.calibrate import calibration_windows
from ondevice.export.source import Source
from ondevice.package import ONNX_MODEL
from ondevice.progress import Progress
from ondevice.runtime.npu import PREFILL_FILE

PREFILL_TOKENS = 128
CONTEXT = 1024  # positions, unless others are asked for
_STRENGTH = 0.5  # of SmoothQuant, the paper's, where activations have 8 bits


@dataclass(frozen=True)
class Written:
    """What the graphs hold: bits per weight with scales, and each matrix's relative error."""

    bits_per_weight: float
    matrices: int
    errors: dict[str, float]


def write_static_graphs(
    source: Source,
    folder: Path,
    *,
    activation_bits: int | None = 16,
    context: int = CONTEXT,
    text: str | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write `model.onnx` (a token at a time), `prefill.onnx` (128) and their data.

    Activations are calibrated on a text (default: the built-in one). `activation_bits` None
    keeps everything in float32. Raises `ExportError` for an architecture that static graphs
    cannot say, a calibration text without tokens, or an operator outside the published lists.
    """
    check_architecture(source.architecture, context)
    settings = _settings(source, activation_bits, text, progress)
    with ExternalData(folder / DATA_FILE) as data:
        weights = Weights(source, data, settings)
        for file, tokens in ((ONNX_MODEL, 1), (PREFILL_FILE, PREFILL_TOKENS)):
            model = static_model(weights, Shape(tokens, context))
            check_operators(model)
            ir.save(model, folder / file)
        data.sync()
    matrices = len(weights.errors) or weights.matrices
    return Written(round(weights.bits / weights.weights, 3), matrices, weights.errors)


def _settings(
    source: Source, bits: int | None, text: str | None, progress: Progress | None
) -> Settings:
    if bits is None:
        return Settings(None, {}, {}, {})
    ranges = activation_ranges(source, calibration_windows(source, text), progress)
    if bits > 8:
        return Settings(bits, ranges, {}, {})
    factors = smoothing(source, ranges, _STRENGTH)
    arch = source.architecture
    behind = {
        layer_tensor(layer, f"{name}.weight"): layer_tensor(layer, f"{norm}.weight")
        for layer in range(arch.layers)
        for norm, names in smoothed(arch.mlp_norm)
        for name in names
    }
    scaled = {name: ranges[name].over(factors[norm]) for name, norm in behind.items()}
    return Settings(bits, ranges | scaled, factors, behind)
