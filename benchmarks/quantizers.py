"""Our quantizers and llama.cpp's, from the same floats, at bits per weight: the frontier.

Both read one float32 GGUF file, written here: the dequantized weights of MODEL.gguf, or with
`--dithered` these moved within their steps, since weights that lie on a grid already cost nothing
to who rounds to that grid again (see `float_gguf`). Every subject is compared with those floats
on benchmarks/text.txt (see `fidelity`). Bits per weight count integers, scales, zero points and
minima of all matrices. From the repository's root:

    python -m benchmarks.quantizers MODEL.gguf --dithered > table.md

Packages, files and figures are kept in the work folder, so that an interrupted run goes on.
Speeds are measured apart: `ondevice bench`, or `ondevice compare` on the folders.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.common import WORK, package_for
from benchmarks.fidelity import Bench, Fidelity
from benchmarks.float_gguf import write_floats
from ondevice.export.architecture import HEAD
from ondevice.export.recipe import Options, Quantizer, find_target
from ondevice.export.source import Source
from ondevice.package import Package
from ondevice.runtime import llamacpp


@dataclass(frozen=True)
class Candidate:
    """One of our ways to quantize."""

    label: str
    target: str
    options: Options

    @property
    def name(self) -> str:
        """For a folder."""
        return self.label.replace(", ", "-").replace(" ", "")

    def package(self, floats: Path, work: Path) -> Package:
        """The package of a float32 GGUF file, exported when it is not there yet."""
        return package_for(floats, self.target, work, self.options, self.name)


def _int4(label: str, block: int, quantizer: str, symmetric: bool = True) -> Candidate:
    options = Options(block=block, quantizer=quantizer, symmetric=symmetric)
    return Candidate(label, "cpu-int4", options)


FRONTIER = (
    _int4("rtn, block 32", 32, "rtn"),
    _int4("search, block 32", 32, "search"),
    _int4("activation, block 32", 32, "activation"),
    _int4("gptq, block 32", 32, "gptq"),
    _int4("gptq, asymmetric, block 32", 32, "gptq", False),
    _int4("gptq, asymmetric, block 64", 64, "gptq", False),
    _int4("gptq, asymmetric, block 128", 128, "gptq", False),
    Candidate("int8, block 128", "cpu-int8", Options(block=128)),
)
# llama.cpp's names and the numbers of `llama_ftype` in llama.h.
FILE_TYPES = {"Q4_0": 2, "Q4_K_M": 15, "Q8_0": 7}


@dataclass(frozen=True)
class Row:
    """Bits per weight of a subject and its figures."""

    bits_per_weight: float
    fidelity: Fidelity


def float_file(gguf: Path, work: Path, *, dithered: bool) -> Path:
    """The float32 GGUF file that everything is made from, written when it is not there yet."""
    kind = "dithered" if dithered else "floats"
    return write_floats(gguf, work / f"{gguf.stem}-{kind}.gguf", dithered=dithered)


def requantized(gguf: Path, name: str, work: Path, threads: int) -> Path:
    """A float32 GGUF file quantized by llama.cpp to one of `FILE_TYPES`."""
    out = work / f"{gguf.stem}-llama.cpp-{name}.gguf"
    if out.is_file():
        return out
    library = llamacpp.library()
    options = library.llama_model_quantize_default_params()
    options.ftype = FILE_TYPES[name]
    options.nthread = threads
    partial = out.with_suffix(".partial")
    code = library.llama_model_quantize(
        str(gguf).encode(), str(partial).encode(), ctypes.byref(options)
    )
    if code:
        raise SystemExit(f"llama.cpp cannot quantize {gguf} to {name}: code {code}")
    partial.replace(out)
    return out


def gguf_bits_per_weight(path: Path) -> float:
    """Mean over all matrices of a GGUF file."""
    from gguf import GGUFReader

    matrices = [tensor for tensor in GGUFReader(path).tensors if len(tensor.shape) == 2]
    weights = sum(math.prod(int(size) for size in tensor.shape) for tensor in matrices)
    return 8 * sum(int(tensor.n_bytes) for tensor in matrices) / weights


def equal(source: Source, bits_per_weight: float) -> Candidate:
    """Ours with as many bits per weight as given, or a little fewer.

    8 bits where there are enough for all matrices; otherwise GPTQ with zero points, in the
    smallest blocks that leave 4 bits for every matrix, and 8 for those that need them most. An
    embedding that is the output matrix as well has 8 bits; where there are two, both have 4.
    """
    plain = Options(block=32)
    if _bits_per_weight(source, "cpu-int8", plain, 8) <= bits_per_weight:
        return Candidate("int8, block 32", "cpu-int8", plain)
    head_bits = 4 if HEAD in source.architecture.tensor_shapes() else None
    for block in (32, 64, 128):
        options = Options(head_bits=head_bits, block=block, quantizer="gptq", symmetric=False)
        least, most = (_bits_per_weight(source, "cpu-int4", options, bits) for bits in (4, 8))
        if least <= bits_per_weight:
            share = (bits_per_weight - least) / (most - least)
            bits = math.floor(100 * (4 + 4 * share)) / 100
            label = f"gptq, asymmetric, block {block}, {bits:g} bits"
            label += "" if head_bits is None else f", head {head_bits}"
            return Candidate(label, "cpu-int4", replace(options, bits=bits))
    raise SystemExit(f"nothing of ours has {bits_per_weight:.2f} bits per weight")


def _bits_per_weight(source: Source, target: str, options: Options, bits: int) -> float:
    """Of a package whose layers' matrices all have so many bits."""
    shapes = source.architecture.tensor_shapes()
    matrices = [name for name, shape in shapes.items() if len(shape) == 2]
    mixed = dict.fromkeys(matrices, bits)
    quantizer = Quantizer(source, find_target(target), options, bits=mixed)
    for name in matrices:
        quantizer.layout(name)
    return quantizer.bits_per_weight


