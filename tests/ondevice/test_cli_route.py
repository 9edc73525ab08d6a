"""`route`, and `ask` and `chat` under a policy, around a small scripted model."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from ondevice import cli
from ondevice.runtime.fallback import agreement
from ondevice.runtime.model import Model
from tests.runtime.fallback.fakes import scripted_model

Captured = pytest.CaptureFixture[str]
CLOUD_SAYS = "The cloud says Paris."


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ONDEVICE_HOME", str(tmp_path / "home"))
    agreement.withdraw()
    yield tmp_path / "home"
    agreement.withdraw()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    made, _ = scripted_model()
    monkeypatch.setattr("ondevice.runtime.model.load", lambda *_, **__: made)
    monkeypatch.setattr(made.engine, "close", lambda: None)
    monkeypatch.setattr(Model, "__exit__", lambda *_: None)  # so that it serves several commands
    return made


def chunk(**fields: Any) -> str:
    event = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "large"}
    return f"data: {json.dumps(event | fields)}\n\n"


def streamed(text: str) -> str:
    """An answer as OpenAI-compatible servers stream it."""
    parts = [
        chunk(choices=[{"index": 0, "delta": {"content": word}, "finish_reason": None}])
        for word in (text[:4], text[4:])
    ]
    parts.append(chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    usage = {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}
    parts.append(chunk(choices=[], usage=usage))
    return "".join(parts) + "data: [DONE]\n\n"


class Server:
    """An endpoint on loopback that keeps what it was sent."""

    def __init__(self, server: HTTPServer) -> None:
        self.url = server.url_for("/v1")
        self.bodies: list[bytes] = []
        self.answer: Callable[[], Response] = lambda: Response(
            streamed(CLOUD_SAYS), content_type="text/event-stream"
        )
        server.expect_request("/v1/chat/completions").respond_with_handler(self._respond)

    def _respond(self, request: Request) -> Response:
        self.bodies.append(request.get_data())
        return self.answer()


@pytest.fixture
def server(httpserver: HTTPServer) -> Server:
    return Server(httpserver)


def write_policy(home: Path, server: Server | None, text: str = "") -> Path:
    """A policy file whose top is `text`; the endpoint comes after it."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / "policy.toml"
    endpoint = ""
    if server is not None:
        endpoint = f'[endpoint]\nname = "loop"\nbase_url = "{server.url}"\nmodel = "large"\n'
    path.write_text(f"{text}\n{endpoint}", encoding="utf-8")
    return path


