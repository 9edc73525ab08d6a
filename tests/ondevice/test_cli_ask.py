"""`ask` and `chat` around a model that says what it was asked."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from ondevice import cli
from ondevice.errors import RequestError
from ondevice.runtime.answer import Answer, Message, Options, Piece, Signals, Timings

Captured = pytest.CaptureFixture[str]
Stop = Callable[[], bool] | None


class FakeStream:
    def __init__(self, model: FakeModel, words: list[str], stop: Stop) -> None:
        self.model, self.words, self.stop = model, words, stop
        self.said: list[str] = []
        self.cancelled = False

    def __iter__(self) -> Iterator[Piece]:
        for word in self.words:
            if self.stop is not None and self.stop():
                self.cancelled = True
                return
            self.said.append(word)
            yield Piece(word, 7, -0.5)
            self.model.after_piece(word)

    @property
    def answer(self) -> Answer:
        return Answer(
            text="".join(self.said),
            tokens=(7,) * len(self.said),
            signals=Signals((-0.5,) * len(self.said)),
            prompt_tokens=10,
            finish_reason="cancelled" if self.cancelled else "stop",
            model="fake",
            timings=Timings(0.001, 0.02, 0.003, tuple(0.024 + 0.05 * i for i in range(3))),
            load_s=0.25,
        )


class FakeModel:
    """Answers with `words`; remembers every call."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.asked: list[tuple[str | list[Message], Options, str | None]] = []
        self.loaded: dict[str, object] = {}
        self.fails: Exception | None = None
        self.after_piece: Callable[[str], None] = lambda word: None
        self.closed = False
        self.package = None

    def stream(
        self,
        prompt: str | Sequence[Message],
        options: Options,
        *,
        system: str | None = None,
        should_stop: Stop = None,
    ) -> FakeStream:
        self.asked.append((prompt if isinstance(prompt, str) else list(prompt), options, system))
        if self.fails is not None:
            raise self.fails
        return FakeStream(self, self.words, should_stop)

    def generate(self, prompt: str, options: Options, *, system: str | None = None) -> Answer:
        stream = self.stream(prompt, options, system=system)
        list(stream)
        return stream.answer

    def __enter__(self) -> FakeModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    fake = FakeModel(["Hel", "lo ", "☕"])

    def load(package: object = None, **settings: object) -> FakeModel:
        fake.loaded = {"package": package, **settings}
        return fake

    monkeypatch.setattr("ondevice.runtime.model.load", load)
    return fake


