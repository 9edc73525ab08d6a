"""Llama (Touvron et al., 2023; Grattafiori et al., 2024) and models of its shape, SmolLM2 too.

GGUF files of Mistral are of this architecture, with a window where the model has one.
"""

from __future__ import annotations

from ondevice.export.architecture import Architecture
from ondevice.export.architectures.config import decoder_from_config, with_biases, without_windows
from ondevice.export.architectures.family import Family, GGUFHeader
from ondevice.export.architectures.fields import Fields
from ondevice.export.architectures.gguf_keys import decoder_from_gguf, with_gguf_windows
from ondevice.export.architectures.layout import interleaved_in_gguf


def _from_config(config: Fields) -> Architecture:
    decoder = with_biases(decoder_from_config(config, "llama"), config, mlp=True)
    return without_windows(decoder, config)


def _from_gguf(header: GGUFHeader) -> Architecture:
    decoder = decoder_from_gguf(header, "llama", "llama")
    return with_gguf_windows(header, decoder, "llama", window=0, period=0)


FAMILY = Family("llama", _from_config, ("llama", _from_gguf), in_gguf=interleaved_in_gguf)
