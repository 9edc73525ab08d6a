from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ondevice.package import Package
from ondevice.runtime.answer import Options, Signals
from ondevice.runtime.confidence.features import NAMES, features
from ondevice.runtime.model import conversation, load

TOKENS = st.lists(
    st.tuples(st.floats(-30, 0), st.floats(0, 12), st.floats(0, 1e4)), min_size=1, max_size=40
)


def by_name(signals: Signals, reason: str = "stop") -> dict[str, float]:
    values = features(signals, reason)  # type: ignore[arg-type]
    return dict(zip(NAMES, values.tolist(), strict=True))


@given(TOKENS)
def test_features_are_finite_and_ordered_as_quantiles_are(
    tokens: list[tuple[float, float, float]],
) -> None:
    found = by_name(Signals(*zip(*tokens, strict=True)))
    assert np.isfinite(list(found.values())).all()
    order = [found[f"logprob_{name}"] for name in ("min", "q10", "q25", "q50")]
    assert order == sorted(order)
    assert found["logprob_min"] <= found["logprob_mean"] + 1e-9
    assert found["entropy_mean"] <= found["entropy_max"] + 1e-9
    assert found["margin_min"] <= 20


def test_features_of_two_tokens_are_as_computed_by_hand() -> None:
    found = by_name(Signals((-1.0, -3.0), (0.5, 1.5), (4.0, 2.0)), "length")
    assert found["logprob_mean"] == -2
    assert found["logprob_sum"] == -4
    assert found["logprob_first"] == -1
    assert found["entropy_max"] == 1.5
    assert found["margin_min"] == 2
    assert found["log_length"] == np.log(2)
    assert found["cut"] == 1


def test_an_answer_without_tokens_is_a_cut_one_and_all_else_is_zero() -> None:
    found = by_name(Signals(), "cancelled")
    assert found.pop("cut") == 1
    assert set(found.values()) == {0.0}


def test_hidden_states_are_the_mean_over_the_prompts_end_and_every_token_fed_back(
    tiny_package: Package,
) -> None:
    with load(tiny_package, threads=1) as model:
        answer = model.generate("the cat", Options(max_tokens=5))
        ids = list(model.prepare(conversation("the cat")).tokens)
        model.engine.rewind(0)
        model.engine.prefill(ids)
        states = [model.engine.hidden]
        for token in answer.tokens[:-1]:
            model.engine.decode(token)
            states.append(model.engine.hidden)
    assert answer.signals.prompt_hidden is not None
    assert states[0] is not None
    assert answer.signals.prompt_hidden.shape == (tiny_package.manifest.shape.hidden_size,)
    np.testing.assert_allclose(answer.signals.prompt_hidden, states[0], atol=1e-4)
    expected = np.mean(np.stack([s for s in states if s is not None]), axis=0)
    np.testing.assert_allclose(answer.signals.answer_hidden, expected, atol=1e-4)