def run(gguf: Path, work: Path, threads: int, frontier: bool) -> list[Row]:
    """All file types of llama.cpp and ours at equal bits, from a float32 GGUF file."""
    bench = Bench(gguf, work)
    rows: list[Row] = []
    candidates = list(FRONTIER if frontier else ())

    def add(bits_per_weight: float, fidelity: Fidelity) -> None:
        rows.append(Row(bits_per_weight, fidelity))
        print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)

    for name in FILE_TYPES:
        file = requantized(gguf, name, work, threads)
        add(gguf_bits_per_weight(file), bench.llamacpp(file, f"llama.cpp {name}", threads))
        candidates.append(equal(bench.source, rows[-1].bits_per_weight))
    for candidate in candidates:
        package = candidate.package(gguf, work)
        figures = bench.package(package, f"ondevice {candidate.label}", threads)
        add(package.manifest.recipe.bits_per_weight, figures)
    return sorted(rows, key=lambda row: row.bits_per_weight)


def table(rows: Sequence[Row]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| subject | bits/weight | positions | KL mean | KL p99 | top-1 | perplexity ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        f = row.fidelity
        lines.append(
            f"| {f.label} | {row.bits_per_weight:.2f} | {f.positions:,} | {f.kl_mean:.4f} | "
            f"{f.kl_p99:.3f} | {f.top1_agreement:.1%} | {f.perplexity_ratio:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--dithered", action="store_true", help="move weights within their steps")
    parser.add_argument(
        "--frontier", action="store_true", help="all our quantizers, not only the best"
    )
    parser.add_argument("--work", type=Path, default=WORK, help="folder for packages and figures")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    floats = float_file(options.gguf, work, dithered=options.dithered)
    print(table(run(floats, work, options.threads, options.frontier)))


if __name__ == "__main__":
    main()
