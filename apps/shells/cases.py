"""What every shell must do: the transcript that all of them are given, and what is checked."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driver import Event, Failed, Talk

UNICODE = "naïve 你好,世界 😀 👩‍👩‍👧 Ωμέγα नमस्ते \u2028 \ufeff"
ENDLESS = {"type": "string", "minLength": 20_000}  # a schema that nothing fulfils in a minute
LONGEST = 6000  # tokens
LATE = 8.0  # seconds; a cancelled answer has ended by then, also on a busy machine


@dataclass(frozen=True)
class Subject:
    """A shell to be checked: what starts it, and the sidecar that it is to start."""

    shell: list[str]
    sidecar: list[str]

    def talk(self, sidecar: list[str] | None = None) -> Talk:
        """Start it."""
        return Talk(self.shell, self.sidecar if sidecar is None else sidecar)


def check(true: bool, otherwise: str) -> None:
    """Raise `Failed` unless it is so."""
    if not true:
        raise Failed(otherwise)


def chat(question: str, schema: Any = None, **options: Any) -> dict[str, Any]:
    """The parameters of `chat`."""
    params: dict[str, Any] = {"messages": [{"role": "user", "content": question}]}
    if schema is not None:
        params["schema"] = schema
    return {**params, "options": options} if options else params


def endless(question: str = "Tell me a very long story.") -> dict[str, Any]:
    """The parameters of a chat that goes on until it is cancelled."""
    return chat(question, ENDLESS, max_tokens=LONGEST)


def streamed(talk: Talk, tag: str) -> str:
    """The tokens of a request, put together."""
    return "".join(e["text"] for e in talk.of("token", tag))


def result(talk: Talk, tag: str) -> dict[str, Any]:
    """The result of a request. Raises `Failed` for an error."""
    event = talk.over(tag)
    check(event["event"] == "result", f"{tag} was refused: {event.get('message')}")
    found: dict[str, Any] = event["result"]
    return found


def refusal(talk: Talk, tag: str) -> Event:
    """The error of a request. Raises `Failed` for a result."""
    event = talk.over(tag)
    check(event["event"] == "error", f"{tag} was not refused")
    return event


def conversation(subject: Subject) -> None:
    """Initialise, stages, tokens, speed and source, errors, long prompts, a line, a clean end."""
    with subject.talk() as talk:
        ready = talk.until("ready")["result"]
        check(ready["server"]["name"] == "ondevice", f"server {ready['server']}")
        check(bool(ready["models"]), "no models at initialize")
        _first_answer(talk, ready["default"])
        _refusals(talk)
        _long_prompts(talk, ready["models"][0]["context_length"])
        _cancelled(talk)
        _line(talk)
        code = talk.finish()
        closed = talk.last
        check(closed.get("event") == "closed", f"the last event is {closed}")
        check((closed["code"], code) == (0, 0), f"sidecar {closed['code']}, shell {code}")


def _first_answer(talk: Talk, model: str) -> None:
    talk.request("first", "chat", chat("Say hello.", max_tokens=12))
    talk.wait("first")
    answer = result(talk, "first")
    stages = [e["stage"] for e in talk.of("stage", "first")]
    check(stages[:1] == ["loading"] and stages[-1] == "ready", f"stages {stages}")
    check(all(e["model"] == model for e in talk.of("stage", "first")), "stage of another model")
    names = [e["event"] for e in talk.events if e.get("tag") == "first"]
    check("stage" not in names[names.index("token") :], "a stage after the first token")
    check(not any(e["provisional"] for e in talk.of("token", "first")), "a draft without a cloud")
    check(streamed(talk, "first") == answer["text"], "the tokens are not the answer")
    _status_line(talk.over("first")["line"], answer)


def _status_line(line: str, answer: dict[str, Any]) -> None:
    timings = answer["timings"]
    shown = re.match(
        r"\[(\w+): (\S+) \| TTFT (\d+) ms \| (\d+\.\d) tokens/s \| (\d+) tokens \| (\w+)", line
    )
    check(shown is not None, f"status line {line!r}")
    assert shown is not None
    told = (shown[1], shown[2], int(shown[5]), shown[6])
    wanted = (answer["source"], answer["model"], answer["usage"]["output_tokens"])
    check(told == (*wanted, answer["finish_reason"]), f"status line {line!r}")
    check(abs(int(shown[3]) - timings["ttft_ms"]) <= 0.51, f"TTFT in {line!r}")
    check(abs(float(shown[4]) - timings["decode_tps"]) <= 0.051, f"tokens/s in {line!r}")
    check(line.endswith(f"{answer['reason']}]"), f"reason in {line!r}")


def _refusals(talk: Talk) -> None:
    talk.request("model", "chat", {**chat("Hello?"), "model": "no-such-model"})
    talk.request("params", "chat", {"messages": "Hello?"})
    talk.request("method", "chatter")
    talk.request("ping", "ping")
    talk.wait("model", "params", "method", "ping")
    unknown = refusal(talk, "model")
    check(unknown["code"] == -32602, f"unknown model: {unknown}")
    check("no-such-model" in unknown["message"], f"unknown model: {unknown}")
    check(refusal(talk, "params")["code"] == -32602, "bad parameters")
    check("messages" in refusal(talk, "params")["message"], "bad parameters, message")
    check(refusal(talk, "method")["code"] == -32601, "unknown method")
    check(result(talk, "ping") == {}, "ping")


def _long_prompts(talk: Talk, context: int) -> None:
    words = "the " * (context // 8)
    talk.request("long", "chat", chat(words, max_tokens=4))
    talk.request("too long", "chat", chat(words * 80, max_tokens=4))  # past any pipe's buffer too
    talk.wait("long", "too long")
    check(result(talk, "long")["usage"]["prompt_tokens"] > context // 8, "the prompt was cut")
    check(refusal(talk, "too long")["code"] == -32602, "too long a prompt")


def _cancelled(talk: Talk) -> None:
    begin = time.monotonic()
    talk.request("cancelled", "chat", endless(), cancel_after=3)
    talk.wait("cancelled")
    answer = result(talk, "cancelled")
    check(answer["finish_reason"] == "cancelled", f"finish_reason {answer['finish_reason']}")
    check(len(talk.of("token", "cancelled")) >= 3, "fewer than three tokens")
    check(streamed(talk, "cancelled") == answer["text"], "the tokens are not the answer so far")
    check(time.monotonic() - begin < LATE, "cancelling took long")


def _line(talk: Talk) -> None:
    """One is answered, one waits and is answered, one is cancelled while it waits."""
    talk.request("one", "chat", endless(), cancel_after=8)
    talk.request("two", "chat", chat("Say hello.", max_tokens=4))
    talk.request("gone", "chat", chat("Say goodbye.", max_tokens=4), cancel_after=0)
    talk.wait("one", "two", "gone")
    check(result(talk, "one")["finish_reason"] == "cancelled", "the first of the line")
    answer = result(talk, "two")
    check(streamed(talk, "two") == answer["text"], "the second of the line")
    waited = [e for e in talk.of("stage", "two") if e["stage"] == "queued"]
    check(bool(waited) and waited[0]["ahead"] >= 1, "the second was not told that it waits")
    check(refusal(talk, "gone")["code"] == -32800, "cancelled in the line")
    check(not talk.of("token", "gone"), "tokens of what was cancelled in the line")
    order = [e["tag"] for e in talk.events if e["event"] == "token" and e["tag"] in ("one", "two")]
    check(order == sorted(order), "two answers at once")


def unicode(subject: Subject) -> None:
    """Characters of up to four bytes arrive in pieces, and whole."""
    chopped = [sys.executable, str(Path(__file__).with_name("chop.py")), *subject.sidecar]
    with subject.talk(chopped) as talk:
        talk.request("a", "chat", chat(f"Repeat: {UNICODE}", {"const": UNICODE}, max_tokens=200))
        talk.wait("a")
        answer = result(talk, "a")
        check(answer["text"] == f'"{UNICODE}"', f"the answer is {answer['text']!r}")
        check(streamed(talk, "a") == answer["text"], f"streamed {streamed(talk, 'a')!r}")
        check(talk.finish() == 0, "exit code")


def sidecar_killed(subject: Subject) -> None:
    """The shell says so and ends with 1."""
    with subject.talk() as talk:
        talk.request("a", "chat", endless())
        talk.wait("a")
        talk.until("token")
        talk.until("token")
        assert talk.sidecar is not None
        talk.sidecar.kill()
        lost = talk.until("lost")
        check("the sidecar ended" in lost["message"], f"message {lost['message']!r}")
        check(talk.ended() == 1, "exit code")
        check("the sidecar ended" in talk.said(), f"stderr {talk.said()!r}")
        check(not talk.of("result", "a"), "a result of an answer that was cut off")


def input_ends(subject: Subject) -> None:
    """The end of input in mid-answer: both end, well."""
    with subject.talk() as talk:
        talk.request("a", "chat", endless())
        talk.until("token")
        code = talk.finish(within=LATE)
        check(code == 0, f"exit code {code}")
        check(talk.last == {"event": "closed", "code": 0}, f"last: {talk.last}")


def shell_killed(subject: Subject) -> None:
    """A shell that crashes in mid-answer leaves no sidecar behind."""
    with subject.talk() as talk:
        talk.request("a", "chat", endless())
        talk.until("token")
        talk.kill()
        talk.sidecar_gone(within=4.0)


def not_started(subject: Subject) -> None:
    """A sidecar that ends at once, or that does not exist: a line that says so, and 1."""
    for command in ([*subject.sidecar[:4], "no-such-model"], ["no-such-program"]):
        with subject.talk(command) as talk:
            code = talk.finish()
            check(code == 1, f"exit code {code} for {command[-1]}")
            check(command[-1] in talk.said(), f"stderr {talk.said()!r}")
            check("Traceback" not in talk.said() and "    at " not in talk.said(), talk.said())


def nonsense(subject: Subject) -> None:
    """What talks without end but not in messages is ended, and said to be so."""
    with subject.talk([sys.executable, "-c", "while True: print('nonsense')"]) as talk:
        code = talk.finish()
        check(code == 1, f"exit code {code}")
        check("no message" in talk.last.get("message", ""), f"last: {talk.last}")


def interrupted(subject: Subject) -> None:
    """Ctrl-C in a terminal ends the answer, not the program; Ctrl-D ends that."""
    from terminal import Terminal

    with Terminal([*subject.shell, *subject.sidecar]) as terminal:
        terminal.until("> ")
        terminal.type("Tell me a long story.\n")
        terminal.until("loading")
        terminal.until_match(r"\r\x1b\[K(?!loading|queued).{8}")  # the answer has begun
        terminal.type("\x03")
        terminal.until("| cancelled |")
        terminal.until("> ")
        terminal.type("\x03")
        terminal.until("(Ctrl-D ends the program)")
        terminal.type("Say hello.\n")
        terminal.until(" tokens/s | ")
        terminal.until("> ")
        terminal.type("\x04")
        code = terminal.ended()
        check(code == 0, f"exit code {code}")


@dataclass(frozen=True)
class Case:
    """A check by name."""

    name: str
    run: Callable[[Subject], None]


CASES = (
    Case("conversation", conversation),
    Case("unicode", unicode),
    Case("sidecar-killed", sidecar_killed),
    Case("input-ends", input_ends),
    Case("shell-killed", shell_killed),
    Case("not-started", not_started),
    Case("nonsense", nonsense),
    *((Case("ctrl-c", interrupted),) if os.name == "posix" else ()),
)
