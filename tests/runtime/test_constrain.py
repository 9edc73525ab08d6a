"""Answers that follow a JSON schema."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from checkpoints import BOS, EOS, tokenizer_json, tokens
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ondevice.errors import PackageError, RequestError
from ondevice.package import Package
from ondevice.runtime.answer import Options
from ondevice.runtime.constrain import Grammars, Mask
from ondevice.runtime.engine import Logits
from ondevice.runtime.model import Model, load
from ondevice.runtime.sampling import Sampler, certainty

VOCAB = 300  # wider than the tokenizer, as padded models are
END = tokens().index(EOS)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
# A random model says anything: with all filters off, every allowed token has its chance.
WILD = Options(max_tokens=200, temperature=4.0, top_k=0, top_p=1.0, min_p=0.0, seed=0)

NAMES = st.sampled_from(["a", "name", "x y", "é", 'q"t', "漢"])
LEAVES = st.one_of(
    st.builds(
        lambda low, high: {"type": "integer", "minimum": low, "maximum": high},
        st.integers(-99, 0),
        st.integers(1, 10**6),
    ),
    st.just({"type": "number", "exclusiveMinimum": -3.5, "maximum": 12.25}),
    st.builds(lambda most: {"type": "string", "maxLength": most}, st.integers(0, 8)),
    st.just({"type": "string", "pattern": "^[a-z]{2,5}-[0-9]{1,3}$"}),
    st.just({"type": "string", "format": "date"}),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}]),
    st.builds(lambda value: {"const": value}, st.sampled_from([1.5, 'ä"\\', None, [1, {"b": 2}]])),
    st.builds(
        lambda values: {"enum": values},
        st.lists(st.sampled_from(["a", "b\n", "é", 2.5, None, True]), min_size=1, unique=True),
    ),
)


def _object(properties: dict[str, Any], required: int, closed: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    schema["required"] = sorted(properties)[:required]
    return schema | {"additionalProperties": False if closed else {"type": "boolean"}}


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(
            _object,
            st.dictionaries(NAMES, inner, min_size=1, max_size=3),
            st.integers(0, 3),
            st.booleans(),
        ),
        st.builds(
            lambda items, least: {
                "type": "array",
                "items": items,
                "minItems": least,
                "maxItems": least + 2,
            },
            inner,
            st.integers(0, 2),
        ),
        st.builds(lambda choices: {"anyOf": choices}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def model(tiny_package: Package) -> Iterator[Model]:
    with load(tiny_package, threads=1) as opened:
        yield opened


@pytest.fixture
def grammars() -> Grammars:
    return Grammars(tokenizer_json(), VOCAB, (END,))


def valid(text: str, schema: Any) -> bool:
    return bool(Draft202012Validator(schema).is_valid(json.loads(text)))


def allowed(mask: Mask) -> set[int]:
    applied = mask.apply(np.zeros(VOCAB, np.float32))
    assert set(np.unique(applied)) <= {0.0, -np.inf}
    return {int(id) for id in np.flatnonzero(applied == 0)}


def ids(text: str) -> list[int]:
    from tokenizers import Tokenizer

    encoded: list[int] = Tokenizer.from_str(tokenizer_json()).encode(text).ids
    return encoded


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    SCHEMAS, st.integers(0, 10**6), st.sampled_from([0.0, 1.0, 5.0]), st.sampled_from([1.0, 1.5])
)
def test_every_finished_answer_of_a_random_model_fits_a_random_schema(
    model: Model, schema: dict[str, Any], seed: int, temperature: float, penalty: float
) -> None:
    options = replace(
        WILD, schema=json.dumps(schema), seed=seed, temperature=temperature,
        repetition_penalty=penalty,
    )  # fmt: skip
    answer = model.generate("hi", options)
    assert answer.finish_reason in ("stop", "length")
    if answer.finish_reason == "stop":
        assert valid(answer.text, schema), answer.text


def test_greedy_and_sampled_answers_fit_and_end_where_the_schema_does(model: Model) -> None:
    for temperature in (0.0, 0.7, 4.0):
        options = replace(WILD, temperature=temperature, schema=json.dumps(PERSON), max_tokens=240)
        answer = model.generate("who?", options)
        assert answer.finish_reason == "stop"
        assert valid(answer.text, PERSON)
        assert answer.text.endswith("}")
        assert END not in answer.tokens  # nothing can follow the brace, so nothing is waited for


def test_the_genai_engine_follows_a_schema_too(tiny_package: Package) -> None:
    with load(tiny_package, engine="genai", threads=1) as opened:
        for seed in range(5):
            answer = opened.generate("hi", replace(WILD, schema=json.dumps(PERSON), seed=seed))
            assert answer.finish_reason == "length" or valid(answer.text, PERSON)


def test_an_answer_that_is_cut_says_so(model: Model) -> None:
    answer = model.generate("hi", Options(max_tokens=4, schema=json.dumps(PERSON)))
    assert (answer.finish_reason, len(answer.tokens)) == ("length", 4)
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.text)


def test_a_stop_string_ends_the_answer_before_its_schema_does(model: Model) -> None:
    schema = json.dumps({"const": {"a": "end here please"}})
    answer = model.generate("hi", Options(max_tokens=200, schema=schema, stop=("here",)))
    assert answer.finish_reason == "stop"
    assert re.fullmatch(r'\{\s*"a"\s*:\s*"end ', answer.text)


def test_signals_are_those_of_the_raw_logits(model: Model) -> None:
    options = replace(WILD, schema=json.dumps(PERSON), temperature=2.0)
    prompt = model.prepare([_user("who?")], options).tokens
    answer = model.generate("who?", options)
    engine = model.engine
    engine.rewind(0)
    logits = engine.prefill(prompt)
    for token, *said in zip(
        answer.tokens,
        answer.signals.logprobs,
        answer.signals.entropies,
        answer.signals.margins,
        strict=True,
    ):
        assert certainty(logits, token, int(logits.argmax())) == pytest.approx(said, abs=1e-4)
        logits = engine.decode(token)
    # Forced tokens are certain after the mask, and were not before it: the test can tell.
    assert min(answer.signals.logprobs) < -2


def test_the_same_tokens_have_the_same_signals_with_and_without_a_schema(
    grammars: Grammars,
) -> None:
    schema = json.dumps({"const": {"a": 1}})
    chance = np.random.default_rng(5)
    constrained = Sampler(Options(), mask=grammars.mask(schema))
    for token in ids('{"a":1}'):
        logits = chance.normal(0, 2, VOCAB).astype(np.float32)
        logits[token] = 12.0  # the best token, and an allowed one: both choose it
        assert constrained.sample(logits) == Sampler(Options()).sample(logits)


def _user(text: str) -> Any:
    from ondevice.runtime.answer import Message

    return Message("user", text)


def test_only_tokens_that_can_go_on_are_allowed(grammars: Grammars) -> None:
    mask = grammars.mask(json.dumps({"enum": [12, 13]}))
    assert allowed(mask) == set(ids("1"))
    mask.accept(ids("1")[0])
    assert allowed(mask) == {*ids("2"), *ids("3")}
    assert not mask.finished
    mask.accept(ids("2")[0])
    assert mask.finished


def test_the_end_token_is_allowed_where_the_answer_may_end_and_control_tokens_never(
    grammars: Grammars,
) -> None:
    mask = grammars.mask('{"type": "integer"}')
    assert END not in allowed(mask)
    mask.accept(ids("7")[0])
    assert END in allowed(mask)
    assert not mask.finished  # more digits may follow
    assert tokens().index(BOS) not in allowed(mask)
    assert max(allowed(mask)) < len(tokens())
    mask.accept(END)
    assert mask.finished


def test_a_model_with_fewer_logits_than_the_tokenizer_has_tokens_gets_a_mask_that_fits() -> None:
    size = max(ids("0123456789-")) + 1
    mask = Grammars(tokenizer_json(), size, ()).mask('{"type": "integer", "minimum": 0}')
    applied = mask.apply(np.zeros(size, np.float32))
    assert {int(id) for id in np.flatnonzero(applied == 0)} == set(ids("0123456789"))


def test_masks_of_one_schema_do_not_share_their_place(grammars: Grammars) -> None:
    first, second = grammars.mask('{"const": "ab"}'), grammars.mask('{"const": "ab"}')
    first.accept(ids('"')[0])
    assert allowed(second) == set(ids('"'))
    assert allowed(first) != allowed(second)


def test_a_schema_is_compiled_once(grammars: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    compile_one = grammars._compile
    monkeypatch.setattr(
        grammars, "_compile", lambda schema: compiled.append(schema) or compile_one(schema)
    )
    for schema in ("true", '{"type": "null"}', "true", "true"):
        grammars.mask(schema)
    assert compiled == ["true", '{"type": "null"}']
    for at in range(20):  # the oldest are forgotten
        grammars.mask(json.dumps({"const": at}))
    grammars.mask("true")
    assert compiled.count("true") == 2


@pytest.mark.parametrize("extra", [{}, {"x-guidance": {"whitespace_pattern": r"[ \n]*"}}])
def test_white_space_ends_however_much_the_model_likes_it(
    grammars: Grammars, extra: dict[str, Any]
) -> None:
    schema = {"type": "object", "properties": {"a": {"const": [1, 2]}}, "required": ["a"]} | extra
    mask = grammars.mask(json.dumps(schema | {"additionalProperties": False}))
    logits = np.zeros(VOCAB, np.float32)
    logits[ids(" ")[0]] = 5
    logits[ids("\n")[0]] = 4
    text = b""
    for _ in range(400):
        if mask.finished:
            break
        token = int(mask.apply(logits).argmax())
        mask.accept(token)
        text += _bytes(token)
    assert mask.finished
    assert json.loads(text) == {"a": [1, 2]}
    runs = re.findall(rb"[ \n]+", text)
    assert max(map(len, runs)) == 32  # flexible, and bounded


def _bytes(token: int) -> bytes:
    from tokenizers import Tokenizer

    return str(Tokenizer.from_str(tokenizer_json()).decode([token])).encode()


def test_an_allowed_token_is_chosen_even_where_the_engine_calls_all_of_them_impossible(
    grammars: Grammars,
) -> None:
    logits: Logits = np.full(VOCAB, -np.inf, np.float32)
    logits[ids("x")[0]] = 1.0
    for temperature in (0.0, 1.0):
        options = Options(temperature=temperature, seed=1)
        sampler = Sampler(options, mask=grammars.mask('{"enum": [1, 2]}'))
        assert sampler.sample(logits).token in {*ids("1"), *ids("2")}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("{", "not valid JSON: Expecting property name"),
        ('{\n "type": }', "at line 2, column 10"),
        ('{"minimum": NaN}', "NaN is not a JSON number"),
        ("[" * 100_000, "not valid JSON"),
        ("3", "no schema; give an object"),
        (" " * 1_000_001, "1,000,001 characters"),
    ],
)
def test_a_schema_that_is_no_json_is_refused_with_the_options(schema: str, said: str) -> None:
    with pytest.raises(RequestError) as error:
        Options(schema=schema)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("schema", [3, {"type": "string"}, b"{}"])
def test_a_schema_that_is_no_text_is_refused(schema: Any) -> None:
    with pytest.raises(RequestError, match="must be the text of a JSON schema"):
        Options(schema=schema)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (False, "no answer can follow"),
        ({"type": "strng"}, "this is no JSON schema: type: 'strng'"),
        ({"type": "object", "properties": {"a": {"type": 3}}}, "properties/a/type"),
        ({"type": "array", "uniqueItems": True}, 'Unimplemented keys: ["uniqueItems"]'),
        ({"x-guidance": {"lenient": True}, "not": {"type": "null"}}, 'keys: ["not"]'),
        ({"$ref": "https://example.org/a.json"}, "is not present"),
        ({"$ref": "#/nowhere"}, "'/nowhere' does not exist"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "Unsatisfiable schema"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"type": "string", "format": "nonsense"}, "Unknown format"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "no answer can go on"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_one_line_and_the_model_stays_usable(
    model: Model, schema: Any, said: str
) -> None:
    with pytest.raises(RequestError) as error:
        model.generate("hi", Options(schema=json.dumps(schema)))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
    assert model.generate("hi", Options(max_tokens=2)).finish_reason == "length"


def test_true_and_an_empty_schema_take_any_json(model: Model) -> None:
    for schema in ("true", "{}"):
        answer = model.generate("hi", replace(WILD, schema=schema, seed=3))
        if answer.finish_reason == "stop":
            json.loads(answer.text)


def test_a_tokenizer_that_llguidance_cannot_read_is_told() -> None:
    with pytest.raises(PackageError, match="cannot be used with a schema"):
        Grammars("{}", VOCAB, (END,)).mask("true")


def test_our_own_mark_is_not_in_the_tokenizer_that_is_handed_on(model: Model) -> None:
    text = model.tokenizer.to_json()
    assert "\ufdd0" not in text and "ufdd0" not in text.lower()
    assert [t["content"] for t in json.loads(text)["added_tokens"]] == [BOS, EOS]


def test_llguidance_is_imported_for_a_schema_only() -> None:
    code = (
        "import sys, ondevice, ondevice.runtime.model, ondevice.runtime.sampling\n"
        "from ondevice.runtime.constrain import Grammars\n"
        "ondevice.Options(schema='{}')\n"
        "Grammars('{}', 5, ())\n"
        "print(*sorted({'llguidance', 'jsonschema'} & set(sys.modules)))"
    )
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""
