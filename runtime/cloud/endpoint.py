"""Where a cloud model is, and how long it may take: data only, checked when it is made.

Knows no key and opens no connection.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from ondevice.errors import CloudError

MOST_RETRIES = 3


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong(message: str) -> CloudError:
    return CloudError(message, "configuration")


@dataclass(frozen=True)
class Deadlines:
    """How long to wait, in seconds on a monotonic clock.

    `connect_s` bounds one connection: name resolution, TCP and TLS together. `first_token_s`
    counts from the call to the first text, retries and their pauses included, so it bounds what
    an endpoint that is down can cost. `between_tokens_s` counts from one text to the next, and
    `total_s` from the call to the end. `retries` are made only before the first byte of an
    answer. Raises `CloudError` for values that make no sense.
    """

    connect_s: float = 3.0
    first_token_s: float = 8.0
    between_tokens_s: float = 5.0
    total_s: float = 60.0
    retries: int = 1

    def __post_init__(self) -> None:
        for name in ("connect_s", "first_token_s", "between_tokens_s", "total_s"):
            value = getattr(self, name)
            if not _is_number(value) or not math.isfinite(value) or value <= 0:
                raise _wrong(f"{name} must be a number of seconds above 0, not {value!r}")
        whole = isinstance(self.retries, int) and not isinstance(self.retries, bool)
        if not whole or not 0 <= self.retries <= MOST_RETRIES:
            raise _wrong(f"retries must be a whole number from 0 to {MOST_RETRIES}")


@dataclass(frozen=True)
class Endpoint:
    """One model behind an OpenAI-compatible address.

    `key` is the name of the API key in the keychain or the environment, never the key itself;
    empty for an endpoint without one. The rest says where an endpoint differs from the rules:

    - `finish_reason_required`: a stream that ends without a finish reason is cut off. Turned off,
      the end mark `[DONE]` is enough.
    - `json_schema`: takes a JSON schema as `response_format`.
    - `strict_stream`: every piece of text holds at least one token and all pieces carry one
      id; more pieces than tokens, or two ids, then mean a repeated or mixed answer.
    - `usage_option`: takes `stream_options`, which asks for usage at the end of a stream.
    - `limit_field`: what it calls the most tokens of an answer.
    - `takes_temperature`: reasoning models may take none.
    - `trust_env`: use the proxy and the certificates that the environment names.
    - `ca_file`: a file of further certificates to trust.
    - `plain_http`: send prompts and key unencrypted to another machine.

    Raises `CloudError` of kind "configuration" for an address that cannot be used.
    """

    name: str
    base_url: str
    model: str
    key: str = ""
    deadlines: Deadlines = Deadlines()
    finish_reason_required: bool = True
    json_schema: bool = True
    strict_stream: bool = True
    usage_option: bool = True
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    takes_temperature: bool = True
    trust_env: bool = False
    ca_file: str = ""
    plain_http: bool = False

    def __post_init__(self) -> None:
        for field in ("name", "model"):
            if not getattr(self, field).strip():
                raise _wrong(f"an endpoint needs a {field}")
        try:
            url = urlsplit(self.base_url)
            host, port = url.hostname or "", url.port
        except ValueError as error:
            raise _wrong(f"{self.base_url!r} is no address: {error}") from error
        if url.scheme not in ("http", "https") or not host or port == 0:
            raise _wrong(
                f"base_url of {self.name} must be like https://HOST/v1, not {self.base_url!r}"
            )
        if url.username is not None or url.password is not None:
            raise _wrong(
                f"base_url of {self.name} holds a user or password; store the key in the keychain"
            )
        if url.query or url.fragment:
            raise _wrong(f"base_url of {self.name} must end with its path, without ? or #")
        if url.scheme == "http" and not self.is_loopback and not self.plain_http:
            raise _wrong(
                f"{self.name} would send prompts unencrypted; use https, or set plain_http = true"
            )

    @property
    def host(self) -> str:
        """The name or address of the machine."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def port(self) -> int:
        """The TCP port."""
        return urlsplit(self.base_url).port or (443 if self.encrypted else 80)

    @property
    def encrypted(self) -> bool:
        """Whether the connection is TLS."""
        return urlsplit(self.base_url).scheme == "https"

    @property
    def is_loopback(self) -> bool:
        """Whether the endpoint is on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False
