"""From the events of a stream to a text that is known to be whole, or to an error.

Believes nothing: every field may be missing or of a wrong type. Opens no connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ondevice.errors import CloudError
from ondevice.runtime.cloud.endpoint import Endpoint

# What endpoints call an answer that the model ended by itself, and one that met its limit.
STOPPED = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence"})
LIMITED = frozenset({"length", "max_tokens"})
MOST_TOKENS = 10_000_000  # no request of any model has more; such a count is a mistake


@dataclass(frozen=True)
class Usage:
    """Tokens of one call as the endpoint counts them; `cached_tokens` are part of the prompt."""

    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0


class Pieces:
    """Collects one answer.

    A repeated event cannot be told from a repeated word in general: events carry no number.
    What can be told, and is refused with `strict_stream`: two answers mixed (two ids), and more
    pieces of text than tokens were generated. Text after the end, or of a second choice, is
    always refused.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.finish_reason: str | None = None
        self.model = endpoint.model
        self.moved = False  # whether the last event was a sign of progress
        self._endpoint = endpoint
        self._id = ""
        self._count = 0
        self._length = 0
        self._usage: Any = None
        self._half = ""  # the first half of a character above U+FFFF

    @property
    def begun(self) -> bool:
        """Whether any text has come."""
        return self._length > 0

    def add(self, event: object) -> str:
        """The text of one event, often empty. Raises `CloudError` for what cannot be right."""
        self.moved = False
        choices = getattr(event, "choices", None)
        if not isinstance(choices, list):
            raise self._malformed("an event without choices")
        self._identify(event)
        usage = getattr(event, "usage", None)
        self._usage = usage if usage is not None else self._usage
        return "".join([self._choice(choice) for choice in choices])

    def _identify(self, event: object) -> None:
        identity, model = getattr(event, "id", None), getattr(event, "model", None)
        if isinstance(model, str) and 0 < len(model) <= 200 and model.isprintable():
            self.model = model
        if not isinstance(identity, str) or not identity:
            return
        if self._id and identity != self._id and self._endpoint.strict_stream:
            raise self._malformed("events of two answers")
        self._id = identity

    def _choice(self, choice: object) -> str:
        if getattr(choice, "index", 0) not in (0, None):
            raise self._malformed("a second choice, which was not asked for")
        delta = getattr(choice, "delta", None)
        text = getattr(delta, "content", None)
        if text is not None and not isinstance(text, str):
            raise self._malformed("a text that is none")
        if getattr(delta, "tool_calls", None) or getattr(delta, "refusal", None):
            raise CloudError(f"{self._endpoint.name} declined to answer in text", "filtered")
        thought = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
        self.moved = self.moved or bool(text or thought)
        if text and self.finish_reason is not None:
            raise self._malformed("text after the end of the answer")
        self._finish(getattr(choice, "finish_reason", None))
        return self._joined(text) if text else ""

    def _finish(self, reason: object) -> None:
        if reason is None or reason == "":
            return
        if reason == "content_filter":
            raise CloudError(f"a filter of {self._endpoint.name} ended the answer", "filtered")
        if not isinstance(reason, str) or reason.lower() not in STOPPED | LIMITED:
            raise CloudError(
                f"{self._endpoint.name} ended the answer early, for the reason {reason!r:.40}",
                "truncated",
            )
        self.finish_reason = "length" if reason.lower() in LIMITED else "stop"

    def _joined(self, text: str) -> str:
        """The text in whole characters: halves that came in two events are put together."""
        text = self._half + text
        self._half = ""
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        try:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError as error:
            raise self._malformed("half a character") from error
        self._count += 1
        self._length += len(text)
        return text

    def end(self, *, done: bool) -> None:
        """Check that the answer is whole; `done`: the stream's end mark came.

        Raises `CloudError`: "truncated", "malformed", or "empty" for an answer of no text.
        """
        if self.finish_reason is None:
            if self._endpoint.finish_reason_required or not done:
                raise CloudError(
                    f"{self._endpoint.name} ended its answer without saying that it is complete",
                    "truncated",
                )
            self.finish_reason = "stop"
        if self._half:
            raise self._malformed("half a character")
        usage = self.usage
        if self._endpoint.strict_stream and usage and self._count > usage.output_tokens:
            raise self._malformed(
                f"{self._count} pieces of text but only {usage.output_tokens} tokens, so that "
                "some may have come twice"
            )
        if not self.begun:
            raise CloudError(f"{self._endpoint.name} answered without a text", "empty")

    @property
    def usage(self) -> Usage | None:
        """The reported usage; None when it is missing or cannot be right."""
        prompt = _count(getattr(self._usage, "prompt_tokens", None))
        output = _count(getattr(self._usage, "completion_tokens", None))
        if not prompt or output is None or (output == 0 and self.begun):
            return None
        details = getattr(self._usage, "prompt_tokens_details", None)
        cached = _count(getattr(details, "cached_tokens", None)) or 0
        return Usage(prompt, output, min(cached, prompt))

    def _malformed(self, what: str) -> CloudError:
        return CloudError(f"{self._endpoint.name} sent {what}", "malformed")


def _count(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS:
        return value
    return None
