from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from confidence_data import write_encoder
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import CalibrationError
from ondevice.runtime.confidence.ngrams import BUCKETS, HEAD, TAIL, ngrams
from ondevice.runtime.confidence.router import EncoderRouter, Router, encoder_identity, sigmoid


@given(st.text(max_size=300))
def test_any_text_has_buckets_in_range_each_once(text: str) -> None:
    found = ngrams(text)
    assert len(set(found.tolist())) == len(found)
    assert all(0 <= bucket < BUCKETS for bucket in found)


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=80))
def test_case_white_space_and_digits_do_not_count(text: str) -> None:
    other = "  " + text.upper().replace(" ", "\n ") + " "
    changed = "".join("7" if c.isdigit() else c for c in other)
    assert ngrams(text).tolist() == ngrams(changed).tolist()


def test_buckets_are_the_same_in_every_process() -> None:
    code = (
        "from ondevice.runtime.confidence.ngrams import ngrams;"
        "print(ngrams('Wie spät ist es? 12:30').tolist())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == ngrams("Wie spät ist es? 12:30").tolist()
    assert ngrams("Add 1 and 2.").tolist()[:5] == [169, 295, 432, 1214, 1344]


def test_different_tasks_share_fewer_buckets_than_wordings_of_one() -> None:
    one = set(ngrams("Extract the name and the date as JSON from: Ann, 3 May").tolist())
    like = set(ngrams("Extract the city and the date as JSON from: Oslo, 9 June").tolist())
    other = set(ngrams("Correct the spelling of this sentence: I hav a dgo").tolist())
    assert len(one & like) > 2 * len(one & other)


def test_the_middle_of_a_very_long_prompt_does_not_count() -> None:
    start, end = "a question " * (HEAD // 11 + 1), " an end" * (TAIL // 7 + 1)
    assert (
        ngrams(start + "zebra " * 999 + end).tolist()
        == ngrams(start + "quartz " * 999 + end).tolist()
    )


def router(**changes: object) -> Router:
    found = ngrams("add two numbers")
    values = {
        "weights": tuple(np.linspace(-1, 1, len(found)).tolist()),
        "index": tuple(found.tolist()),
        "intercept": 0.25,
        "slope": 2.0,
        "offset": -0.5,
        "weight": 1.0,
    }
    return Router(**{**values, **changes})  # type: ignore[arg-type]


def test_the_logit_is_the_sum_of_weights_over_the_length_of_the_row() -> None:
    one = router(weights=(3.0,) * len(router().index))
    assert one.logit("add two numbers") == pytest.approx(3 * np.sqrt(len(one.index)) + 0.25)
    assert one.logit("") == pytest.approx(0.25, abs=3)
    assert one.prior(0.25) == pytest.approx(sigmoid(0.0))


def test_a_router_whose_parts_do_not_fit_is_refused() -> None:
    with pytest.raises(CalibrationError, match=r"router\.index has 1 entries"):
        router(index=(1,))
    with pytest.raises(CalibrationError, match="outside"):
        router(index=(BUCKETS,), weights=(1.0,))


def test_the_sigmoid_does_not_overflow() -> None:
    assert sigmoid(-1e6) == 0 and sigmoid(1e6) == 1 and sigmoid(0) == 0.5


def test_an_encoder_gives_the_mean_of_its_hidden_states(tmp_path: Path) -> None:
    encoder = EncoderRouter(write_encoder(tmp_path / "encoder"))
    one, two, both = (encoder.embed(text) for text in ("add", "two", "add two"))
    assert both == pytest.approx((one + two) / 2)
    assert encoder.embed("").shape == (4,)


def test_an_encoder_with_a_sentence_embedding_is_taken_at_its_word(tmp_path: Path) -> None:
    deep = EncoderRouter(write_encoder(tmp_path / "deep"))
    flat = EncoderRouter(write_encoder(tmp_path / "flat", rank=2))
    expected = np.maximum(deep.embed("add"), deep.embed("two"))
    assert flat.embed("add two") == pytest.approx(expected)


def test_a_router_over_an_encoder_is_linear_in_the_embedding(tmp_path: Path) -> None:
    encoder = EncoderRouter(write_encoder(tmp_path / "encoder"))
    weights = (1.0, -2.0, 0.5, 0.0)
    over = Router(weights, 0.1, 1.0, 0.0, 1.0, encoder=encoder_identity(encoder.folder))
    expected = float(np.array(weights) @ encoder.embed("add numbers")) + 0.1
    assert over.logit("add numbers", encoder) == pytest.approx(expected)
    with pytest.raises(CalibrationError, match="needs its encoder"):
        over.logit("add numbers")


def test_a_folder_without_an_encoder_says_how_to_export_one(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"no model\.onnx.*optimum-cli export onnx"):
        EncoderRouter(tmp_path)
    folder = write_encoder(tmp_path / "encoder")
    (folder / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(CalibrationError, match="cannot be read"):
        EncoderRouter(folder)


def test_a_language_model_is_no_encoder(tmp_path: Path, tiny_package: object) -> None:
    with pytest.raises(CalibrationError, match="is no encoder"):
        EncoderRouter(tiny_package.folder)  # type: ignore[attr-defined]
