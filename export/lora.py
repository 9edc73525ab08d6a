"""A checkpoint with a LoRA adapter merged into it, as a source: W + scale B A (Hu et al., 2021).

Reads PEFT's two files, adapter_config.json and adapter_model.safetensors. Rows are merged as they
are read: no merged matrix is ever held. Knows nothing about graphs or grids.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import SourceError
from ondevice.export.adapter_config import CONFIG_FILE, AdapterConfig, read_adapter_config
from ondevice.export.architecture import EMBEDDING, HEAD, Architecture
from ondevice.export.architectures import family
from ondevice.export.grid import Grid
from ondevice.export.safetensors_file import READABLE, StoredTensor, read_safetensors
from ondevice.export.source import Source, TokenizerFiles
from ondevice.export.weights import (
    Weight,
    assemble,
    require_finite,
    stored_shapes,
    weights_of,
)
from ondevice.files import sha256
from ondevice.package import SourceInfo

_WEIGHTS_FILE = "adapter_model.safetensors"
_ROWS = 256  # merged at a time

# Where the decoder lies in the model that was trained: PEFT's prefix, then that of a decoder
# within a model that also sees, or of one without a head.
_PREFIXES = (
    (r"^base_model\.model\.", ""),
    (r"^(model\.)?language_model\.(model\.)?(?=layers\.|embed_tokens\.|norm\.)", "model."),
    (r"^language_model\.(?=lm_head\.)", ""),
    (r"^(?=layers\.|embed_tokens\.|norm\.)", "model."),
)
# The adapter's own name stands in the tensor's only where PEFT did not write the file.
_FACTOR = re.compile(
    r"(?P<module>.+?)\.lora_(?P<table>embedding_)?(?P<side>[AB])"
    r"(?:\.(?!weight$)\w+)?(?:\.weight)?"
)


@dataclass(frozen=True)
class _Factors:
    """The two matrices of one stored module, (out, in) as the checkpoint has it.

    down: A, (r, in). up: B, (out, r). table: of an embedding, where both are the other way round.
    """

    down: StoredTensor
    up: StoredTensor
    scale: float
    table: bool

    def product(self, first: int, stop: int) -> NDArray[np.float32]:
        """Some rows of scale B A, float32 (rows, in)."""
        if self.table:
            up, down = _columns(self.down, first, stop).T, _matrix(self.up).T
        else:
            up, down = _rows(self.up, first, stop), _matrix(self.down)
        with np.errstate(over="ignore"):  # found when the rows are merged
            merged: NDArray[np.float32] = (up @ down) * np.float32(self.scale)
        return merged


@dataclass
class _Tensors:
    """An adapter's tensors by what they are: factors by module and side, full weights by name."""

    sides: dict[str, dict[str, StoredTensor]] = field(default_factory=dict)
    tables: set[str] = field(default_factory=set)
    full: dict[str, StoredTensor] = field(default_factory=dict)


