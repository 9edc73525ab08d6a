"""What an architecture is to the sources: how it is described, and where its weights lie."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from ondevice.export.architecture import Architecture
from ondevice.export.architectures import layout
from ondevice.export.architectures.fields import Fields
from ondevice.export.architectures.layout import Stored


@dataclass(frozen=True)
class GGUFHeader:
    """What a family may read of a GGUF file.

    keys: all keys of the file.
    tensors: the names of its tensors.
    vocab_size: rows of the token embedding.
    rope_vectors: the values of tensors that hold rotary factors, by name.
    """

    keys: Fields
    tensors: Collection[str]
    vocab_size: int
    rope_vectors: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Family:
    """One architecture: how its checkpoints are described and stored.

    name: config.json's `model_type`.
    from_config: reads config.json.
    gguf: GGUF's `general.architecture`, and the reader of its keys; None where GGUF files of
    this family name another one.
    in_safetensors, in_gguf: where the weight of a name lies.
    """

    name: str
    from_config: Callable[[Fields], Architecture]
    gguf: tuple[str, Callable[[GGUFHeader], Architecture]] | None
    in_safetensors: Callable[[Architecture, str], Stored] = layout.in_safetensors
    in_gguf: Callable[[Architecture, str], Stored] = layout.in_gguf