def at_terminal(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    """Stdin and stderr are a terminal where `typed` is typed."""
    stdin = io.TextIOWrapper(io.BytesIO(typed.encode()), encoding="utf-8")
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def test_without_a_policy_ask_prints_what_it_always_did(model: Model, capsys: Captured) -> None:
    assert cli.run(["ask", "Where?"]) == 0
    assert capsys.readouterr() == ("Paris.\n", "")


def test_asking_for_the_cloud_without_a_policy_says_what_to_do(
    model: Model, home: Path, capsys: Captured
) -> None:
    assert cli.run(["ask", "Where?", "--cloud"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "`ondevice route init` writes one" in err and err.count("\n") == 1


def test_init_writes_a_policy_once_and_ask_goes_on_as_before(
    model: Model, home: Path, capsys: Captured
) -> None:
    assert cli.run(["route", "init"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == home / "policy.toml"
    assert 'consent = "never"' in path.read_text(encoding="utf-8")
    assert cli.run(["ask", "Where?"]) == 0
    assert capsys.readouterr() == ("Paris.\n", "")
    path.write_text("# mine\n", encoding="utf-8")
    assert cli.run(["route", "init"]) == 2
    assert "--force" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "# mine\n"
    assert cli.run(["route", "init", "--force"]) == 0
    assert "consent" in path.read_text(encoding="utf-8")


def test_a_policy_with_a_mistake_stops_ask_with_its_line(
    model: Model, home: Path, capsys: Captured
) -> None:
    path = write_policy(home, None, '\nconsnet = "ask"')
    assert cli.run(["ask", "Where?"]) == 2
    expected = f"ondevice: {path}, line 2: unknown key 'consnet'; did you mean 'consent'?\n"
    assert capsys.readouterr() == ("", expected)


def test_the_cloud_answers_where_the_policy_lets_it_and_the_ledger_has_it(
    model: Model, home: Path, server: Server, capsys: Captured
) -> None:
    write_policy(home, server, 'consent = "always"')
    assert cli.run(["ask", "Write to a.b@example.com", "--cloud"]) == 0
    assert capsys.readouterr() == (f"{CLOUD_SAYS}\n", "")
    assert len(server.bodies) == 1
    assert b"a.b@example.com" not in server.bodies[0]
    assert (home / "ledger.sqlite").exists()
    log = (home / "audit.jsonl").read_text(encoding="utf-8")
    assert str(len(server.bodies[0])) in log and "example.com" not in log


@pytest.mark.parametrize(
    ("policy", "arguments"),
    [
        ('consent = "never"', ["--cloud"]),
        ('consent = "always"', ["--cloud", "--class", "restricted"]),
        ('consent = "always"', ["--cloud", "--class", "personal"]),
        ('consent = "always"', ["--no-cloud"]),
        ('consent = "always"', []),  # uncalibrated: not by itself
        ('consent = "ask"', ["--cloud"]),  # in a pipe nobody can be asked
        ('consent = "session"', ["--cloud"]),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"], ["--no-stream"]])
def test_nothing_reaches_the_server_where_the_policy_does_not_allow_it(
    policy: str, arguments: list[str], form: list[str], model: Model, home: Path, server: Server,
    capsys: Captured,
) -> None:  # fmt: skip
    write_policy(home, server, policy)
    assert cli.run(["ask", "Where?", *arguments, *form]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["text"] if form == ["--json"] else out.strip()) == "Paris."
    assert server.bodies == []
    wished = "--cloud" in arguments and form != ["--json"]
    assert err.startswith("ondevice: this is the local answer") is wished


def test_restricted_data_stays_even_when_the_policy_is_wrong_about_it(
    model: Model, home: Path, server: Server, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ondevice.runtime.fallback.policy.Policy.may_leave", lambda *_: True)
    write_policy(home, server, 'consent = "always"')
    assert cli.run(["ask", "Where?", "--cloud", "--class", "Restricted", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["text"], answer["failure"]) == ("Paris.", "restricted")
    assert server.bodies == []


def test_the_off_switch_stops_what_the_policy_allows(
    model: Model, home: Path, server: Server, capsys: Captured
) -> None:
    write_policy(home, server, 'consent = "always"')
    assert cli.run(["cloud", "off"]) == 0
    assert cli.run(["ask", "Where?", "--cloud", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (answer["text"], answer["escalation"]) == ("Paris.", "not-allowed")
    assert "off-switch" in answer["reason"]
    assert server.bodies == []
    assert cli.run(["cloud", "on"]) == 0
    assert cli.run(["ask", "Where?", "--cloud"]) == 0
    assert len(server.bodies) == 1


@pytest.mark.parametrize("typed", ["", "\n", "n\n", "yes please\n"])
def test_at_a_terminal_ask_defaults_to_no(
    typed: str, model: Model, home: Path, server: Server, capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    write_policy(home, server, 'consent = "ask"')
    at_terminal(monkeypatch, typed)
    assert cli.run(["ask", "Where?", "--cloud"]) == 0
    out, err = capsys.readouterr()
    assert (out, server.bodies) == ("Paris.\n", [])
    assert "Send it? [y/N]" in err and "declined" in err


def test_at_a_terminal_a_yes_sends_what_was_shown(
    model: Model, home: Path, server: Server, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(home, server, 'consent = "ask"')
    at_terminal(monkeypatch, "y\n")
    assert cli.run(["ask", "Write to a.b@example.com", "--cloud"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{CLOUD_SAYS}\n"
    assert f"what leaves: {len(server.bodies[0]):,} bytes" in err
    assert "1 email" in err and server.url in err and "at most $0" in err
    assert "from large" in err  # the footer


def test_json_under_a_policy_follows_the_schema_wherever_the_answer_is_from(
    model: Model, home: Path, server: Server, capsys: Captured
) -> None:
    path = resources.files("ondevice") / "schemas" / "ask.schema.json"
    validator = Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))
    write_policy(home, server, 'consent = "always"')
    assert cli.run(["ask", "Where?", "--json", "--cloud"]) == 0
    assert cli.run(["ask", "Where?", "--json"]) == 0
    server.answer = lambda: Response("overloaded", status=503)
    assert cli.run(["ask", "Where?", "--json", "--cloud"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for answer in found:
        validator.validate(answer)
    assert [answer["source"] for answer in found] == ["cloud", "device", "device"]
    assert [answer["escalation"] for answer in found] == ["answered", "not-needed", "failed"]
    assert [answer["failure"] for answer in found] == ["", "", "server"]
    assert (found[0]["text"], found[0]["output_tokens"]) == (CLOUD_SAYS, 6)
    assert found[2]["text"] == "Paris."


def test_a_failure_is_told_in_a_pipe_too(
    model: Model, home: Path, server: Server, capsys: Captured
) -> None:
    write_policy(home, server, 'consent = "always"')
    server.answer = lambda: Response("<html>sign in</html>", content_type="text/html")
    assert cli.run(["ask", "Where?", "--cloud"]) == 0
    out, err = capsys.readouterr()
    assert out == "Paris.\n"
    assert err.startswith("ondevice: this is the local answer, not the cloud's (portal): ")
    assert err.count("\n") == 1


def test_a_budget_that_is_spent_leaves_the_local_answer(
    model: Model, home: Path, server: Server, capsys: Captured
) -> None:
    price = "[endpoint.price]\ninput_per_million = 1.0\noutput_per_million = 1000.0\n"
    path = write_policy(home, server, 'consent = "always"')
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{price}[budget]\nper_request_usd = 0.01\n")
    assert cli.run(["ask", "Where?", "--cloud", "--json", "--max-tokens", "100"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["text"], answer["failure"], server.bodies) == ("Paris.", "budget", [])
    assert cli.run(["ask", "Where?", "--cloud", "--json", "--max-tokens", "4"]) == 0
    assert json.loads(capsys.readouterr().out)["cost_usd"] == pytest.approx(9e-6 + 6e-3)


def test_chat_goes_on_with_the_clouds_answer_in_its_history(
    model: Model, home: Path, server: Server, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(home, server, 'consent = "always"')
    stdin = io.TextIOWrapper(io.BytesIO(b"One?\nTwo?\n"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", stdin)
    assert cli.run(["chat", "--cloud", "--system", "Be brief."]) == 0
    assert capsys.readouterr().out == f"{CLOUD_SAYS}\n" * 2
    roles = [(m["role"], m["content"]) for m in json.loads(server.bodies[1])["messages"]]
    assert roles == [
        ("system", "Be brief."),
        ("user", "One?"),
        ("assistant", CLOUD_SAYS),
        ("user", "Two?"),
    ]


def test_chat_json_has_the_fields_of_ask(
    model: Model, home: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(home, None)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"One?\n"), encoding="utf-8"))
    assert cli.run(["chat", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["escalation"] == "not-needed"


def test_a_provisional_draft_stays_out_of_a_pipe(
    model: Model, home: Path, server: Server, capsys: Captured
) -> None:
    rule = '[tasks.check]\nmode = "revise"\nanswer_matches = "London"\n'
    path = write_policy(home, server, 'consent = "always"\nmode = "revise"')
    with path.open("a", encoding="utf-8") as file:
        file.write(rule)
    assert cli.run(["ask", "Where?", "--task", "check"]) == 0
    assert capsys.readouterr().out == f"{CLOUD_SAYS}\n"
    assert cli.run(["ask", "Where?"]) == 0
    assert capsys.readouterr().out == "Paris.\n"


def test_explain_shows_every_reason_and_opens_no_connection(
    home: Path, server: Server, capsys: Captured
) -> None:
    text = 'consent = "ask"\n[[rules]]\nname = "news"\nsend = "cloud"\nneeds = ["current-events"]'
    write_policy(home, server, text)

    def explain(*arguments: str) -> dict[str, Any]:
        assert cli.run(["route", "explain", *arguments, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    news = explain("What is the latest news?", "--class", "restricted")
    assert [reason["step"] for reason in news["before"]["reasons"]] == [
        "request", "consent", "endpoint", "class", "network", "rule", "router",
    ]  # fmt: skip
    assert [r["step"] for r in news["before"]["reasons"] if r["bars"]] == ["consent", "class"]
    assert (news["before"]["wanted"], news["before"]["where"]) == (True, "device")
    assert news["after"] is None
    assert explain("What is a lock file?")["before"]["wanted"] is False
    assert server.bodies == []
    assert cli.run(["route", "explain", "What is the latest news?"]) == 0
    out = capsys.readouterr().out
    assert "the rule 'news' sends it to the cloud" in out
    assert "-> device: " in out


def test_explain_judges_a_draft_when_asked(model: Model, home: Path, capsys: Captured) -> None:
    path = write_policy(home, None, "threshold = 0.8")
    assert cli.run(["route", "explain", "Where?", "--draft", "--json", "--policy", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    steps = [reason["step"] for reason in found["after"]["reasons"]]
    assert steps[-2:] == ["check", "confidence"]
    assert "not calibrated" in found["after"]["reasons"][-1]["text"]
    assert cli.run(["route", "explain", "Where?", "--draft"]) == 0
    assert "after its answer:" in capsys.readouterr().out


def test_explain_without_a_policy_says_that_nothing_leaves(capsys: Captured) -> None:
    assert cli.run(["route", "explain", "Where?"]) == 0
    assert capsys.readouterr().out.startswith("policy: none, so the default: nothing leaves\n")


def test_explain_of_a_model_that_is_not_there_is_an_error(capsys: Captured) -> None:
    assert cli.run(["route", "explain", "Where?", "--model", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_revise_at_a_terminal_takes_the_draft_off_the_screen_again(
    model: Model, home: Path, server: Server, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_policy(home, server, 'consent = "always"\nmode = "revise"')
    with path.open("a", encoding="utf-8") as file:
        file.write('[tasks.check]\nanswer_matches = "London"\n')
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert cli.run(["ask", "Where?", "--task", "check"]) == 0
    shown, erased, rest = capsys.readouterr().out.rpartition("\x1b[2K")
    assert "Paris." in shown and erased
    assert rest.endswith(f"{CLOUD_SAYS}\n") and "Paris.\n" not in rest.replace(CLOUD_SAYS, "")


def test_ask_follows_a_schema_and_refuses_what_is_none(
    monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path, capsys: Captured
) -> None:
    made, _ = scripted_model('{"city":"Paris"}')
    monkeypatch.setattr("ondevice.runtime.model.load", lambda *_, **__: made)
    monkeypatch.setattr(made.engine, "close", lambda: None)
    schema = tmp_path / "city.schema.json"
    schema.write_text(
        json.dumps(
            {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            }
        )
    )
    assert cli.run(["ask", "Where?", "--schema", str(schema)]) == 0
    assert json.loads(capsys.readouterr().out) == {"city": "Paris"}
    for text in ("{", '{"type": "strng"}', "[]"):
        schema.write_text(text)
        assert cli.run(["ask", "Where?", "--schema", str(schema)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert cli.run(["ask", "Where?", "--schema", str(tmp_path / "none.json")]) == 2
    assert "cannot read" in capsys.readouterr().err
