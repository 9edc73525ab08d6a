"""The JSON files of a checkpoint folder, read as checked fields."""

from __future__ import annotations

import json
from pathlib import Path

from ondevice.errors import SourceError
from ondevice.export.architectures.fields import Fields


def read_text(path: Path) -> str:
    """A UTF-8 file; raises `SourceError` when it is missing or not text."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SourceError(f"{path} is missing; the checkpoint is incomplete") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 text; fetch it again") from error


def read_json(path: Path) -> Fields:
    """A file that holds one JSON object; raises `SourceError` for anything else."""
    try:
        values = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not JSON ({str(error)[:80]}); fetch it again") from error
    if not isinstance(values, dict):
        raise SourceError(f"{path} is not a JSON object; fetch it again")
    return Fields(values, str(path))


def read_optional_json(path: Path) -> Fields:
    """Like `read_json`, with no fields where there is no file."""
    return read_json(path) if path.exists() else Fields({}, str(path))
