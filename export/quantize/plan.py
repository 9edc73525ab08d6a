"""From the options to a quantizer: reads the calibration text, measures, shares out bits."""

from __future__ import annotations

import math
from pathlib import Path

from ondevice.errors import ExportError
from ondevice.export.architecture import EMBEDDING, HEAD
from ondevice.export.quantize.calibrate import Activations, calibration_windows
from ondevice.export.quantize.sensitivity import LOW, allocate, sensitivities
from ondevice.export.recipe import CALIBRATED, Options, Quantizer, Target
from ondevice.export.source import Source
from ondevice.progress import Progress

_MEASURED = 2  # calibration windows, from all over the text, on which sensitivity is measured


def make_quantizer(
    source: Source, target: Target, options: Options, progress: Progress | None = None
) -> Quantizer:
    """A quantizer that knows what its options want to know of activations.

    Raises `ExportError` for a calibration text that cannot be read or has no tokens.
    """
    plain = Quantizer(source, target, options)
    if not options.calibrated:
        return plain
    text = None if options.calibration is None else read_text(options.calibration)
    windows = calibration_windows(source, text)
    bits = None
    if options.bits is not None and options.mixed:
        low = plain.scheme(LOW, source.architecture.hidden_size)
        measured = windows[:: max(1, len(windows) // _MEASURED)][:_MEASURED]
        errors = sensitivities(source, measured, low, progress)
        bits = allocate(_matrices(source), errors, options.bits)
    activations = None
    if options.quantizer in CALIBRATED:
        hessians = options.quantizer == "gptq"
        activations = Activations(source, windows, hessians=hessians)
    return Quantizer(source, target, options, activations, bits)


def _matrices(source: Source) -> dict[str, int]:
    """The matrices of the layers and their weights."""
    return {
        name: math.prod(shape)
        for name, shape in source.architecture.tensor_shapes().items()
        if len(shape) == 2 and name not in (EMBEDDING, HEAD)
    }


def read_text(path: Path) -> str:
    """A calibration text; raises `ExportError` for what is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} cannot be read as UTF-8 text ({error})") from error
