from __future__ import annotations

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import PackageError, RequestError
from ondevice.runtime.answer import Message
from ondevice.runtime.chat_template import MAX_LENGTH, ChatTemplate

# The shape of the ChatML templates of SmolLM2 and Qwen2.
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHAT = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", '<b>1 < 2 & "3"'))
ALTERNATING = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system message\n allowed') }}"
    "{% endif %}{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
)


def rendered(source: str, content: str = "x") -> str:
    return ChatTemplate(source).render([Message("user", content)])


def test_a_conversation_is_rendered_up_to_where_the_model_answers() -> None:
    text = ChatTemplate(CHATML).render(CHAT)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello<|im_end|>\n"
        '<|im_start|>user\n<b>1 < 2 & "3"<|im_end|>\n<|im_start|>assistant\n'
    )
    assert (
        ChatTemplate(CHATML).render(CHAT, add_generation_prompt=False) + ("<|im_start|>assistant\n")
        == text
    )


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_contents_are_never_escaped_or_changed(contents: list[str]) -> None:
    source = "{% for m in messages %}{{ m.content }}{% endfor %}"
    messages = [Message("user", content) for content in contents]
    assert ChatTemplate(source).render(messages) == "".join(contents)


def test_what_templates_of_published_models_use_is_there() -> None:
    source = (
        "{%- for m in messages -%}{%- if loop.index0 == 1 -%}{% break %}{%- endif -%}"
        "{% generation %}{{ m | tojson }}{% endgeneration %}{%- endfor %}\n"
        "    {% if tools is none %}\n"
        "{{ strftime_now('%d %b %Y') }}{% endif %}{{ namespace(a=1).a }}"
    )
    template = ChatTemplate(source, now=lambda: datetime(2026, 1, 2))
    text = template.render([Message("user", "é<>&'"), Message("user", "b")])
    assert text == '{"role": "user", "content": "é<>&\'"}02 Jan 20261'


def test_loops_know_their_length_and_last_round() -> None:
    source = (
        "{% for m in messages %}{{ loop.index }}/{{ loop.length }}"
        "{{ ';' if loop.last }}{% endfor %}"
    )
    assert ChatTemplate(source).render(CHAT) == "1/32/33/3;"


def test_a_template_knows_the_beginning_and_end_tokens() -> None:
    template = ChatTemplate(ALTERNATING, bos="<s>", eos="</s>")
    assert template.render([Message("user", "a")]) == "<s>a</s>"


def test_a_refusal_of_the_template_is_one_line_with_its_reason() -> None:
    with pytest.raises(RequestError, match="no system message allowed") as caught:
        ChatTemplate(ALTERNATING).render([Message("system", "a")])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ x", "{% for m in %}", "{{ m | nofilter }}", "{% end %}"]
)
def test_a_template_that_is_no_jinja_is_a_package_error(source: str) -> None:
    with pytest.raises(PackageError, match=r"chat_template\.jinja"):
        ChatTemplate(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[9].content }}",
        "{{ 1 // 0 }}",
        "{{ none + 1 }}",
        "{{ messages | tojson(indent='x', sort_keys=3) | nofunc() }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception(none) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 'abc'.encode('nonsense') }}",
    ],
)
def test_a_template_that_fails_is_a_request_or_package_error(source: str) -> None:
    with pytest.raises((RequestError, PackageError)):
        rendered(source)


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s~n.s %}{% endfor %}",
        "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s+n.s %}{% endfor %}",
        "{% for a in 'x' * 9999999999 %}{% endfor %}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ [0] * 9999999999 }}",
        "{% for a in range(99999999) %}{% endfor %}",
        "{% for a in range(9999) recursive %}{{ loop(range(9999)) }}{% endfor %}",
    ],
)
def test_a_template_without_end_or_measure_is_stopped(source: str) -> None:
    start = time.monotonic()
    with pytest.raises(RequestError):
        rendered(source)
    assert time.monotonic() - start < 20


def test_a_long_conversation_is_within_the_bounds() -> None:
    messages = [Message("user", "word " * 100)] * 5000
    assert len(ChatTemplate(CHATML).render(messages)) < MAX_LENGTH
