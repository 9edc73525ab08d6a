"""A checkpoint folder seen from outside: enough to hand it to another exporter.

Needs no `Architecture`: counts tensors from the safetensors headers, reads the text side, and
refuses what a tool might turn into code or into other weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath

from ondevice import files
from ondevice.errors import SourceError
from ondevice.export.architectures.fields import Fields
from ondevice.export.hf_tokenizer import TOKENIZER_FILES, tokenizer_from_folder
from ondevice.export.json_files import read_json
from ondevice.export.safetensors_file import read_safetensors
from ondevice.export.source import TokenizerFiles
from ondevice.package import SourceInfo

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_HEAD = "lm_head.weight"
_ORIGINAL = "original_max_position_embeddings"
PROOF_WINDOW = 512  # tokens that share a context in a proof
_NOT_WEIGHTS = ("rotary_emb.inv_freq", ".position_ids")


@dataclass(frozen=True)
class Checkpoint:
    """config.json and the shapes of the tensors of a folder."""

    folder: Path
    config: Fields
    weight_files: tuple[Path, ...]
    shapes: dict[str, tuple[int, ...]]

    @property
    def model_type(self) -> str:
        return self.config.text("model_type")

    @property
    def model_class(self) -> str:
        """The class that transformers gives it, such as `GraniteForCausalLM`."""
        listed = self.config.values.get("architectures")
        if not isinstance(listed, list) or not listed or not isinstance(listed[0], str):
            raise self.config.wrong("architectures", "a list with the name of the model's class")
        return listed[0]

    @property
    def parameters(self) -> int:
        """Weights in all; an output matrix tied to the embedding counts once."""
        return sum(
            prod(shape)
            for name, shape in self.shapes.items()
            if not name.endswith(_NOT_WEIGHTS) and not (self.tied and name == _HEAD)
        )

    @property
    def tied(self) -> bool:
        """Whether the output matrix is the embedding: config.json says so, or there is no other."""
        return self.config.values.get("tie_word_embeddings") is True or _HEAD not in self.shapes

    def context_length(self, longest: int) -> int:
        """Positions of at most `longest` for which a proof on short texts speaks.

        Beyond a sliding window or the original context of longrope a model computes something
        else, other exporters have done that wrong, and the proof's windows do not reach there.
        """
        limits: list[object] = []
        window = self.config.values.get("sliding_window")
        if isinstance(window, int) and self.config.values.get("use_sliding_window") is not False:
            limits.append(window)
        for part in ("rope_scaling", "rope_parameters"):
            rope = self.config.values.get(part)
            if isinstance(rope, dict) and rope.get("rope_type", rope.get("type")) == "longrope":
                limits += [self.config.values.get(_ORIGINAL), rope.get(_ORIGINAL)]
        reached = [limit for limit in limits if isinstance(limit, int) and limit > PROOF_WINDOW]
        return min([longest, *reached])

    def tokenizer(self, vocab_size: int) -> TokenizerFiles:
        """The text side; raises `SourceError` when it does not fit together."""
        return tokenizer_from_folder(self.folder, self.config, vocab_size)

    def origin(self) -> SourceInfo:
        """Where it came from, no path of this machine in it. Hashes the files."""
        named = self.config.text("_name_or_path", default="").replace("\\", "/")
        used = [self.folder / name for name in ("config.json", _INDEX, *TOKENIZER_FILES)]
        present = sorted(path for path in (*used, *self.weight_files) if path.is_file())
        return SourceInfo(
            id=PurePosixPath(named).name or self.folder.resolve().name,
            revision=None,
            licence=None,
            format="safetensors",
            files={path.name: files.sha256(path) for path in present},
        )


def open_checkpoint(folder: Path) -> Checkpoint:
    """Look at a checkpoint folder.

    Raises `SourceError` for anything but a folder with config.json and sound safetensors files,
    and for an adapter, which a tool would silently apply to other weights.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is no folder; --via needs the folder of a safetensors model")
    adapter = folder / "adapter_config.json"
    if adapter.exists():
        raise SourceError(
            f"{folder} holds an adapter; export the base model with --adapter, without --via"
        )
    config = read_json(folder / "config.json")
    weight_files = _weight_files(folder)
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files:
        shapes |= {name: tensor.shape for name, tensor in read_safetensors(path).items()}
    return Checkpoint(folder, config, weight_files, shapes)


def _weight_files(folder: Path) -> tuple[Path, ...]:
    index = folder / _INDEX
    if index.is_file():
        listed = read_json(index).section("weight_map")
        names = {listed.text(tensor) for tensor in listed.values} if listed is not None else set()
    else:
        names = {_SINGLE}
    paths = tuple(sorted(files.inside(folder, name, SourceError) for name in names))
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        raise SourceError(
            f"{missing[0] if missing else index} is missing; --via reads safetensors, so convert "
            "other weights first"
        )
    return paths
