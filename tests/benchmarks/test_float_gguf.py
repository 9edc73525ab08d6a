"""The float32 GGUF file that two quantizers begin with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoints import tiny, write_gguf
from numpy.typing import NDArray

from benchmarks.float_gguf import write_floats
from ondevice.export.quantize.scales import Scheme, quantize
from ondevice.export.source import Source, open_source

MATRIX = "model.layers.0.mlp.gate_proj.weight"
NORM = "model.layers.0.input_layernorm.weight"


def both(tmp_path: Path, matrices: str, *, dithered: bool) -> tuple[Source, Source]:
    old = write_gguf(tmp_path / "old.gguf", tiny("llama"), matrices=matrices)
    new = write_floats(old, tmp_path / "new.gguf", dithered=dithered)
    return open_source(old), open_source(new)


def error(weight: NDArray[np.float32], block: int) -> float:
    """Of 8-bit rounding with zero points, over the weights' own size."""
    rounded = quantize(weight, Scheme(8, block)).dequantize()
    return float(np.linalg.norm(rounded - weight) / np.linalg.norm(weight))


@pytest.mark.parametrize("matrices", ["Q4_1", "Q5_0", "Q8_0", "Q4_0", "F16"])
def test_the_floats_are_the_dequantized_weights_of_the_same_model(
    tmp_path: Path, matrices: str
) -> None:
    old, new = both(tmp_path, matrices, dithered=False)
    assert old.architecture == new.architecture
    assert old.tokenizer.tokenizer_json == new.tokenizer.tokenizer_json
    for name in old.architecture.tensor_shapes():
        assert new.stored_type(name) == "F32"
        assert (new.read(name) == old.read(name)).all(), name


def test_dithered_weights_stay_within_half_a_step_and_norms_where_they_were(
    tmp_path: Path,
) -> None:
    old, new = both(tmp_path, "Q4_1", dithered=True)
    assert (new.read(NORM) == old.read(NORM)).all()
    before, after = old.read(MATRIX), new.read(MATRIX)
    blocks = before.reshape(-1, 32)
    step = (blocks.max(axis=1) - blocks.min(axis=1)) / 15
    moved = np.abs(after.reshape(-1, 32) - blocks) / step[:, None]
    assert moved.max() <= 0.5001
    assert 0.2 < moved.mean() < 0.3  # a quarter of a step, where all moves are as likely


def test_a_grid_is_found_again_in_dequantized_weights_but_not_in_dithered_ones(
    tmp_path: Path,
) -> None:
    old, new = both(tmp_path, "Q8_0", dithered=True)
    assert error(new.read(MATRIX), 32) > 10 * error(old.read(MATRIX), 32)


def test_dithering_is_the_same_again_and_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    old = write_gguf(tmp_path / "old.gguf", tiny("llama"), matrices="Q4_1")
    one = write_floats(old, tmp_path / "one.gguf", dithered=True).read_bytes()
    assert write_floats(old, tmp_path / "two.gguf", dithered=True).read_bytes() == one
    (tmp_path / "two.gguf").write_bytes(b"kept")
    write_floats(old, tmp_path / "two.gguf", dithered=True)
    assert (tmp_path / "two.gguf").read_bytes() == b"kept"
