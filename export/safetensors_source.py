"""A folder with config.json, tokenizer.json and safetensors files as a source.

Knows the files of a Hugging Face checkpoint; `safetensors_file` knows the tensor format and
the architectures' files know config.json.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import SourceError
from ondevice.export.architecture import HEAD, Architecture
from ondevice.export.architectures import family
from ondevice.export.grid import Grid
from ondevice.export.hf_tokenizer import TOKENIZER_FILES, tokenizer_from_folder
from ondevice.export.json_files import read_json
from ondevice.export.safetensors_file import READABLE, StoredTensor, read_safetensors
from ondevice.export.source import TokenizerFiles
from ondevice.export.weights import assemble, require_shapes, stored_shapes, weights_of
from ondevice.files import sha256
from ondevice.package import SourceInfo

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class SafetensorsSource:
    """A checkpoint folder opened for reading.

    Raises `SourceError` when a file is missing or not sound, the architecture is unknown, or
    config.json and the weights disagree.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise SourceError(f"{folder} is not a folder; give the folder of a checkpoint")
        self._folder = folder
        self._files = _weight_files(folder)
        self._config = read_json(folder / "config.json")
        found = family(self._config.text("model_type"), self._config.where)
        self.architecture: Architecture = found.from_config(self._config)
        self._weights = weights_of(self.architecture, found.in_safetensors)
        self._tensors = _tensors(self._files)
        _check(stored_shapes(self._weights), self._tensors, str(folder))

    @cached_property
    def tokenizer(self) -> TokenizerFiles:
        return tokenizer_from_folder(self._folder, self._config, self.architecture.vocab_size)

    def stored_type(self, name: str) -> str:
        return self._tensor(name).type

    def read(self, name: str, rows: slice | None = None) -> NDArray[np.float32]:
        tensor = self._tensor(name)
        weight = self._weights[name]

        def stored(first: int, stop: int) -> NDArray[np.float32]:
            return tensor.values(first * weight.width, stop * weight.width)

        return assemble(weight, rows, stored, name, str(self._folder))

    def stored_grid(self, name: str, rows: slice | None = None) -> Grid | None:
        """None: safetensors checkpoints read here are not quantized."""
        self._tensor(name)
        return None

    def origin(self) -> SourceInfo:
        named = self._config.text("_name_or_path", default="").replace("\\", "/")
        used = [self._folder / name for name in ("config.json", _INDEX, *TOKENIZER_FILES)]
        return SourceInfo(
            id=PurePosixPath(named).name or self._folder.resolve().name,
            revision=None,
            licence=None,
            format="safetensors",
            files={p.name: sha256(p) for p in sorted([*used, *self._files]) if p.is_file()},
        )

    def close(self) -> None:
        """Reading afterwards raises `SourceError`."""
        self._tensors.clear()

    def _tensor(self, name: str) -> StoredTensor:
        stored = self._weights[name].stored.name if name in self._weights else name
        if stored not in self._tensors:
            raise SourceError(f"{self._folder} has no tensor {name}")
        return self._tensors[stored]


def _weight_files(folder: Path) -> list[Path]:
    index = folder / _INDEX
    if index.is_file():
        return _shards(folder, index)
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    if any(path.is_file() for pattern in _PICKLED for path in folder.glob(pattern)):
        raise SourceError(
            f"{folder} holds only pickled weights, which can run code when read; convert them "
            "to safetensors first"
        )
    raise SourceError(f"{folder} has neither {_SINGLE} nor {_INDEX}; give a checkpoint folder")


def _shards(folder: Path, index: Path) -> list[Path]:
    weight_map = read_json(index).section("weight_map")
    if weight_map is None or not weight_map.values:
        raise SourceError(f"{index} has no weight_map; fetch it again")
    names = {weight_map.text(tensor) for tensor in weight_map.values}
    for name in names:
        # Links are followed: a hub's cache is a folder of links into another.
        if "\0" in name or not name == PurePosixPath(name).name == PureWindowsPath(name).name:
            raise SourceError(
                f"{index} names {name[:80]!r}, which is not a file of this folder; fetch it again"
            )
        if not (folder / name).is_file():
            raise SourceError(f"{folder / name} is missing, {_INDEX} names it; fetch it")
    return [folder / name for name in sorted(names)]


def _tensors(files: list[Path]) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for path in files:
        for name, tensor in read_safetensors(path).items():
            if name in tensors:
                raise SourceError(f"{name[:80]!r} stands in two files of {path.parent}")
            tensors[name] = tensor
    return tensors


def _check(
    needed: dict[str, tuple[int, ...]], tensors: dict[str, StoredTensor], where: str
) -> None:
    # Rotary frequencies are computed; a tied head repeats the embedding.
    ignored = [name for name in tensors if name.endswith(".rotary_emb.inv_freq")] + [HEAD]
    require_shapes(needed, {n: t.shape for n, t in tensors.items()}, ignored, where)
    for name in needed:
        if tensors[name].type not in READABLE:
            raise SourceError(
                f"{name} in {where} has the type {tensors[name].type}, which cannot be read; "
                f"readable are {', '.join(READABLE)}"
            )