class AdapterSource:
    """A source with an adapter merged into its weights; the rest is the source's own.

    An embedding that also is the head becomes two matrices where the adapter changes one of
    them. Raises `SourceError` when the adapter is not sound, cannot be merged exactly, or does
    not fit the source. Closing it closes the source.
    """

    def __init__(self, source: Source, folder: Path) -> None:
        self._source = source
        self._folder = folder
        config = read_adapter_config(folder)
        found = _sorted(_read_tensors(folder), folder)
        _require_saved(config, found)
        self.architecture = _untied(source.architecture, found, config)
        place = family(self.architecture.name, str(folder)).in_safetensors
        self._weights = weights_of(self.architecture, place)
        _require_places(self._weights, found, config)
        self._full = found.full
        self._factors = {name: _factors(name, found, config) for name in found.sides}

    @property
    def tokenizer(self) -> TokenizerFiles:
        return self._source.tokenizer

    def stored_type(self, name: str) -> str:
        """Of a merged matrix the source's type with a mark, F32 where that is a float type."""
        full = self._full_of(name)
        kind = full.type if full else self._source.stored_type(self._in_source(name))
        if self._factors_of(name) is None:
            return kind
        return "F32" if kind in READABLE else f"{kind} with LoRA"

    def read(self, name: str, rows: slice | None = None) -> NDArray[np.float32]:
        values = self._unmerged(name, rows)
        factors = self._factors_of(name)
        if factors is not None:
            self._merge(values, self._weights[name], rows, factors)
            require_finite(values, name, str(self._folder))
        return values

    def stored_grid(self, name: str, rows: slice | None = None) -> Grid | None:
        """None for what the adapter changes, else the source's."""
        if self._factors_of(name) or self._full_of(name):
            return None
        return self._source.stored_grid(self._in_source(name), rows)

    def origin(self) -> SourceInfo:
        """The source's, with the adapter's files and their hashes."""
        origin = self._source.origin()
        own = {f"adapter/{name}": sha256(self._folder / name) for name in _files()}
        name = f"{origin.id} + {self._folder.resolve().name}"
        return replace(origin, id=name, files={**origin.files, **own})

    def close(self) -> None:
        self._source.close()

    def _unmerged(self, name: str, rows: slice | None) -> NDArray[np.float32]:
        full = self._full_of(name)
        if full is None:
            return self._source.read(self._in_source(name), rows)
        weight = self._weights[name]

        def stored(first: int, stop: int) -> NDArray[np.float32]:
            return full.values(first * weight.width, stop * weight.width)

        return assemble(weight, rows, stored, name, str(self._folder))

    def _merge(
        self,
        values: NDArray[np.float32],
        weight: Weight,
        rows: slice | None,
        factors: _Factors,
    ) -> None:
        """Add to `values`, the weight's `rows`, in place.

        Products are of the same rows whatever is asked for, as their last bits can depend on it.
        """
        base = 0 if weight.stored.rows is None else weight.stored.rows.start
        start, stop, _ = (rows or slice(None)).indices(weight.shape[0])
        for low in range(start - start % _ROWS, stop, _ROWS):
            high = min(low + _ROWS, weight.shape[0])
            product = factors.product(base + low, base + high)
            first, last = max(low, start), min(high, stop)
            values[first - start : last - start] += product[first - low : last - low]

    def _in_source(self, name: str) -> str:
        tied = self._source.architecture.tied_embeddings
        return EMBEDDING if name == HEAD and tied else name

    def _full_of(self, name: str) -> StoredTensor | None:
        return self._full.get(self._weights[name].stored.name) if name in self._weights else None

    def _factors_of(self, name: str) -> _Factors | None:
        return self._factors.get(self._weights[name].stored.name) if name in self._weights else None


def with_adapter(source: Source, folder: Path | None) -> Source:
    """The source itself, or with the adapter of a folder merged into it. Raises `SourceError`."""
    return source if folder is None else AdapterSource(source, folder)


def _files() -> tuple[str, str]:
    return CONFIG_FILE, _WEIGHTS_FILE


def _read_tensors(folder: Path) -> dict[str, StoredTensor]:
    path = folder / _WEIGHTS_FILE
    if not path.is_file():
        if (folder / "adapter_model.bin").is_file():
            raise SourceError(
                f"{folder} holds a pickled adapter, which can run code when read; save it again "
                "as safetensors"
            )
        raise SourceError(f"{path} is missing; give the folder of a PEFT adapter")
    tensors = read_safetensors(path)
    for name, tensor in tensors.items():
        if tensor.type not in READABLE:
            raise SourceError(
                f"{name[:80]!r} in {path} has the type {tensor.type}, which cannot be read; "
                f"readable are {', '.join(READABLE)}"
            )
    return tensors


def _sorted(tensors: Mapping[str, StoredTensor], folder: Path) -> _Tensors:
    """Names as the checkpoint has them. Raises `SourceError` where two tensors are of one place."""
    found = _Tensors()
    for name, tensor in tensors.items():
        place = _in_decoder(name)
        if ".lora_magnitude_vector" in place:
            raise SourceError(f"{folder} is a DoRA adapter; merge it with peft and export that")
        match = _FACTOR.fullmatch(place)
        if match is None:
            home, key = found.full, place.replace(".base_layer.", ".")
        else:
            weight = f"{match['module']}.weight"
            home, key = found.sides.setdefault(weight, {}), match["side"]
            if match["table"]:
                found.tables.add(weight)
        if key in home:
            raise SourceError(
                f"{folder} has two tensors for {place[:80]!r}; save one adapter by itself"
            )
        home[key] = tensor
    return found


