"""What a right answer is: one small class a kind of check, and its form as JSON.

Knows nothing about models and prompts, and does not judge.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from ondevice.errors import RequestError
from ondevice.nearest import nearest

_LONGEST_PATTERN = 500


@dataclass(frozen=True)
class Exact:
    """The answer, or its first line, is one of `answers`; `case` makes capitals count."""

    kind: ClassVar[str] = "exact"
    answers: tuple[str, ...]
    case: bool = False


@dataclass(frozen=True)
class Contains:
    """Every phrase of `all`, one of `any` (when given) and none of `none` occur as whole words.

    Above 0, `words` is the most words an answer of the asked form has.
    """

    kind: ClassVar[str] = "contains"
    all: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    none: tuple[str, ...] = ()
    words: int = 0


@dataclass(frozen=True)
class Regex:
    """The pattern is found in the answer, or matches all of it when `full`; capitals count."""

    kind: ClassVar[str] = "regex"
    pattern: str
    full: bool = False


@dataclass(frozen=True)
class JsonSchema:
    """The first JSON object or array of the answer is valid under `schema`."""

    kind: ClassVar[str] = "json_schema"
    schema: dict[str, Any]


@dataclass(frozen=True)
class JsonEquals:
    """The first JSON object or array of the answer equals `expected`, field by field."""

    kind: ClassVar[str] = "json_equals"
    expected: dict[str, Any] | list[Any]


@dataclass(frozen=True)
class Numeric:
    """The last number of the answer is within `tolerance` of `value`.

    With `units`, a unit of measure right after the number has to be one of them.
    """

    kind: ClassVar[str] = "numeric"
    value: float
    tolerance: float = 0.0
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """The first of `labels` that the answer names is `answer`."""

    kind: ClassVar[str] = "choice"
    answer: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class F1:
    """The F1 of shared words with the best of `answers` is at least `threshold`."""

    kind: ClassVar[str] = "f1"
    answers: tuple[str, ...]
    threshold: float = 0.8


@dataclass(frozen=True)
class RougeL:
    """The F of the longest common run of words (gaps allowed) is at least `threshold`."""

    kind: ClassVar[str] = "rouge_l"
    answers: tuple[str, ...]
    threshold: float = 0.8


@dataclass(frozen=True)
class CsvEquals:
    """The answer is CSV with the same cells; case and white space around cells don't count."""

    kind: ClassVar[str] = "csv_equals"
    expected: str


@dataclass(frozen=True)
class Judged:
    """A language model says whether the answer does what `rubric` asks; see `evaluate.judge`.

    Until it has, an answer counts as wrong.
    """

    kind: ClassVar[str] = "judge"
    rubric: str


Check = (
    Exact
    | Contains
    | Regex
    | JsonSchema
    | JsonEquals
    | Numeric
    | Choice
    | F1
    | RougeL
    | CsvEquals
    | Judged
)
KINDS: dict[str, type[Any]] = {
    kind.kind: kind
    for kind in (
        Exact,
        Contains,
        Regex,
        JsonSchema,
        JsonEquals,
        Numeric,
        Choice,
        F1,
        RougeL,
        CsvEquals,
        Judged,
    )
}


def to_json(check: Check) -> dict[str, Any]:
    """The check as a JSON object: its kind, and the fields that differ from the defaults."""
    data: dict[str, Any] = {"kind": check.kind}
    for field in dataclasses.fields(check):
        value = getattr(check, field.name)
        if value != field.default:
            data[field.name] = list(value) if isinstance(value, tuple) else value
    return data


def from_json(data: Any) -> Check:
    """The check that `to_json` wrote. Raises `RequestError` naming what is wrong."""
    if not isinstance(data, dict):
        raise RequestError(f"a check is a JSON object with a kind, not {data!r:.60}")
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise RequestError(f"there is no kind of check {kind!r}; {nearest(str(kind), KINDS)}")
    fields = {field.name: field for field in dataclasses.fields(KINDS[kind])}
    given: dict[str, Any] = {}
    for name, value in data.items():
        if name == "kind":
            continue
        if name not in fields:
            raise RequestError(f"a check of kind {kind} has no {name!r}; {nearest(name, fields)}")
        given[name] = _typed(f"{kind}.{name}", value, str(fields[name].type))
    missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in given]
    if missing:
        raise RequestError(f"a check of kind {kind} needs {missing[0]!r}")
    check = cast(Check, KINDS[kind](**given))
    _validate(check)
    return check


def _typed(name: str, value: Any, declared: str) -> Any:
    """The value as the declared type of the field; raises `RequestError` for another type."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if declared == "float" and number and math.isfinite(value):
        return float(value)
    if declared == "bool" and isinstance(value, bool):
        return value
    if declared == "int" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if declared == "str" and isinstance(value, str):
        return value
    if declared.startswith("tuple") and isinstance(value, str):
        return (value,)
    if declared.startswith("tuple") and isinstance(value, list):
        if all(isinstance(one, str) for one in value):
            return tuple(value)
    elif "Any" in declared and isinstance(value, _json_types(declared)):
        return value
    words = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "text"}
    wanted = words.get(declared, "a list of texts" if declared.startswith("tuple") else "JSON")
    raise RequestError(f"{name} has to be {wanted}, not {value!r:.60}")


def _json_types(declared: str) -> tuple[type, ...]:
    return (dict, list) if "list[Any]" in declared else (dict,)


def _validate(check: Check) -> None:
    """Raise `RequestError` for a check that no answer could be judged by."""
    if isinstance(check, Exact | F1 | RougeL) and not check.answers:
        raise RequestError(f"a check of kind {check.kind} needs at least one answer")
    if isinstance(check, Contains) and not (check.all or check.any or check.none):
        raise RequestError("a check of kind contains needs phrases in all, any or none")
    if isinstance(check, Choice) and check.answer not in check.labels:
        raise RequestError(f"choice.answer {check.answer!r} is none of choice.labels")
    if isinstance(check, Judged) and not check.rubric.strip():
        raise RequestError("a check of kind judge needs a rubric: what a right answer has to do")
    if isinstance(check, Regex):
        _validate_pattern(check.pattern)
    if isinstance(check, JsonSchema):
        import jsonschema

        try:
            jsonschema.Draft202012Validator.check_schema(check.schema)
        except jsonschema.SchemaError as error:
            raise RequestError(f"json_schema.schema is no JSON schema: {error.message}") from error


def _validate_pattern(pattern: str) -> None:
    if len(pattern) > _LONGEST_PATTERN:
        raise RequestError(f"regex.pattern is longer than {_LONGEST_PATTERN} characters")
    try:
        re.compile(pattern)
    except re.error as error:
        raise RequestError(f"regex.pattern {pattern!r:.60} is no pattern: {error}") from error
    if _explosive(pattern):
        raise RequestError(
            f"regex.pattern {pattern!r:.60} repeats a group that repeats or branches, "
            "which can take forever; write it without"
        )


def _explosive(pattern: str) -> bool:
    """Whether a repeated group itself repeats or branches: that can take exponential time."""
    plain = re.sub(r"\\.", "x", pattern, flags=re.DOTALL)
    plain = re.sub(r"\[\^?\]?[^\]]*\]", "x", plain)
    inner = [False]  # of each open group: holds a repetition or a branch
    for place, sign in enumerate(plain):
        if sign == "(":
            inner.append(False)
        elif sign in "*+|{":
            inner[-1] = True
        elif sign == ")" and len(inner) > 1:
            within = inner.pop()
            if within and re.match(r"[*+]|\{\d*,\d*\}", plain[place + 1 :]):
                return True
            inner[-1] = inner[-1] or within
    return False
