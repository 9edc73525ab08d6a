"""Small language models on your own machine: exported, proved, measured, answering offline."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# onnxruntime and onnxruntime-genai report usage unless this is set before they are imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from ondevice.errors import OndeviceError

if TYPE_CHECKING:
    from ondevice.runtime.answer import Answer, Message, Options, Piece
    from ondevice.runtime.fallback.build import load_fallback
    from ondevice.runtime.fallback.fallback import Fallback
    from ondevice.runtime.fallback.policy import Policy
    from ondevice.runtime.fallback.reply import Proposal, Reply
    from ondevice.runtime.model import Model, load

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "Fallback",
    "Message",
    "Model",
    "OndeviceError",
    "Options",
    "Piece",
    "Policy",
    "Proposal",
    "Reply",
    "load",
    "load_fallback",
]

_HOMES = {
    "Answer": "ondevice.runtime.answer",
    "Message": "ondevice.runtime.answer",
    "Options": "ondevice.runtime.answer",
    "Piece": "ondevice.runtime.answer",
    "Fallback": "ondevice.runtime.fallback.fallback",
    "Policy": "ondevice.runtime.fallback.policy",
    "Proposal": "ondevice.runtime.fallback.reply",
    "Reply": "ondevice.runtime.fallback.reply",
    "Model": "ondevice.runtime.model",
    "load": "ondevice.runtime.model",
    "load_fallback": "ondevice.runtime.fallback.build",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ondevice' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
