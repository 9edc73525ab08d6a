"""The parameters: what is taken is what the schema says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ondevice import json_file
from ondevice.errors import RequestError
from ondevice.runtime.answer import Message, Options
from ondevice.stdio import protocol

SCHEMA = json_file.schema("stdio")
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 0, 1, -1, 0.5, 1e308, 2**60, 10**400, "", "x", "cloud",
     [], ["x"], [1], [None], [""], [{}], {}, {"a": 1}]
)  # fmt: skip
OPTIONS = ("max_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed",
           "stop", "truncate", "schema", "n")  # fmt: skip
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "system", "assistant", "tool", "", 1, None]),
        "content": st.sampled_from(["Hi", "", None, 1, []]),
    },
    optional={"name": st.just("x")},
)
CHAT = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(MESSAGE, max_size=2) | ODD,
        "options": st.dictionaries(st.sampled_from(OPTIONS), ODD, max_size=2) | ODD,
        "model": ODD,
        "schema": ODD,
        "task": ODD,
        "data_class": ODD,
        "wish": ODD,
        "stream": ODD,
    },
)
ONE_OF = st.sampled_from(["options", "model", "schema", "task", "data_class", "wish"])
VALID = {"messages": [{"role": "user", "content": "Hi"}]}


def fits(part: str, value: object) -> bool:
    whole = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    from jsonschema.validators import extend

    strict = extend(Draft202012Validator, type_checker=whole)  # type: ignore[no-untyped-call]
    schema = {"$ref": f"#/$defs/{part}", "$defs": SCHEMA["$defs"]}
    return bool(strict(schema).is_valid(value))


def taken(params: Any) -> bool:
    try:
        protocol.ask_of(params)
    except RequestError as error:
        assert str(error) and "\n" not in str(error)
        return False
    return True


@settings(deadline=None)
@given(CHAT)
def test_what_chat_takes_is_what_the_schema_says(params: dict[str, Any]) -> None:
    assert taken(params) == fits("chatParams", params)


@settings(deadline=None)
@given(ONE_OF, ODD)
def test_each_field_takes_what_the_schema_says(name: str, value: Any) -> None:
    params = VALID | {name: value}
    assert taken(params) == fits("chatParams", params)


@settings(deadline=None)
@given(st.sampled_from(OPTIONS), ODD)
def test_each_option_takes_what_the_schema_says(name: str, value: Any) -> None:
    params = VALID | {"options": {name: value}}
    assert taken(params) == fits("chatParams", params)


def test_all_of_a_question_reaches_the_host() -> None:
    ask = protocol.ask_of(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
            ],
            "model": "m",
            "options": {"max_tokens": 5, "stop": ["x"], "truncate": True, "seed": 3},
            "schema": {"type": "object"},
            "task": "t",
            "data_class": "personal",
            "wish": "device",
        }
    )
    assert ask.messages == (Message("system", "Be brief."), Message("user", "Hi"))
    assert ask.options == Options(max_tokens=5, stop=("x",), truncate=True, seed=3)
    assert (ask.model, ask.task, ask.data_class, ask.wish) == ("m", "t", "personal", "device")
    assert ask.schema == {"type": "object"}


def test_the_schema_names_every_option() -> None:
    assert set(protocol._OPTIONS) == set(SCHEMA["$defs"]["options"]["properties"])


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (VALID | {"mdoel": "x"}, "did you mean 'model'"),
        (VALID | {"options": {"maxtokens": 1}}, "did you mean 'max_tokens'"),
        (
            {"messages": [{"role": "user", "content": ["x"]}]},
            "message 0 needs a role",
        ),
        (VALID | {"options": {"temperature": 10**400}}, "temperature"),
        (VALID | {"wish": "cluod"}, "none, cloud or device"),
    ],
)
def test_a_wrong_field_is_named(params: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        protocol.ask_of(params)
