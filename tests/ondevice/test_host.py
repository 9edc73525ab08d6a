from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import tiny_tokenizers as tiny

from ondevice.errors import EngineError, RequestError
from ondevice.host import Ask, BusyError, GoneError, Host, Stage, Turns
from ondevice.package import Package
from ondevice.runtime.answer import Answer, Message, Options, Piece
from ondevice.runtime.clock import ScriptedClock
from ondevice.runtime.fallback.fallback import Fallback
from ondevice.runtime.fallback.policy import Policy
from ondevice.runtime.fallback.reply import Draft, Final
from ondevice.runtime.model import Model
from ondevice.runtime.scripted import ScriptedEngine

END = 2
VOCAB = 700
QUESTION = Ask((Message("user", "Where is it?"),))


def named(package: Package, name: str) -> Package:
    return replace(package, manifest=replace(package.manifest, name=name))


class Opener:
    """Opens scripted models that say their own name, and remembers which, and which it closed."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.engines: dict[str, ScriptedEngine] = {}

    def __call__(self, package: Package) -> Fallback:
        name = package.manifest.name
        self.opened.append(name)
        tokenizer = tiny.byte_level()
        script = [*tokenizer.encode(f"I am {name}."), END]
        engine = ScriptedEngine(script, vocab_size=VOCAB)
        self.engines[name] = engine
        model = Model(engine, tokenizer, name=name, eos_ids=(END,), package=package)
        return Fallback(model)


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def make(tiny_package: Package, opener: Opener) -> Iterator[Callable[..., Host]]:
    hosts: list[Host] = []

    def host(*names: str, **more: int) -> Host:
        packages = [named(tiny_package, name) for name in names or ("one",)]
        hosts.append(Host(packages, open_model=opener, **more))  # type: ignore[arg-type]
        return hosts[-1]

    yield host
    for made in hosts:
        made.close()


def said(host: Host, ask: Ask = QUESTION) -> str:
    with host.stream(ask) as turn:
        *_, final = turn
    assert isinstance(final, Final)
    return final.reply.text


def test_a_model_is_opened_when_first_asked_for_and_kept(
    make: Callable[..., Host], opener: Opener
) -> None:
    host = make("one", "two")
    assert opener.opened == []
    assert said(host) == said(host) == "I am one."
    assert opener.opened == ["one"]


def test_the_model_used_longest_ago_is_closed_for_another(
    make: Callable[..., Host], opener: Opener
) -> None:
    host = make("one", "two")
    said(host)
    assert said(host, replace(QUESTION, model="two")) == "I am two."
    assert opener.engines["one"].closed
    assert host.open_names == ("two",)


def test_several_models_can_be_kept_open(make: Callable[..., Host], opener: Opener) -> None:
    host = make("one", "two", keep_open=2)
    for name in ("one", "two", "one"):
        said(host, replace(QUESTION, model=name))
    assert opener.opened == ["one", "two"]
    assert host.open_names == ("two", "one")


def test_an_unknown_model_is_named_with_its_neighbour(make: Callable[..., Host]) -> None:
    with pytest.raises(RequestError, match="no model 'onne'; did you mean 'one'"):
        make("one").stream(replace(QUESTION, model="onne"))


def test_without_any_model_the_remedy_is_named() -> None:
    with Host([]) as host, pytest.raises(RequestError, match="ondevice pull"):
        host.stream(QUESTION)


def test_drafts_come_before_the_one_final(make: Callable[..., Host]) -> None:
    with make().stream(QUESTION) as turn:
        *drafts, final = turn
    assert isinstance(final, Final)
    assert drafts and all(isinstance(draft, Draft) for draft in drafts)
    assert "".join(d.text for d in drafts if isinstance(d, Draft)) == final.reply.text


def test_pieces_end_with_the_answer(make: Callable[..., Host]) -> None:
    with make().pieces(replace(QUESTION, options=Options(max_tokens=2))) as turn:
        *pieces, answer = turn
    assert isinstance(answer, Answer)
    assert [p.logprob for p in pieces if isinstance(p, Piece)] == list(answer.logprobs)


def test_the_line_is_bounded_and_says_how_long_to_wait(make: Callable[..., Host]) -> None:
    host = make(queue=1)
    first, second = host.stream(QUESTION), host.stream(QUESTION)
    with pytest.raises(BusyError) as busy:
        host.stream(QUESTION)
    assert busy.value.retry_after_s >= 1
    second.close()
    host.stream(QUESTION).close()
    first.close()
    assert not host.turns.busy


def test_answers_come_in_the_order_of_the_line(make: Callable[..., Host]) -> None:
    host = make(queue=4)
    turns = [host.stream(QUESTION) for _ in range(4)]
    order: list[int] = []

    def read(number: int) -> None:
        for _ in turns[number]:
            pass
        order.append(number)

    threads = [threading.Thread(target=read, args=(n,)) for n in (3, 2, 1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3]


def test_stages_tell_of_the_line_and_of_loading(make: Callable[..., Host]) -> None:
    host = make()
    first = host.stream(QUESTION)
    stages: list[Stage] = []
    queued = threading.Event()

    def tell(stage: Stage) -> None:
        stages.append(stage)
        queued.set()

    second = host.stream(QUESTION, tell=tell)
    thread = threading.Thread(target=lambda: list(second))
    thread.start()
    assert queued.wait(10)
    first.close()
    thread.join(10)
    assert [stage.name for stage in stages] == ["queued", "loading", "ready"]
    assert stages[0].ahead == 1


def test_who_leaves_the_line_is_never_answered(make: Callable[..., Host], opener: Opener) -> None:
    host = make()
    gone = threading.Event()
    first, second = host.stream(QUESTION), host.stream(QUESTION, cancelled=gone)
    gone.set()
    with pytest.raises(GoneError):
        next(second)
    first.close()
    assert opener.opened == []
    assert not host.turns.busy


def test_a_cancelled_answer_is_what_there_is_of_it(make: Callable[..., Host]) -> None:
    host = make()
    cancelled = threading.Event()
    with host.stream(QUESTION, cancelled=cancelled) as turn:
        next(turn)
        cancelled.set()
        *_, final = turn
    assert isinstance(final, Final) and final.reply.local is not None
    assert final.reply.local.finish_reason == "cancelled"
    assert "I am one.".startswith(final.reply.text)
    assert said(host) == "I am one."


def test_an_error_in_an_answer_gives_the_turn_back(tiny_package: Package) -> None:
    def broken(package: Package) -> Fallback:
        raise EngineError("cannot load")

    with Host([tiny_package], open_model=broken) as host:
        for _ in range(3):
            with host.stream(QUESTION) as turn, pytest.raises(EngineError):
                next(turn)
        assert not host.turns.busy


def test_opening_ahead_makes_the_first_answer_load_nothing(
    make: Callable[..., Host], opener: Opener
) -> None:
    host = make("one", "two")
    host.open("two")
    assert opener.opened == ["two"]
    said(host, replace(QUESTION, model="two"))
    assert opener.opened == ["two"]


def test_a_model_offered_anew_is_opened_anew(
    make: Callable[..., Host], opener: Opener, tiny_package: Package
) -> None:
    host = make("one")
    said(host)
    host.offer([named(tiny_package, "two")])
    assert said(host) == "I am two."
    assert opener.engines["one"].closed
    with pytest.raises(RequestError):
        host.stream(replace(QUESTION, model="one"))


def test_closing_ends_the_answer_being_made_and_frees_the_models(
    make: Callable[..., Host], opener: Opener
) -> None:
    host = make()
    started, go_on = threading.Event(), threading.Event()
    finish: list[str] = []

    def read() -> None:
        with host.stream(QUESTION) as turn:
            for event in turn:
                started.set()
                go_on.wait(10)
                if isinstance(event, Final) and event.reply.local is not None:
                    finish.append(event.reply.local.finish_reason)

    thread = threading.Thread(target=read)
    thread.start()
    assert started.wait(10)
    closing = threading.Thread(target=host.close)
    closing.start()
    while not host.turns.closed:
        time.sleep(0.001)
    go_on.set()
    closing.join(10)
    thread.join(10)
    assert finish == ["cancelled"]
    assert opener.engines["one"].closed
    with pytest.raises(RequestError, match="closing"):
        host.stream(QUESTION)


def test_the_wait_grows_with_the_length_of_answers() -> None:
    clock = ScriptedClock()
    turns = Turns(0, clock)
    for _ in range(30):
        with turns.taken(turns.enter(), lambda: False, lambda _: None):
            clock.advance(8.0)
    ticket = turns.enter()
    with pytest.raises(BusyError) as busy:
        turns.enter()
    turns.leave(ticket)
    assert busy.value.retry_after_s == pytest.approx(8.0, rel=0.01)


def test_another_policy_holds_from_the_next_question_on_without_loading_again(
    tiny_package: Package, opener: Opener
) -> None:
    policies: list[Policy] = []

    def build(model: Model, policy: Policy) -> Fallback:
        policies.append(policy)
        return Fallback(model, policy)

    with Host([named(tiny_package, "one")], open_model=opener, build=build) as host:
        said(host)
        assert policies == []
        host.set_policy(Policy(mode="peek"))
        said(host)
        said(host)
        assert [policy.mode for policy in policies] == ["peek"]
        assert opener.opened == ["one"]