def type_in(monkeypatch: pytest.MonkeyPatch, text: str, *, terminal: bool = False) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8")
    monkeypatch.setattr(stdin, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdin", stdin)


def test_the_answer_goes_to_stdout_and_nothing_else_goes_anywhere_in_a_pipe(
    model: FakeModel, capsys: Captured
) -> None:
    assert cli.run(["ask", "hi"]) == 0
    assert capsys.readouterr() == ("Hello ☕\n", "")
    assert model.closed
    assert cli.run(["ask", "hi", "--no-stream"]) == 0
    assert capsys.readouterr() == ("Hello ☕\n", "")


def test_ask_json_gives_exactly_the_fields_of_its_schema(
    model: FakeModel, capsys: Captured
) -> None:
    path = resources.files("ondevice") / "schemas" / "ask.schema.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert cli.run(["ask", "hi", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    answer = json.loads(out)
    Draft202012Validator(schema).validate(answer)
    assert answer == {
        "text": "Hello ☕",
        "prompt_tokens": 10,
        "output_tokens": 3,
        "load_ms": 250.0,
        "ttft_ms": 24.0,
        "prefill_tps": 500.0,
        "decode_tps": 20.0,
        "mean_logprob": -0.5,
        "finish_reason": "stop",
        "model": "fake",
        "source": "device",
        "reason": "there is no policy, so nothing leaves the device",
        "confidence": None,
        "calibrated": False,
        "escalation": "not-needed",
        "failure": "",
        "cost_usd": 0.0,
    }
    assert set(schema["required"]) == set(schema["properties"]) == set(answer)


def test_every_option_reaches_the_model(model: FakeModel) -> None:
    options = (
        "--system S --model M --max-tokens 7 --temperature 0.5 --top-k 3 --top-p 0.8 --min-p 0.1 "
        "--repetition-penalty 1.2 --seed 9 --stop A --stop B --engine genai --threads 2 "
        "--context 64 --truncate"
    )
    assert cli.run(["ask", "hi", *options.split()]) == 0
    expected = Options(7, 0.5, 3, 0.8, 0.1, 1.2, 9, ("A", "B"), True)
    assert model.asked == [("hi", expected, "S")]
    assert model.loaded == {
        "package": "M",
        "engine": "genai",
        "threads": 2,
        "context_length": 64,
    }


def test_without_options_ask_uses_the_defaults_of_the_python_interface(model: FakeModel) -> None:
    assert cli.run(["ask", "hi"]) == 0
    assert model.asked == [("hi", Options(), None)]


@pytest.mark.parametrize(
    ("arguments", "stdin", "prompt"),
    [
        (["-"], "from stdin\n", "from stdin"),
        ([], "from stdin\n", "from stdin"),
        ([], "\ufeffbyte order mark", "byte order mark"),
        (["question"], "not read", "question"),
        (["question", "--file", "FILE"], "not read", "question\n\nwords"),
        (["question", "--file", "-"], "piped", "question\n\npiped"),
        (["--file", "FILE"], "not read", "words"),
        (["-", "--file", "FILE"], "question", "question\n\nwords"),
        (["--", "-5 degrees?"], "not read", "-5 degrees?"),
    ],
)
def test_the_prompt_is_the_question_then_the_text(
    arguments: list[str],
    stdin: str,
    prompt: str,
    model: FakeModel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    file = tmp_path / "words.txt"
    file.write_text("words\n", encoding="utf-8")
    type_in(monkeypatch, stdin)
    assert cli.run(["ask", *(a.replace("FILE", str(file)) for a in arguments)]) == 0
    assert model.asked[0][0] == prompt


def test_at_a_terminal_ask_without_a_prompt_does_not_wait_for_one(
    model: FakeModel, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, "never read", terminal=True)
    assert cli.run(["ask"]) == 2
    assert capsys.readouterr().err.startswith("ondevice: no prompt")
    assert model.asked == []


def test_chat_remembers_what_was_said_until_it_is_reset(
    model: FakeModel, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, "one\n\ntwo\n/system Be brief.\n/reset\nthree\n/exit\nfour\n")
    assert cli.run(["chat"]) == 0
    said = "Hello ☕"
    assert [asked for asked, _, _ in model.asked] == [
        [Message("user", "one")],
        [Message("user", "one"), Message("assistant", said), Message("user", "two")],
        [Message("user", "three")],
    ]
    assert [system for _, _, system in model.asked] == [None, None, "Be brief."]
    assert capsys.readouterr().out == f"{said}\n" * 3


def test_chat_json_gives_a_line_of_the_ask_schema_for_each_turn(
    model: FakeModel, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, "one\ntwo")
    assert cli.run(["chat", "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["text"] for answer in answers] == ["Hello ☕", "Hello ☕"]


def test_chat_help_and_unknown_commands_do_not_reach_the_model(
    model: FakeModel, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, "/help\n/frobnicate\n")
    assert cli.run(["chat"]) == 0
    out, err = capsys.readouterr()
    assert "/reset" in out
    assert "/frobnicate" in err
    assert model.asked == []


def test_ctrl_c_stops_the_answer_and_the_chat_goes_on(
    model: FakeModel, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)

    def interrupt_once(word: str) -> None:
        model.after_piece = lambda word: None
        signal.raise_signal(signal.SIGINT)

    model.after_piece = interrupt_once
    type_in(monkeypatch, "one\ntwo\n")
    assert cli.run(["chat"]) == 0
    assert capsys.readouterr().out == "Hel\nHello ☕\n"
    assert model.asked[1][0][1] == Message("assistant", "Hel")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_leaves_the_program(
    model: FakeModel, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt_twice(word: str) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    model.after_piece = interrupt_twice
    type_in(monkeypatch, "one\ntwo\n")
    assert cli.run(["chat"]) == 130
    assert capsys.readouterr().err == "ondevice: stopped\n"


def test_a_turn_that_fails_is_told_and_forgotten_at_a_terminal(
    model: FakeModel, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["too long", "short"])

    def read_line(_: str) -> str:
        model.fails = RequestError("the prompt is too long") if not model.asked else None
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    type_in(monkeypatch, "", terminal=True)
    monkeypatch.setattr("builtins.input", read_line)
    assert cli.run(["chat"]) == 0
    assert "the prompt is too long" in capsys.readouterr().err
    assert model.asked[1][0] == [Message("user", "short")]


def test_a_turn_that_fails_in_a_pipe_ends_it_with_exit_code_2(
    model: FakeModel, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.fails = RequestError("the prompt is too long")
    type_in(monkeypatch, "one\ntwo\n")
    assert cli.run(["chat"]) == 2
    assert capsys.readouterr().err == "ondevice: the prompt is too long\n"
    assert len(model.asked) == 1


def test_a_terminal_gets_no_control_characters_of_the_models(
    model: FakeModel, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.words = ["a\x1b[2Jb\x07", "\tc\n", "\x9bd"]
    assert cli.run(["ask", "hi"]) == 0
    assert capsys.readouterr().out == "a\x1b[2Jb\x07\tc\n\x9bd\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.run(["ask", "hi"]) == 0
    assert capsys.readouterr().out == "a[2Jb\tc\nd\n"
