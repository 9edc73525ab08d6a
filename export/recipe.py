"""Which grid each matrix gets: the targets by name, the options, and the choice per tensor.

Knows sources and grids, not graphs.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ondevice import files
from ondevice.errors import ExportError
from ondevice.export.architecture import EMBEDDING, HEAD
from ondevice.export.grid import BLOCK_SIZES, Grid
from ondevice.export.quantize import gptq
from ondevice.export.quantize.calibrate import Activations, calibration_text
from ondevice.export.quantize.scales import Scheme, quantize
from ondevice.export.quantize.statistics import Statistics, row_squares
from ondevice.export.quantize.tables import Tables, palettize
from ondevice.export.source import Source
from ondevice.package import Quantization

_FLOAT_TYPES = ("F32", "F16", "BF16")
QUANTIZERS = ("rtn", "search", "activation", "gptq")
_HIGH_BLOCKS = (32, 64, 128)  # of 8 bits beside 4: the largest that leaves none incomplete
CALIBRATED = ("activation", "gptq")  # quantizers that look at activations


@dataclass(frozen=True)
class Target:
    """How a package's matrices are stored.

    bits None keeps float32; `head_bits` is for the embedding and the output matrix.
    `as_is` follows the source: floats stay floats, exact integers are taken over. Source types
    with a real-valued minimum (Q4_1, Q4_K, ...) get 8 bits: a 4-bit zero point would shift a
    whole block by up to half a step, 8 bits round 16 times finer.
    `fine_head` and `fine_attention` let these matrices see activations at twice the kernel's
    8 bits (see `onnx_graph`), which is where most of the divergence comes from when the weights
    themselves are exact. The first costs nothing measurable, the second a tenth of the speed.
    table_rows: rows that share a table of values, in place of a grid; 0 is none.
    quantizer: what is taken unless another is asked for.
    graph: an ONNX graph for onnxruntime, static ones in operators that NPUs have, or a Core ML
    program.
    """

    name: str
    bits: int | None
    head_bits: int | None
    block: int = 32
    symmetric: bool = True
    as_is: bool = False
    fine_head: bool = False
    fine_attention: bool = False
    table_rows: int = 0
    quantizer: str = "search"
    graph: Literal["onnx", "npu", "coreml"] = "onnx"


TARGETS = {
    target.name: target
    for target in (
        Target("cpu-fp32", bits=None, head_bits=None),
        Target("cpu-int8", bits=8, head_bits=8, fine_head=True),
        Target("cpu-int4", bits=4, head_bits=8),
        Target("cpu-as-is", bits=8, head_bits=8, as_is=True, fine_head=True, fine_attention=True),
        Target("npu-int8", bits=8, head_bits=8, graph="npu"),
        Target("coreml-gpu", bits=4, head_bits=8, graph="coreml"),
        Target("coreml-ane", bits=4, head_bits=8, table_rows=16, quantizer="gptq", graph="coreml"),
        Target("coreml-fp16", bits=None, head_bits=None, graph="coreml"),
    )
}


def find_target(name: str) -> Target:
    """The target of that name; raises `ExportError` naming the known."""
    if name not in TARGETS:
        raise ExportError(f"unknown target {name!r}; known: {', '.join(TARGETS)}")
    return TARGETS[name]


@dataclass(frozen=True)
class Options:
    """What can be chosen beside the target; None is the target's or the quantizer's own.

    bits: per weight, of 4 to 8; a fraction is the mean of matrices of 4 and of 8 bits.
    head_bits: of the embedding and the output matrix, 4 or 8. embedding_bits: of an embedding
    that is not the output matrix as well.
    block: weights that share a scale. symmetric: without zero points.
    quantizer: one of `QUANTIZERS`. calibration: the text that activations are taken from.
    adapter: the folder of a LoRA adapter that is merged into the weights.
    activation_bits: of static graphs, 16 or 8. context: positions of a KV cache of fixed length.
    """

    bits: float | None = None
    head_bits: int | None = None
    embedding_bits: int | None = None
    block: int | None = None
    symmetric: bool | None = None
    quantizer: str | None = None
    calibration: Path | None = None
    adapter: Path | None = None
    activation_bits: int | None = None
    context: int | None = None

    def with_defaults(self, target: Target) -> Options:
        """The same, with the target's own quantizer where that looks at activations."""
        if self.quantizer is None and target.quantizer in CALIBRATED:
            return dataclasses.replace(self, quantizer=target.quantizer)
        return self

    def check(self, target: Target) -> None:
        """Raise `ExportError` for what cannot be, or does not go with the target."""
        self._check_values()
        self._check_paths()
        if target.graph == "npu":
            self._check_static(target)
            return
        if self.activation_bits is not None:
            raise ExportError("--activation-bits is for --target npu-int8")
        if self.context is not None and target.graph == "onnx":
            raise ExportError(
                "--context is for --target npu-int8 and those of Core ML, whose KV cache is of "
                "fixed length"
            )
        if target.as_is or target.bits is None:
            if chosen := self._chosen():
                raise ExportError(
                    f"--target {target.name} keeps the weights as they are, so {chosen[0]} has no "
                    "place; choose --target cpu-int4 or cpu-int8 with it"
                )
            return
        if target.table_rows:
            self._check_tables(target)
        if self.bits is not None and (self.bits == 8) != (target.bits == 8):
            fitting = "cpu-int8" if self.bits == 8 else "cpu-int4"
            raise ExportError(
                f"--bits {self.bits:g} does not go with --target {target.name}; "
                f"choose --target {fitting}"
            )
        if self.calibration is not None and not self.calibrated:
            raise ExportError(
                "--calibration is read by --quantizer activation and gptq and by a fractional "
                "--bits; choose one of them or leave it out"
            )

    def _check_static(self, target: Target) -> None:
        """Raise `ExportError` for what static graphs have no place for."""
        self._refuse_all_but({"--calibration"}, f"{target.name} has 8 bits and a scale per row")
        if self.activation_bits not in (None, 8, 16):
            raise ExportError(f"--activation-bits {self.activation_bits} cannot be; choose 8 or 16")

    def _refuse_all_but(self, fitting: set[str], target: str) -> None:
        """Raise `ExportError` for a flag of quantization that a target has no place for."""
        for flag in self._chosen():
            if flag not in fitting:
                raise ExportError(f"--target {target}, so {flag} has no place; leave it out")

    def _check_tables(self, target: Target) -> None:
        """Raise `ExportError` for what tables of values have no place for."""
        self._refuse_all_but(
            {"--head-bits", "--embedding-bits", "--quantizer", "--calibration"},
            f"{target.name} has tables of 16 values for every {target.table_rows} rows",
        )
        if self.quantizer == "rtn":
            raise ExportError(
                f"--quantizer rtn makes no tables of values, which --target {target.name} needs; "
                "choose search, activation or gptq"
            )

    @property
    def mixed(self) -> bool:
        """Whether some matrices get 4 bits and some 8."""
        return self.bits not in (None, 4, 8)

    @property
    def calibrated(self) -> bool:
        """Whether activations are looked at."""
        return self.mixed or self.quantizer in CALIBRATED

    @property
    def calibration_sha256(self) -> str | None:
        """Of the text that activations are taken from; None where none are."""
        if self.calibration is not None:
            return files.sha256(self.calibration)
        if not self.calibrated:
            return None
        return hashlib.sha256(calibration_text().encode()).hexdigest()

    def identity(self) -> dict[str, object]:
        """The options, with hashes in place of paths."""
        values = dataclasses.asdict(self)
        values["calibration"] = self.calibration_sha256
        if self.adapter is not None:
            files_of = sorted(path for path in self.adapter.iterdir() if path.is_file())
            values["adapter"] = {path.name: files.sha256(path) for path in files_of}
        return values

    def _check_values(self) -> None:
        if self.context is not None and self.context < 1:
            raise ExportError(f"--context {self.context} cannot be; give the positions to hold")
        if self.bits is not None and not 4 <= self.bits <= 8:
            raise ExportError(f"--bits {self.bits:g} cannot be; choose 4 to 8, such as 4.5")
        for flag, bits in (
            ("--head-bits", self.head_bits),
            ("--embedding-bits", self.embedding_bits),
        ):
            if bits not in (None, 4, 8):
                raise ExportError(f"{flag} {bits} cannot be stored; choose 4 or 8")
        if self.block is not None and self.block not in BLOCK_SIZES:
            known = ", ".join(map(str, BLOCK_SIZES))
            raise ExportError(f"--block {self.block} cannot be stored; choose one of {known}")
        if self.quantizer is not None and self.quantizer not in QUANTIZERS:
            known = ", ".join(QUANTIZERS)
            raise ExportError(f"unknown quantizer {self.quantizer[:40]!r}; known: {known}")

    def _check_paths(self) -> None:
        if self.calibration is not None and not self.calibration.is_file():
            raise ExportError(f"{self.calibration} is not a file; give --calibration a text file")
        if self.adapter is not None and not self.adapter.is_dir():
            raise ExportError(f"{self.adapter} is not a folder; give --adapter an adapter's folder")

    def _chosen(self) -> list[str]:
        """The flags of quantization that were given."""
        given = {
            "--bits": self.bits,
            "--head-bits": self.head_bits,
            "--embedding-bits": self.embedding_bits,
            "--block": self.block,
            "--asymmetric": self.symmetric,
            "--quantizer": self.quantizer,
            "--calibration": self.calibration,
        }
        return [flag for flag, value in given.items() if value is not None]


