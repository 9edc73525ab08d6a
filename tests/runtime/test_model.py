from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_tokenizers as tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice.errors import RequestError
from ondevice.package import Manifest, ModelShape, Package, Recipe, SourceInfo, Text
from ondevice.runtime.answer import Message, Options
from ondevice.runtime.chat_template import ChatTemplate
from ondevice.runtime.clock import ScriptedClock
from ondevice.runtime.model import Model, load
from ondevice.runtime.scripted import ScriptedEngine

END = 2
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def model(
    says: str = "Paris.", *, context_length: int = 2048, template: bool = True, **more: object
) -> Model:
    tokenizer = tiny.byte_level()
    clock = ScriptedClock()
    script = [*tokenizer.encode(says), END]
    engine = ScriptedEngine(
        script,
        vocab_size=700,
        context_length=context_length,
        clock=clock,
        **more,  # type: ignore[arg-type]
    )
    return Model(
        engine,
        tokenizer,
        name="tiny",
        template=ChatTemplate(CHATML) if template else None,
        eos_ids=(END,),
        clock=clock,
        load_s=2.5,
    )


def prompt_text(model: Model) -> str:
    """What the engine was given of the prompt, control tokens shown."""
    engine = model.engine
    assert isinstance(engine, ScriptedEngine)
    inner = tiny.inner(tiny.byte_level_json())
    return str(inner.decode(engine.cache, skip_special_tokens=False))


def test_an_answer_knows_itself() -> None:
    answer = model(prefill_s=0.5, decode_s=(0.25,)).generate("Where?")
    prompt = answer.prompt_tokens
    assert (answer.text, answer.finish_reason, answer.model) == ("Paris.", "stop", "tiny")
    assert answer.timings.ttft == 0.5 * prompt
    assert (answer.prefill_tps, answer.decode_tps) == (2.0, 4.0)
    assert (answer.load_s, answer.cached_tokens, answer.source) == (2.5, 0, "device")
    assert len(answer.tokens) == len(answer.logprobs) == len(answer.timings.token_times)
    assert answer.mean_logprob == pytest.approx(0, abs=1e-5)


