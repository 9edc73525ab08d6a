"""What went wrong with a call, in our own words: a kind, and whether to retry, pay, or stay away.

The one place that reads the exceptions of the SDK. Opens no connection.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ondevice.errors import CloudError
from ondevice.runtime.cloud.endpoint import Endpoint
from ondevice.runtime.cloud.exchange import Exchange

# The endpoint, or the way to it, does not work: counted by the breaker, learned as "down".
BROKEN = frozenset(
    {"dns", "refused", "tls", "timeout", "reset", "portal", "redirect", "server", "rate"}
    | {"truncated", "malformed", "too-large"}
)
# The endpoint answered, so that it is there, but not with a text.
PRESENT = frozenset({"auth", "quota", "rejected", "not-found", "filtered", "empty"})
# Another attempt may go better, as long as no answer has begun.
_PASSING = frozenset({"dns", "refused", "timeout", "reset", "server", "rate"})
_NO_MONEY = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
# A gateway says that it gave up waiting, not that nothing was generated behind it.
_MAYBE_BILLED = frozenset({408, 502, 504})
MOST_QUOTED = 160


@dataclass(frozen=True)
class Failure:
    """`retry`: another attempt makes sense. `rest_s`: how long the endpoint asked to wait, s."""

    error: CloudError
    retry: bool = False
    rest_s: float = 0.0


def judge(error: Exception, exchange: Exchange, endpoint: Endpoint) -> Failure:
    """What an exception of one attempt means. `exchange` says how far the attempt had come."""
    status = exchange.status
    own = _own(error)
    if own is not None and own.kind == "cancelled":
        return Failure(own)
    rest = _retry_after(exchange.retry_after)
    if status is not None and status >= 400:
        found = _of_status(status, error, endpoint)
        return Failure(found, found.kind in _PASSING, rest)
    found = own or _of_stream(error, endpoint)
    return Failure(found, status is None and found.kind in _PASSING)


def billable(exchange: Exchange, kind: str) -> bool:
    """Whether the endpoint can have counted tokens for an attempt that gave no usage.

    Not when nothing was sent, when it refused with an error status, or when something that is
    no model took the request. A silent or broken connection can have been counted in full.
    """
    if not exchange.wire.sent or kind in ("portal", "redirect"):
        return False
    status = exchange.status
    return status is None or status < 300 or status in _MAYBE_BILLED


def _own(error: BaseException | None) -> CloudError | None:
    """Our own error, which the SDK may have wrapped."""
    while error is not None and not isinstance(error, CloudError):
        error = error.__cause__
    return error


def _of_status(status: int, error: Exception, endpoint: Endpoint) -> CloudError:
    name = endpoint.name
    said = _said(error)
    if status in (401, 403):
        key = f"check the key {endpoint.key}" if endpoint.key else "it wants a key; declare one"
        return CloudError(f"{name} refused the key ({status}); {key}", "auth")
    if status == 402 or (status == 429 and _code(error) in _NO_MONEY):
        return CloudError(f"the account at {name} has no credit left ({status})", "quota")
    if status == 429:
        return CloudError(f"{name} takes no more requests for now (429)", "rate")
    if status == 404:
        return CloudError(
            f"{name} knows no model {endpoint.model} at this address (404); check base_url and "
            f"model{said}",
            "not-found",
        )
    if status == 408:
        return CloudError(f"{name} waited too long for the request (408)", "timeout")
    if status >= 500:
        return CloudError(f"{name} failed by itself ({status})", "server")
    return CloudError(f"{name} rejected the request ({status}){said}", "rejected")


def _of_stream(error: Exception, endpoint: Endpoint) -> CloudError:
    """An error without a status: an event that says so, or data that is none."""
    import openai

    name = endpoint.name
    if isinstance(error, openai.APIConnectionError):
        return CloudError(f"the connection to {name} broke off", "reset")
    if isinstance(error, openai.APIError):
        if _code(error) in _NO_MONEY:
            return CloudError(f"the account at {name} has no credit left", "quota")
        return CloudError(f"{name} reported an error within its answer{_said(error)}", "server")
    if isinstance(error, openai.OpenAIError):
        return CloudError(f"{name} cannot be asked: {error}", "configuration")
    return CloudError(f"{name} sent something that is no event of an answer", "malformed")


def _code(error: Exception) -> str:
    code = getattr(error, "code", None) or getattr(error, "type", None)
    return code if isinstance(code, str) else ""


def _said(error: Exception) -> str:
    """The beginning of what the endpoint said, in one line; "" when it said nothing readable."""
    body = getattr(error, "body", None)
    message = body.get("message") if isinstance(body, dict) else None
    if not isinstance(message, str):
        return ""
    line = "".join(c if c.isprintable() else " " for c in message[: 4 * MOST_QUOTED])
    line = " ".join(line.split())
    return f': "{line[:MOST_QUOTED]}"' if line else ""


def _retry_after(value: str | None) -> float:
    """Seconds to wait; 0 when nothing is said, infinite for what is not a number.

    A date is not believed: the clocks of both sides would have to agree.
    """
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        return math.inf
    return max(seconds, 0.0) if math.isfinite(seconds) else math.inf
