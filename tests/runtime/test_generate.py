from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import tiny_tokenizers as tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice.errors import EngineError, RequestError
from ondevice.runtime.answer import Options
from ondevice.runtime.clock import ScriptedClock
from ondevice.runtime.engine import Logits
from ondevice.runtime.generate import CHUNK, Context, Generation, generate
from ondevice.runtime.scripted import ScriptedEngine, one_hot

VOCAB = 700
END = 2  # <|im_end|>
PROMPT = [300, 301, 302]


def ids_of(text: str) -> list[int]:
    return tiny.byte_level().encode(text)


def saying(text: str, *, end: bool = True, **more: object) -> ScriptedEngine:
    script = ids_of(text) + [END] * end
    return ScriptedEngine(script, vocab_size=VOCAB, **more)  # type: ignore[arg-type]


def hashed(history: Sequence[int]) -> Logits:
    """Logits that depend on every token before: a wrong KV cache gives other ones."""
    return np.random.default_rng(tuple(history)).normal(0, 3, VOCAB).astype(np.float32)


def run(engine: ScriptedEngine | Context, **more: object) -> Generation:
    options = {k: more.pop(k) for k in list(more) if k in Options.__dataclass_fields__}
    prompt = more.pop("prompt", PROMPT)
    made = generate(
        engine,
        tiny.byte_level(),
        prompt,
        Options(**options),
        eos_ids=(END,),
        **more,  # type: ignore[arg-type]
    )
    made.pieces = list(made)  # type: ignore[attr-defined]
    return made


def test_an_answer_ends_at_the_end_token_which_has_no_text() -> None:
    done = run(saying("Paris is the capital."))
    assert (done.text, done.finish_reason) == ("Paris is the capital.", "stop")
    assert done.tokens == [*ids_of("Paris is the capital."), END]


def test_an_answer_has_at_most_max_tokens() -> None:
    done = run(saying("Paris is the capital of France."), max_tokens=3)
    assert (len(done.tokens), done.finish_reason) == (3, "length")
    assert done.text == tiny.byte_level().decode(done.tokens)


def test_an_answer_ends_where_the_context_does() -> None:
    engine = ScriptedEngine([300], vocab_size=VOCAB, context_length=10)
    done = run(engine)
    assert done.finish_reason == "length"
    assert len(done.tokens) == 10 - len(PROMPT) + 1  # the last one need not fit any more
    assert engine.position == 10


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 620), min_size=1, max_size=40),
    st.lists(st.text(min_size=1, max_size=3), max_size=2).map(tuple),
    st.integers(1, 45),
)
def test_pieces_joined_are_the_text_up_to_the_stop(
    ids: list[int], stop: tuple[str, ...], most: int
) -> None:
    done = run(ScriptedEngine([*ids, END], vocab_size=VOCAB), stop=stop, max_tokens=most)
    assert "".join(piece.text for piece in done.pieces) == done.text  # type: ignore[attr-defined]
    assert [piece.token for piece in done.pieces] == done.tokens  # type: ignore[attr-defined]
    whole = tiny.byte_level().decode(done.tokens)
    assert whole.startswith(done.text)
    assert not any(s in done.text for s in stop)
    if not any(s in whole for s in stop):
        assert done.text == whole
    else:
        assert done.finish_reason == "stop"


def test_a_stop_string_across_tokens_never_shows_a_part_of_itself() -> None:
    done = run(saying("The dog.\n\nUser: what", end=False), stop=("\n\nUser",))
    assert (done.text, done.finish_reason) == ("The dog.", "stop")
    assert "\n" not in "".join(piece.text for piece in done.pieces)  # type: ignore[attr-defined]


def test_text_that_only_began_a_stop_string_is_given_out_at_the_end() -> None:
    assert run(saying("The dog.\n\nUs"), stop=("\n\nUser",)).text == "The dog.\n\nUs"
    assert run(saying("ab\n"), stop=("\n\n",), max_tokens=50).text == "ab\n"


def test_times_are_exactly_the_scripted_ones() -> None:
    clock = ScriptedClock(100.0)
    engine = saying(
        "Paris", clock=clock, prefill_s=0.25, fixed_prefill_s=1.0, decode_s=(0.5, 0.125)
    )
    done = run(engine, clock=clock)
    first = 1.0 + 0.25 * len(PROMPT)
    assert done.timings.prefill == first == done.timings.ttft
    steps = [0.5, 0.125] * len(done.tokens)
    expected = [first + sum(steps[:n]) for n in range(len(done.tokens))]
    assert list(done.timings.token_times) == expected


def test_time_to_first_token_has_three_parts() -> None:
    clock = ScriptedClock(5.0, tick=1.0)  # a second passes between any two looks at the clock
    engine = saying("Paris", clock=clock)
    made = Generation(
        Context(engine), tiny.byte_level(), PROMPT, Options(), clock=clock, tokenize_s=8.0
    )
    next(iter(made))
    timings = made.timings
    assert (timings.tokenize, timings.prefill, timings.first_sample) == (8.0, 1.0, 1.0)
    assert timings.ttft == 10.0