def test_a_prompt_becomes_a_user_message_after_the_system_message() -> None:
    asked = model()
    asked.generate("Where?", system="Be brief.")
    assert prompt_text(asked).startswith(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhere?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_without_a_template_the_prompt_is_a_text_to_continue() -> None:
    asked = model(template=False)
    assert asked.generate("The capital is").text == "Paris."
    assert prompt_text(asked).startswith("The capital isParis")


def test_prefill_speed_counts_only_computed_tokens() -> None:
    asked = model(prefill_s=0.5)
    first = asked.generate("Where?")
    history = [Message("user", "Where?"), Message("assistant", first.text)]
    again = asked.generate([*history, Message("user", "And then?")])
    assert again.cached_tokens == first.prompt_tokens + len(first.tokens) - 1
    assert again.prefill_tps == 2.0
    assert again.timings.prefill == 0.5 * (again.prompt_tokens - again.cached_tokens)


FRAGMENTS = st.sampled_from([*tiny.CONTROLS, "<|", "im_end|>", "<|im_", "|>"])


@settings(max_examples=60)
@given(st.lists(FRAGMENTS | st.text(min_size=1, max_size=3), min_size=1, max_size=6).map("".join))
def test_a_users_text_cannot_end_its_turn_or_begin_another(content: str) -> None:
    if not content.strip():
        return
    tokens = model().prepare([Message("user", content)]).tokens
    assert [t for t in tokens if t < len(tiny.CONTROLS)] == [1, 2, 1]
    assert content in tiny.byte_level().decode(tokens) or "\ufdd0" in content


@pytest.mark.parametrize("prompt", ["", "  \n\t", [], [Message("user", " ")]])
def test_an_empty_prompt_is_refused(prompt: str | list[Message]) -> None:
    with pytest.raises(RequestError):
        model().generate(prompt)


def test_text_that_was_not_unicode_is_refused() -> None:
    with pytest.raises(RequestError, match="Unicode"):
        model().generate("a\udc80")
    with pytest.raises(RequestError, match="system message is not valid Unicode"):
        model().generate("a", system="\ud800")


@pytest.mark.parametrize(
    "messages",
    [
        [Message("user", "a"), Message("assistant", "b")],
        [Message("system", "a")],
        [Message("tool", "a"), Message("user", "b")],  # type: ignore[arg-type]
    ],
)
def test_a_conversation_that_cannot_be_answered_is_refused(messages: list[Message]) -> None:
    with pytest.raises(RequestError):
        model().generate(messages)


def test_two_system_messages_are_refused() -> None:
    with pytest.raises(RequestError, match="system"):
        model().generate([Message("system", "a"), Message("user", "b")], system="c")


def test_a_prompt_longer_than_the_context_says_so_before_anything_is_computed() -> None:
    asked = model(context_length=64)
    with pytest.raises(RequestError, match=r"context holds 64"):
        asked.stream("word " * 100)
    assert asked.engine.position == 0


def test_truncation_drops_the_oldest_turns_and_counts_them() -> None:
    asked = model(context_length=200)
    turns = [
        Message(role, f"{role} {n} says something")  # type: ignore[arg-type]
        for n in range(20)
        for role in ("user", "assistant")
    ]
    conversation = [*turns, Message("user", "Where?")]
    with pytest.raises(RequestError):
        asked.generate(conversation, system="Be brief.")
    options = Options(max_tokens=8, truncate=True)
    answer = asked.generate(conversation, options, system="Be brief.")
    text = prompt_text(asked)
    assert answer.dropped_messages > 0 and answer.dropped_messages % 2 == 0
    assert "Be brief." in text and "Where?" in text and "user 0 " not in text
    assert text.split("<|im_start|>")[2].startswith("user")  # begins with a user's turn
    assert answer.prompt_tokens + 8 <= 200
    fewer = conversation[answer.dropped_messages - 2 :]
    longer = Options(max_tokens=8, truncate=True)
    assert asked.prepare([Message("system", "Be brief."), *fewer], longer).dropped_messages == 2


@pytest.mark.parametrize("context_length", range(60, 130, 3))
def test_a_truncated_conversation_leaves_room_for_the_answer(context_length: int) -> None:
    turns = [Message("user", "a"), Message("assistant", "b")] * 30
    asked = model(context_length=context_length)
    options = Options(max_tokens=8, truncate=True)
    prepared = asked.prepare([*turns, Message("user", "c")], options)
    assert len(prepared.tokens) + 8 <= context_length
    longer = [*turns[prepared.dropped_messages - 2 :], Message("user", "c")]
    assert asked.prepare(longer, options).dropped_messages == 2


def test_truncation_drops_nothing_that_fits_and_cannot_help_one_long_message() -> None:
    options = Options(truncate=True)
    assert model().generate("Where?", options).dropped_messages == 0
    with pytest.raises(RequestError, match="last message") as caught:
        model(context_length=64).generate("word " * 100, options)
    assert "--truncate" not in str(caught.value)


def test_a_token_outside_the_vocabulary_of_the_model_is_refused() -> None:
    asked = model()
    asked.engine.limits = type(asked.engine.limits)(2048, 10)  # type: ignore[misc]
    with pytest.raises(RequestError, match="right tokenizer"):
        asked.generate("Where?")


def test_a_stream_gives_pieces_and_then_the_same_answer_as_generate() -> None:
    stream = model("Grüße 🙂").stream("Where?")
    with pytest.raises(RuntimeError):
        _ = stream.answer
    text = "".join(piece.text for piece in stream)
    assert text == stream.answer.text == "Grüße 🙂"
    assert stream.answer == model("Grüße 🙂").generate("Where?")


def test_a_closed_stream_has_the_answer_so_far_and_frees_the_model() -> None:
    asked = model()
    with asked.stream("Where?") as stream:
        first = next(stream)
    assert stream.answer.finish_reason == "cancelled"
    assert stream.answer.text == first.text
    assert asked.generate("Where?").text == "Paris."


def test_a_stream_that_is_dropped_frees_the_model() -> None:
    asked = model()
    next(asked.stream("Where?"))
    assert asked.generate("Where?").text == "Paris."


def test_a_second_answer_in_the_same_thread_is_refused_while_one_is_streamed() -> None:
    asked = model()
    stream = asked.stream("Where?")
    next(stream)
    with pytest.raises(RequestError, match="still being streamed"):
        asked.generate("Where?")
    assert [*stream] and stream.answer.text == "Paris."


def test_other_threads_wait_for_their_turn() -> None:
    asked = model("Paris is the capital.")
    stream = asked.stream("Where?")
    next(stream)
    answers: list[str] = []
    threads = [threading.Thread(target=collect(asked, answers)) for _ in range(4)]
    for thread in threads:
        thread.start()
    threads[0].join(0.05)
    assert answers == []
    list(stream)
    for thread in threads:
        thread.join(10)
    assert answers == ["Paris is the capital."] * 4
    assert stream.answer.text == "Paris is the capital."


def collect(asked: Model, answers: list[str]) -> Callable[[], None]:
    return lambda: answers.append(asked.generate("Where?").text)


def test_a_closed_model_closes_its_engine_and_says_so() -> None:
    with model() as asked:
        stream = asked.stream("Where?")
        next(stream)
    assert asked.engine.closed  # type: ignore[attr-defined]
    assert stream.answer.finish_reason == "cancelled"
    with pytest.raises(RequestError, match="closed"):
        asked.generate("Where?")
    asked.close()


def test_load_puts_a_package_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokenizer.json").write_text(tiny.byte_level_json(), encoding="utf-8")
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}" + CHATML, encoding="utf-8")
    opened: list[object] = []

    def open_engine(package: Package, name: str, **options: object) -> ScriptedEngine:
        opened.extend([package.folder, name, options])
        return ScriptedEngine([*tiny.byte_level().encode("Paris."), END], vocab_size=700)

    monkeypatch.setattr("ondevice.runtime.engines.open_engine", open_engine)
    with load(tiny_package(tmp_path), engine="genai", threads=3, context_length=99) as loaded:
        answer = loaded.generate("Where?")
        assert prompt_text(loaded).startswith("<|endoftext|><|im_start|>user\nWhere?")
    assert opened == [tmp_path, "genai", {"threads": 3, "context_length": 99}]
    assert (answer.text, answer.model, answer.finish_reason) == ("Paris.", "tiny-model", "stop")
    assert answer.load_s > 0


def tiny_package(folder: Path) -> Package:
    shape = ModelShape("llama", 700, 8, 1, 1, 1, 8, 2048, 1000)
    manifest = Manifest(
        name="tiny-model",
        source=SourceInfo("tiny", None, None, "gguf", {}),
        shape=shape,
        recipe=Recipe("cpu-fp32", 32.0, {}, {}),
        text=Text(eos_ids=(END,), bos_id=0, pad_id=None, chat_template=True),
        files={},
        tools={},
    )
    return Package(folder, manifest)


def test_the_runtime_loads_neither_export_nor_torch_nor_onnxruntime() -> None:
    code = (
        "import sys, ondevice; ondevice.Model; ondevice.load;"
        "bad = [m for m in sys.modules if m.startswith(('ondevice.export', 'torch',"
        " 'transformers', 'onnx'))]; sys.exit(' '.join(bad) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
