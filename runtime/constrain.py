"""Answers that follow a JSON schema: which tokens may come next, by llguidance.

Knows a tokenizer's tokens and a schema; nothing of engines, sampling or prompts.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import PackageError, RequestError
from ondevice.runtime.engine import Logits

LARGEST_SCHEMA = 1_000_000  # characters
_KEPT = 16  # compiled schemas by model
# Between two parts of the JSON: a line break and an indentation. Without a bound, a model that
# likes white space would never come to the point.
_WHITESPACE = r"[ \n\r\t]{1,32}"
_OVERRIDES = {
    "whitespace_pattern": _WHITESPACE,
    "whitespace_flexible": True,
    "item_separator": ",",
    "key_separator": ":",
    "lenient": False,  # a keyword that would be ignored is refused
    "coerce_one_of": False,
}


class Mask(Protocol):
    """What may come next in one answer."""

    def apply(self, logits: Logits) -> Logits:
        """A copy of logits (vocab,) with minus infinity for every forbidden token."""

    def accept(self, token: int) -> None:
        """Go on by a token that was allowed."""

    @property
    def finished(self) -> bool:
        """Whether the answer is complete and nothing more may follow."""


class Grammars:
    """Compiled schemas of one model, each made once; see `mask`.

    `tokenizer_json` is the text of its tokenizer.json, `vocab_size` the width of its logits.
    """

    def __init__(self, tokenizer_json: str, vocab_size: int, eos_ids: Sequence[int]) -> None:
        self._tokenizer_json = tokenizer_json
        self._vocab_size = vocab_size
        self._eos_ids = [id for id in eos_ids if 0 <= id < vocab_size]
        self._tokenizer: Any = None
        self._compiled: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def mask(self, schema: str) -> Mask:
        """A mask for a new answer that follows a schema (JSON text).

        Raises `RequestError` for a schema that is no JSON schema or uses what llguidance
        cannot enforce, `PackageError` for a tokenizer it cannot read.
        """
        with self._lock:
            matcher = self._compiled.get(schema)
            if matcher is None:
                matcher = self._compile(schema)
            self._compiled[schema] = matcher
            self._compiled.move_to_end(schema)
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
            return _SchemaMask(matcher.deep_copy(), self._tokenizer.vocab_size, self._vocab_size)

    def _compile(self, schema: str) -> Any:
        from llguidance import LLMatcher

        self._tokenizer = self._tokenizer or self._read_tokenizer()
        grammar = LLMatcher.grammar_from_json_schema(_for_llguidance(schema), overrides=_OVERRIDES)  # type: ignore[arg-type]
        failed, said = LLMatcher.validate_grammar_with_warnings(grammar, self._tokenizer)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if failed or matcher.is_error():
            raise _cannot_take(said[0] if failed else matcher.get_error())
        return matcher

    def _read_tokenizer(self) -> Any:
        from llguidance import LLTokenizer

        try:
            text, eos = self._tokenizer_json, self._eos_ids or None
            try:
                return LLTokenizer(text, n_vocab=self._vocab_size, eos_token=eos)
            except ValueError:  # it has tokens the model has not; they are masked off later
                return LLTokenizer(text, eos_token=eos)
        except BaseException as error:  # panics of the library are no Exceptions
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise PackageError(
                f"this package's tokenizer cannot be used with a schema ({_short(str(error))}); "
                "ask without one"
            ) from error


class _SchemaMask:
    """One answer's way through a compiled schema."""

    def __init__(self, matcher: Any, tokens: int, vocab_size: int) -> None:
        """`tokens` are what the tokenizer has, `vocab_size` what the model has."""
        self._matcher = matcher
        self._bits = np.zeros((tokens + 31) // 32, np.int32)
        self._vocab_size = vocab_size

    def apply(self, logits: Logits) -> Logits:
        allowed = self._allowed()
        masked = np.where(allowed, logits, np.float32(-np.inf))
        if np.isfinite(masked.max()):
            return masked
        # The engine calls everything allowed impossible; then all of it is equally so.
        return np.where(allowed, np.float32(0), np.float32(-np.inf))

    def accept(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            raise self._stuck()

    @property
    def finished(self) -> bool:
        return bool(self._matcher.is_stopped())

    def _allowed(self) -> NDArray[np.bool_]:
        """Which tokens may come next, (vocab,)."""
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little", count=self._vocab_size)
        allowed = bits.view(np.bool_)
        if self._matcher.is_error() or not allowed.any():
            raise self._stuck()
        return allowed

    def _stuck(self) -> RequestError:
        reason = _short(self._matcher.get_error())
        return RequestError(
            f"the schema leads to a place where no answer can go on ({reason or 'no token fits'}); "
            "make it simpler"
        )


def check_schema(schema: object) -> None:
    """Raise `RequestError` unless this is the text of a JSON value that can be a schema."""
    if not isinstance(schema, str):
        raise RequestError(f"schema must be the text of a JSON schema, not {type(schema).__name__}")
    if len(schema) > LARGEST_SCHEMA:
        raise RequestError(
            f"the schema has {len(schema):,} characters; at most {LARGEST_SCHEMA:,} are taken"
        )
    try:
        value = json.loads(schema, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise RequestError(
            f"the schema is not valid JSON: {error.msg} at line {error.lineno}, "
            f"column {error.colno}; mend it there"
        ) from error
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"the schema is not valid JSON: {_short(str(error))}; mend it"
        ) from error
    if not isinstance(value, dict | bool):
        raise RequestError("the schema is JSON, but no schema; give an object such as {...}")


def _for_llguidance(schema: str) -> str:
    """The schema's text as an object, after a look at whether it means anything.

    llguidance reports the first thing it cannot enforce; that a keyword is misspelt or has the
    wrong kind of value is better said by its specification.
    """
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    check_schema(schema)
    value = json.loads(schema)
    if value is False:
        raise RequestError("the schema is false, which no answer can follow; give an object")
    if value is True:
        return "{}"
    try:
        validator_for(value).check_schema(value)
    except SchemaError as error:
        where = "/".join(str(part) for part in error.absolute_path) or "top level"
        raise RequestError(f"this is no JSON schema: {where}: {_short(error.message)}") from error
    except RecursionError as error:
        raise RequestError("the schema is nested too deeply; make it simpler") from error
    return schema


def _cannot_take(said: str) -> RequestError:
    return RequestError(
        f"the schema cannot be enforced: {_short(said)}; leave that out, or ask without a schema "
        "and check the answer"
    )


def _short(text: str) -> str:
    """The first line that says something, without llguidance's state of the parser."""
    text = text.partition("<state>")[0]
    return " ".join(text.split())[:200]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