def _in_decoder(name: str) -> str:
    for pattern, prefix in _PREFIXES:
        name = re.sub(pattern, prefix, name)
    return name


def _require_saved(config: AdapterConfig, found: _Tensors) -> None:
    for module in config.saved:
        if not any(f".{name}".endswith(f".{module}.weight") for name in found.full):
            raise SourceError(
                f"{config.where} says it saves all of {module[:60]!r} but has no tensor of it; "
                "the adapter is incomplete"
            )


def _untied(architecture: Architecture, found: _Tensors, config: AdapterConfig) -> Architecture:
    changed = [name for name in (EMBEDDING, HEAD) if name in found.sides or name in found.full]
    if not architecture.tied_embeddings or not changed:
        return architecture
    if config.tied and any(name in found.sides for name in changed):
        raise SourceError(
            f"{config.where} trains an embedding that is also the head as one matrix; merge it "
            "with peft and export the merged checkpoint"
        )
    return replace(architecture, tied_embeddings=False)


def _require_places(weights: Mapping[str, Weight], found: _Tensors, config: AdapterConfig) -> None:
    """Raise `SourceError` for a tensor that is of no weight of the decoder, or misshapen."""
    shapes = stored_shapes(weights)
    hint = f"; it names {config.base[:60]!r} as its base" if config.base else ""
    for name in (*found.full, *found.sides):
        if name not in shapes:
            raise SourceError(
                f"{config.where} changes {name[:80]!r}, which the checkpoint has not{hint}"
            )
    for name, tensor in found.full.items():
        _require_shape(f"{name} in {config.where}", tensor.shape, shapes[name], hint)
    for name, sides in found.sides.items():
        if set(sides) != {"A", "B"}:
            raise SourceError(f"{config.where} has one of two matrices for {name}; fetch it again")
        if len(shapes[name]) != 2 or (name in found.tables) != (name == EMBEDDING):
            raise SourceError(f"{config.where} has matrices for {name} of another kind of layer")
        rank = config.rank_of(name.removesuffix(".weight"))
        out, inner = shapes[name]
        down, up = (
            ((rank, out), (inner, rank))
            if name in found.tables
            else (
                (rank, inner),
                (out, rank),
            )
        )
        _require_shape(f"A of {name} in {config.where}", sides["A"].shape, down, hint)
        _require_shape(f"B of {name} in {config.where}", sides["B"].shape, up, hint)


def _require_shape(what: str, found: tuple[int, ...], needed: tuple[int, ...], hint: str) -> None:
    if found != needed:
        raise SourceError(
            f"{what} has the shape {found}, the checkpoint and its rank ask for {needed}; it is of "
            f"another base or damaged{hint}"
        )


def _factors(name: str, found: _Tensors, config: AdapterConfig) -> _Factors:
    sides = found.sides[name]
    scale = config.scale_of(name.removesuffix(".weight"))
    for side, tensor in sides.items():
        require_finite(_matrix(tensor), f"{side} of {name}", config.where)
    return _Factors(sides["A"], sides["B"], scale, name in found.tables)


def _matrix(tensor: StoredTensor) -> NDArray[np.float32]:
    return _rows(tensor, 0, tensor.shape[0])


def _rows(tensor: StoredTensor, first: int, stop: int) -> NDArray[np.float32]:
    width = tensor.shape[1]
    return tensor.values(first * width, stop * width).reshape(-1, width)


def _columns(tensor: StoredTensor, first: int, stop: int) -> NDArray[np.float32]:
    rows, width = tensor.shape
    return np.stack([tensor.values(r * width + first, r * width + stop) for r in range(rows)])
