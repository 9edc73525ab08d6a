"""Errors in OpenAI's shape, with the status that clients act on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ondevice.errors import (
    EngineError,
    OndeviceError,
    PackageError,
    RequestError,
    TooLongError,
)
from ondevice.host import BusyError, GoneError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import JSONResponse


class FieldError(RequestError):
    """A field of a request that cannot be; `param` names it."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class EndingError(OndeviceError):
    """The server ends, and with it the answer."""

    def __init__(self) -> None:
        super().__init__("the server is ending; ask again when it runs")


class UnknownModel(RequestError):  # noqa: N818 - it says what is so
    """A model that is not here."""


def error_response(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """`{"error": {...}}` with a status."""
    from starlette.responses import JSONResponse

    return JSONResponse(
        error_body(message, kind=kind, param=param, code=code),
        status,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def error_body(
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
) -> dict[str, object]:
    """The body of an error."""
    # Half a surrogate pair in a value that is quoted cannot be UTF-8.
    text = message.encode("utf-8", "replace").decode()
    return {"error": {"message": text, "type": kind, "param": param, "code": code}}


def failed(error: OndeviceError) -> JSONResponse:
    """The response for an error that a person can mend."""
    if isinstance(error, BusyError):
        wait = {"Retry-After": str(math.ceil(error.retry_after_s))}
        return error_response(429, str(error), kind="busy", code="queue_full", headers=wait)
    if isinstance(error, UnknownModel):
        return error_response(404, str(error), param="model", code="model_not_found")
    if isinstance(error, GoneError):  # nobody reads it
        return error_response(499, str(error), kind="cancelled")
    if isinstance(error, EndingError):
        return error_response(503, str(error), kind="server_error", code="server_ending")
    if isinstance(error, TooLongError):
        return error_response(400, str(error), code="context_length_exceeded")
    if isinstance(error, PackageError | EngineError):
        return error_response(503, str(error), kind="model_unavailable", param="model")
    param = error.param if isinstance(error, FieldError) else None
    code = error.code if isinstance(error, FieldError) else None
    return error_response(400, str(error), param=param, code=code)
