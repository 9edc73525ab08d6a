"""Errors that the person at the keyboard can mend.

Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations


class OndeviceError(Exception):
    """Base of all errors shown as one line, with exit code 2.

    The message says what was wrong, with which file or value, and what to do next.
    """


class SourceError(OndeviceError):
    """A checkpoint, GGUF file or tokenizer that cannot be read or does not fit together."""


class ExportError(OndeviceError):
    """A request to the exporter that cannot be carried out."""


class ProofError(OndeviceError):
    """A package whose figures against its reference are below the gate."""


class PackageError(OndeviceError):
    """A model package with a wrong, missing or forbidden part."""


class LockError(OndeviceError):
    """A `models.lock` that cannot be read or does not hold."""


class FetchError(OndeviceError):
    """A file that could not be fetched, or is not what the lock says."""


class WrongContent(FetchError):  # noqa: N818 - it says what is so
    """A file that could be fetched, but does not hold what the lock says."""


class RequestError(OndeviceError):
    """A prompt or an option the runtime cannot work with."""


class TooLongError(RequestError):
    """A prompt that the context does not hold."""


class EngineError(OndeviceError):
    """An engine that is missing or cannot load this package."""


class CalibrationError(OndeviceError):
    """A calibration that cannot be made, or a stored one that cannot be read."""


class PolicyError(OndeviceError):
    """A policy file with a wrong or unknown entry."""


class CloudError(OndeviceError):
    """A cloud call that gave no answer to rely on.

    `kind` names the failure in a word, such as "timeout" or "budget"; `partial` is the text that
    had come before it and is never shown as an answer.
    """

    def __init__(self, message: str, kind: str, partial: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.partial = partial
