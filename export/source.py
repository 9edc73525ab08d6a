"""What the exporter reads from: a checkpoint, whatever its file format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import SourceError
from ondevice.export.architecture import Architecture
from ondevice.export.grid import Grid
from ondevice.package import SourceInfo


@dataclass(frozen=True)
class TokenizerFiles:
    """The text side of a checkpoint.

    `tokenizer_json` is the file of the `tokenizers` library. `eos_ids` end an answer.
    A BOS token that the model wants is added by the post-processor in `tokenizer_json`;
    `bos_id` names it, also for templates that spell it, and nobody prepends it a second time.
    """

    tokenizer_json: str
    chat_template: str | None
    eos_ids: tuple[int, ...]
    bos_id: int | None = None
    pad_id: int | None = None

    def encode(self, text: str) -> list[int]:
        """Token ids of a plain text, without special tokens around it."""
        from tokenizers import Tokenizer

        ids: list[int] = (
            Tokenizer.from_str(self.tokenizer_json).encode(text, add_special_tokens=False).ids
        )
        return ids


class Source(Protocol):
    """A checkpoint opened for reading, tensor by tensor."""

    @property
    def architecture(self) -> Architecture: ...

    @property
    def tokenizer(self) -> TokenizerFiles: ...

    def stored_type(self, name: str) -> str:
        """The type a tensor has in the file, in GGUF's or safetensors' words: `Q4_K`, `BF16`."""

    def read(self, name: str, rows: slice | None = None) -> NDArray[np.float32]:
        """One tensor, dequantized, (out, in) or (out,), or the rows of a slice without a step.

        Nothing else is read, converted or held; threads may read at once. Raises `SourceError`
        when the tensor is missing, misshapen or holds NaN or infinity.
        """

    def stored_grid(self, name: str, rows: slice | None = None) -> Grid | None:
        """The integers and scales of the file when a 4- or 8-bit grid holds them exactly.

        With `rows`, of those rows only.
        """

    def origin(self) -> SourceInfo:
        """Where it came from, no path of this machine in it.

        Hashes the files: takes seconds for large ones.
        """

    def close(self) -> None: ...


def open_source(path: Path) -> Source:
    """Open a GGUF file or a folder with a safetensors checkpoint.

    Raises `SourceError` for anything else, pickled checkpoints included.
    """
    from ondevice.export.gguf_source import GGUFSource
    from ondevice.export.safetensors_source import SafetensorsSource

    if not path.exists():
        raise SourceError(f"{path} does not exist; give a .gguf file or a checkpoint folder")
    if path.is_dir():
        return SafetensorsSource(path)
    if path.suffix.lower() == ".gguf":
        return GGUFSource(path)
    raise SourceError(
        f"{path} is neither a .gguf file nor a folder with config.json and safetensors files"
    )