@dataclass(frozen=True)
class Layout:
    """How a matrix (rows, columns) is stored: floats of 32 or 16 bits, otherwise a grid.

    exact: the source's own integers are taken over. table_rows: rows that share a table of
    values; where there are any, there are no blocks.
    """

    rows: int
    columns: int
    bits: int = 32
    block: int = 0
    zero_points: bool = False
    exact: bool = False
    table_rows: int = 0

    @property
    def is_float(self) -> bool:
        return self.bits > 8

    @property
    def weights(self) -> int:
        return self.rows * self.columns

    @property
    def blocks(self) -> int:
        """Quantization blocks of a row."""
        return -(-self.columns // self.block)

    @property
    def scale_dtype(self) -> np.dtype[np.generic]:
        """Half precision for scales that a quantizer chose; a source's may need float32."""
        return np.dtype(np.float32 if self.exact else np.float16)

    @property
    def stored_bits(self) -> int:
        """Of the whole matrix, scales and zero points included."""
        if self.is_float:
            return self.bits * self.weights
        if self.table_rows:
            return self.bits * self.weights + (self.rows // self.table_rows << self.bits) * 16
        side_bits = 8 * self.scale_dtype.itemsize + (self.bits if self.zero_points else 0)
        return self.weights * self.bits + self.rows * self.blocks * side_bits


@dataclass(frozen=True)
class Rows:
    """Some rows of a matrix as they are stored, and what quantizing them changed.

    error, power: float64 (rows,): sums of the squares of the change and of the weights; None
    where nothing was quantized.
    """

    values: Grid | Tables | NDArray[np.float32]
    error: NDArray[np.float64] | None = None
    power: NDArray[np.float64] | None = None


class Quantizer:
    """Says how each matrix of a source is stored, makes its rows, remembers what it did."""

    def __init__(
        self,
        source: Source,
        target: Target,
        options: Options | None = None,
        activations: Activations | None = None,
        bits: Mapping[str, int] | None = None,
    ) -> None:
        self.source = source
        self.target = target
        self.options = options or Options()
        if self.options.embedding_bits and HEAD not in source.architecture.tensor_shapes():
            raise ExportError(
                "the embedding of this model is its output matrix as well; "
                "choose --head-bits in place of --embedding-bits"
            )
        self._activations = activations
        self._mixed_bits = bits or {}
        self._layouts: dict[str, Layout] = {}
        self.errors: dict[str, float] = {}

    def layout(self, name: str) -> Layout:
        """How a matrix is stored."""
        if name not in self._layouts:
            self._layouts[name] = self._choose(name)
        return self._layouts[name]

    def _choose(self, name: str) -> Layout:
        rows, columns = self.source.architecture.tensor_shapes()[name]
        bits = self._bits(name)
        if bits is None:
            return Layout(rows, columns, 16 if self.target.graph == "coreml" else 32)
        if self.target.table_rows:
            return Layout(rows, columns, bits, table_rows=self.target.table_rows)
        grid = self.source.stored_grid(name, slice(0, 1))
        if grid is not None and self._fits(grid, bits):
            zero_points = grid.zero_points is not None
            return Layout(rows, columns, grid.bits, grid.block, zero_points, exact=True)
        scheme = self.scheme(bits, columns)
        return Layout(rows, columns, bits, scheme.block, zero_points=not scheme.symmetric)

    def _bits(self, name: str) -> int | None:
        target = self.target
        if target.as_is and self.source.stored_type(name) in _FLOAT_TYPES:
            return None
        if name == EMBEDDING:
            return self.options.embedding_bits or self.head_bits
        if name == HEAD:
            return self.head_bits
        return self._mixed_bits.get(name, target.bits)

    def _fits(self, grid: Grid, bits: int) -> bool:
        """Whether the source's integers are what was asked for."""
        return self.target.as_is or (grid.bits == bits and self.options.block in (None, grid.block))

    @property
    def head_bits(self) -> int | None:
        return self.options.head_bits or self.target.head_bits

    @property
    def block(self) -> int:
        return self.options.block or self.target.block

    @property
    def symmetric(self) -> bool:
        chosen = self.options.symmetric
        return self.target.symmetric if chosen is None else chosen

    @property
    def method(self) -> str:
        return self.options.quantizer or self.target.quantizer

    def statistics(self, name: str) -> Statistics | None:
        """What calibration found about a matrix's input, None where nothing is quantized."""
        layout = self.layout(name)
        if self._activations is None or layout.is_float or layout.exact:
            return None
        return self._activations.statistics(name)

    def rows(self, name: str, rows: slice, statistics: Statistics | None = None) -> Rows:
        """Some rows of a matrix; they do not depend on which others come with them."""
        layout = self.layout(name)
        if layout.exact:
            grid = self.source.stored_grid(name, rows)
            assert grid is not None
            return Rows(grid)
        values = self.source.read(name, rows)
        if layout.is_float:
            return Rows(values)
        made = self._made(values, layout, statistics)
        change = made.dequantize() - values
        return Rows(made, row_squares(change), row_squares(values))

    def _made(
        self, values: NDArray[np.float32], layout: Layout, statistics: Statistics | None
    ) -> Grid | Tables:
        if layout.table_rows:
            bits, table_rows = layout.bits, layout.table_rows
            if statistics is None:
                return palettize(values, bits, table_rows)
            importance, factor = statistics.mean_square, statistics.error_factor
            if factor is None:
                return palettize(values, bits, table_rows, importance)
            return gptq.quantize_to_tables(values, bits, table_rows, factor, importance)
        return self._round(values, self.scheme(layout.bits, layout.columns), statistics)

    def scheme(self, bits: int, columns: int) -> Scheme:
        """What matrices of that many bits and columns are rounded to.

        Zero points and a scale for every few weights pay for 16 levels; beside them, matrices of
        8 bits go without, in larger blocks.
        """
        search = self.method != "rtn"
        if bits == 8 and self.target.bits == 4:
            whole = [size for size in _HIGH_BLOCKS if columns % size == 0]
            return Scheme(bits, max([self.block, *whole]), True, search)
        return Scheme(bits, self.block, self.symmetric, search)

    def _round(
        self, values: NDArray[np.float32], scheme: Scheme, statistics: Statistics | None
    ) -> Grid:
        if statistics is None:
            return quantize(values, scheme)
        if statistics.error_factor is None:
            return quantize(values, scheme, statistics.mean_square)
        return gptq.quantize(values, scheme, statistics.error_factor, statistics.mean_square)

    def finish(self, name: str, error: float | None) -> None:
        """Note that a matrix is written, and the relative error of quantizing it."""
        if error is not None:
            self.errors[name] = error

    @property
    def counts(self) -> dict[str, int]:
        """Matrices by what they are stored as."""
        return dict(Counter(self._kind(name) for name in self._layouts))

    def _kind(self, name: str) -> str:
        layout = self._layouts[name]
        if layout.is_float:
            return f"float{layout.bits}"
        stored = self.source.stored_type(name)
        how = "taken over exactly" if layout.exact else f"requantized from {stored}"
        if layout.table_rows:
            return f"tables of {2**layout.bits} values for {layout.table_rows} rows, {how}"
        return f"int{layout.bits} block {layout.block}, {how}"

    @property
    def quantization(self) -> Quantization | None:
        """What the package says of how it was quantized; None for a target that keeps floats."""
        bits, head_bits = self.options.bits or self.target.bits, self.head_bits
        if bits is None or head_bits is None:
            return None
        tables = self.target.table_rows
        return Quantization(
            bits,
            head_bits,
            0 if tables else self.block,
            not tables and self.symmetric,
            self.method,
            self.options.calibration_sha256,
            self.options.embedding_bits,
        )

    @property
    def bits_per_weight(self) -> float:
        """Mean over all matrices, scales and zero points included."""
        layouts = self._layouts.values()
        bits = sum(layout.stored_bits for layout in layouts)
        return round(bits / sum(layout.weights for layout in layouts), 3)