def test_long_prompts_are_prefilled_in_chunks() -> None:
    engine = saying("a", context_length=5000)
    run(engine, prompt=[300] * (2 * CHUNK + 7))
    assert engine.prefilled == [CHUNK, CHUNK, 7]


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(300, 302), min_size=1, max_size=8), min_size=1, max_size=5),
    st.integers(1, 4),
)
def test_answers_with_a_reused_cache_equal_those_of_a_fresh_one(
    prompts: list[list[int]], most: int
) -> None:
    shared = Context(ScriptedEngine(hashed, vocab_size=VOCAB))
    for prompt in prompts:
        again = run(shared, prompt=prompt, max_tokens=most)
        fresh = run(ScriptedEngine(hashed, vocab_size=VOCAB), prompt=prompt, max_tokens=most)
        assert again.tokens == fresh.tokens
        assert again.signals.logprobs == fresh.signals.logprobs


def test_a_conversation_that_goes_on_computes_only_what_is_new() -> None:
    engine = saying("Paris", end=False)
    context = Context(engine)
    first = run(context, max_tokens=4)
    again = run(context, prompt=[*PROMPT, *first.tokens, 400, 401])
    assert again.cached_tokens == len(PROMPT) + 3  # the last token was chosen, never computed
    assert engine.prefilled == [3, 3]
    same = run(context, prompt=[*PROMPT, *first.tokens, 400, 401])
    assert same.cached_tokens == len(same.prompt) - 1  # one is needed for its logits


def test_log_probabilities_are_those_of_the_raw_logits() -> None:
    done = run(ScriptedEngine([300, END], vocab_size=VOCAB), repetition_penalty=1.3)
    expected = -math.log(1 + (VOCAB - 1) * math.exp(-20))
    assert done.signals.logprobs == pytest.approx([expected] * 2, abs=1e-6)


def test_should_stop_ends_the_answer_and_leaves_the_engine_usable() -> None:
    context = Context(saying("Paris is the capital of France."))
    asked = iter([False, False, False, True])
    done = run(context, should_stop=lambda: next(asked))
    assert (done.finish_reason, len(done.tokens)) == ("cancelled", 3)
    assert run(context).text == "Paris is the capital of France."


def test_should_stop_is_asked_between_the_chunks_of_a_prompt() -> None:
    engine = saying("a", context_length=5000)
    asked = iter([False, True])
    done = run(engine, prompt=[300] * 2000, should_stop=lambda: next(asked))
    assert (done.finish_reason, done.tokens, done.timings.token_times) == ("cancelled", [], ())
    assert engine.prefilled == [CHUNK]


def test_leaving_the_iteration_cancels_and_leaves_the_engine_usable() -> None:
    context = Context(saying("Paris is the capital of France."))
    made = generate(context, tiny.byte_level(), PROMPT, Options(), eos_ids=(END,))
    pieces = iter(made)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert (made.finish_reason, len(made.tokens)) == ("cancelled", 1)
    assert run(context).text == "Paris is the capital of France."


class Failing(ScriptedEngine):
    """Breaks in the middle of its third decode step, after the token went in."""

    broken = 3

    def decode(self, token: int) -> Logits:
        logits = super().decode(token)
        self.broken -= 1
        if self.broken == 0:
            raise KeyboardInterrupt
        return logits


def test_an_interrupted_step_does_not_spoil_the_next_answer() -> None:
    engine = Failing(hashed, vocab_size=VOCAB)
    context = Context(engine)
    with pytest.raises(KeyboardInterrupt):
        run(context, max_tokens=6)
    fresh = run(ScriptedEngine(hashed, vocab_size=VOCAB), max_tokens=6)
    assert run(context, max_tokens=6).tokens == fresh.tokens


def test_a_prompt_as_long_as_the_context_is_refused_with_both_lengths_and_a_way_out() -> None:
    engine = saying("a", context_length=8)
    with pytest.raises(RequestError, match=r"9 tokens.*holds 8.*--truncate"):
        run(engine, prompt=[300] * 9)
    with pytest.raises(RequestError):
        run(engine, prompt=[300] * 8)
    assert run(engine, prompt=[300] * 7).text == "a"
    with pytest.raises(RequestError, match="empty"):
        run(engine, prompt=[])


def test_logits_that_are_not_numbers_are_an_engine_error() -> None:
    engine = ScriptedEngine(lambda _: one_hot(3, VOCAB, math.nan), vocab_size=VOCAB)
    with pytest.raises(EngineError):
        run(engine)


def test_a_seed_makes_a_sampled_answer_repeatable() -> None:
    runs = [
        run(ScriptedEngine(hashed, vocab_size=VOCAB), temperature=1.0, seed=s, max_tokens=20).tokens
        for s in (1, 1, 2)
    ]
    assert runs[0] == runs[1] != runs[2]
