"""Tools as the model is told of them, the schema of its answer, and the answer read."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tiny_tokenizers as tiny
from jsonschema import Draft202012Validator

from ondevice.runtime.answer import Message
from ondevice.runtime.constrain import Grammars
from ondevice.serve.errors import FieldError
from ondevice.serve.schema_refs import moved
from ondevice.serve.tool_messages import without_calls
from ondevice.serve.tools import ToolUse

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "description": "The weather of a city.", "parameters": CITY}
TREE = {
    "name": "tree",
    "parameters": {
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/Node"}},
        "required": ["root"],
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "inner": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                },
                "required": ["name"],
                "additionalProperties": False,
            }
        },
    },
}
CALL = {"tool": "weather", "arguments": {"city": "Rome"}}


def body(*tools: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": tool} for tool in tools], **more}


def follows(use: ToolUse, value: object) -> bool:
    """Whether both a validator and the grammar that the model is held to take a value."""
    assert use.schema is not None
    valid = bool(Draft202012Validator(use.schema).is_valid(value))
    tokenizer = tiny.byte_level()
    grammars = Grammars(tokenizer.to_json(), 700, (2,))
    mask = grammars.mask(json.dumps(use.schema))
    try:
        for token in tokenizer.encode(json.dumps(value)):
            mask.accept(token)
    except Exception:
        assert not valid
        return False
    assert valid
    return True


def test_without_tools_nothing_changes() -> None:
    messages = (Message("user", "hello"),)
    for asked in ({}, {"tools": []}, {"tools": None}, body(WEATHER, tool_choice="none")):
        use = ToolUse.of(asked)
        assert use.schema is None
        assert use.told(messages) == messages


def test_by_itself_the_model_may_call_or_answer() -> None:
    use = ToolUse.of(body(WEATHER))
    assert follows(use, CALL)
    assert follows(use, {"answer": "It rains."})
    assert not follows(use, {"calls": [CALL]})
    assert not follows(use, {"tool": "other", "arguments": {}})
    assert not follows(use, {"tool": "weather", "arguments": {"city": 5}})
    assert not follows(use, {"tool": "weather", "arguments": {"city": "a", "more": 1}})


@pytest.mark.parametrize("flat", [False, True])
def test_a_call_can_be_demanded_of_any_tool_or_of_one(flat: bool) -> None:
    named = {"type": "function", "name": "weather"}
    named = named if flat else {"type": "function", "function": named}
    other = {"name": "now"}
    for choice in ("required", named):
        use = ToolUse.of(body(WEATHER, other, tool_choice=choice))
        assert follows(use, CALL)
        assert not follows(use, {"answer": "It rains."})
        assert follows(use, {"tool": "now", "arguments": {}}) == (choice == "required")


def test_several_calls_are_bounded() -> None:
    use = ToolUse.of(body(WEATHER, parallel_tool_calls=True))
    assert follows(use, {"calls": [CALL] * 8})
    assert not follows(use, {"calls": [CALL] * 9})
    assert not follows(use, {"calls": []})
    assert follows(use, {"answer": "It rains."})


def test_definitions_inside_the_parameters_are_found() -> None:
    use = ToolUse.of(body(WEATHER, TREE))
    leaf: dict[str, Any] = {"name": "b", "inner": []}
    assert follows(use, {"tool": "tree", "arguments": {"root": {"name": "a", "inner": [leaf]}}})
    assert not follows(use, {"tool": "tree", "arguments": {"root": {"name": "a", "inner": [5]}}})


def test_a_moved_schema_leaves_data_and_names_alone() -> None:
    schema = {
        "properties": {"const": {"$ref": "#"}, "$ref": {"$ref": "#/$defs/a"}},
        "default": {"$ref": "#/kept"},
        "enum": [{"$ref": "#/kept"}],
        "anyOf": [{"$ref": "other.json#/kept"}, {"$ref": "#/$defs/a"}],
    }
    assert moved(schema, "#/at") == {
        "properties": {"const": {"$ref": "#/at"}, "$ref": {"$ref": "#/at/$defs/a"}},
        "default": {"$ref": "#/kept"},
        "enum": [{"$ref": "#/kept"}],
        "anyOf": [{"$ref": "other.json#/kept"}, {"$ref": "#/at/$defs/a"}],
    }


def test_the_model_is_told_of_the_tools_in_its_system_message() -> None:
    use = ToolUse.of(body(WEATHER, {"name": "now"}))
    told = use.told((Message("system", "Be brief."), Message("user", "hello")))
    assert [message.role for message in told] == ["system", "user"]
    assert told[0].content == (
        "Be brief.\n\n"
        "You can call these tools:\n"
        '- weather: The weather of a city. Arguments: {"city": {"type": "string"}}\n'
        "- now. Arguments: {}\n"
        'Only if one of them fits the question, call it: {"tool": NAME, "arguments": {...}}.\n'
        'Otherwise answer the question yourself: {"answer": "your answer"}.'
    )
    (first, _) = use.told((Message("user", "hello"),))
    assert first.role == "system"


def test_calls_are_read_in_the_shape_that_clients_know() -> None:
    use = ToolUse.of(body(WEATHER, parallel_tool_calls=True))
    told = use.read(json.dumps({"calls": [CALL, CALL]}))
    assert told.content is None
    assert [call["function"] for call in told.calls] == [
        {"name": "weather", "arguments": '{"city": "Rome"}'}
    ] * 2
    assert len({call["id"] for call in told.calls}) == 2
    (call,) = ToolUse.of(body(WEATHER)).read(json.dumps(CALL)).calls
    assert call["type"] == "function" and call["id"].startswith("call_")


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ('{"answer": "It rains."}', "It rains."),
        ('{"answer": "It ra', "It ra"),  # cut short
        ('{"tool": "weather", "argu', '{"tool": "weather", "argu'),
        ('{"tool": "weather", "arguments": {"n": 1e999}}', None),
        ("", ""),
    ],
)
def test_what_is_no_whole_call_is_text(text: str, content: str | None) -> None:
    told = ToolUse.of(body(WEATHER)).read(text)
    assert told.calls == ()
    assert told.content == (text if content is None else content)


def test_calls_and_results_in_a_conversation_become_text() -> None:
    function = {"name": "weather", "arguments": '{"city": "Rome"}'}
    messages = [
        {"role": "user", "content": "How is it?"},
        {"role": "assistant", "tool_calls": [{"id": "c", "function": function}]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "Rain"}]},
        {"role": "tool", "tool_call_id": "unknown", "content": "?"},
    ]
    read = without_calls({"messages": messages})["messages"]
    assert read == [
        messages[0],
        {"role": "assistant", "content": '{"tool": "weather", "arguments": {"city": "Rome"}}'},
        {"role": "user", "content": "Result of the tool weather:\nRain"},
        {"role": "user", "content": "Result of the tool:\n?"},
    ]


@pytest.mark.parametrize(
    "asked",
    [
        {"tools": {}},
        {"tools": [5]},
        {"tools": [{"type": "web_search"}]},
        body({"name": ""}),
        body({"name": "a" * 65}),
        body({"name": "a", "description": 5}),
        body({"name": "a", "parameters": []}),
        body({"name": "a", "parameters": {"properties": []}}),
        body({"name": "a", "parameters": {"type": "string"}}),
        body(WEATHER, WEATHER),
        body(*({"name": f"tool{n}"} for n in range(65))),
        body(WEATHER, tool_choice="perhaps"),
        body(WEATHER, tool_choice={"type": "function", "function": {"name": "other"}}),
        body(WEATHER, parallel_tool_calls="yes"),
        {"tool_choice": "required"},
    ],
)
def test_what_cannot_be_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(FieldError):
        ToolUse.of(asked)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "tool_calls": 5},
        {"role": "assistant", "tool_calls": [5]},
        {"role": "assistant", "tool_calls": [{"function": {"name": 5}}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": {}}}]},
        {"role": "tool", "name": 5, "content": "x"},
        {"role": "tool", "content": 5},
    ],
)
def test_calls_that_cannot_be_are_refused(message: dict[str, Any]) -> None:
    with pytest.raises(FieldError):
        without_calls({"messages": [message]})
