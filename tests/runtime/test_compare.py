from __future__ import annotations

import dataclasses
import json

import pytest
from bench_fakes import DEVICE, model, result
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import RequestError
from ondevice.runtime.bench_result import ModelInfo
from ondevice.runtime.compare import Row, compare

SPEEDS = st.lists(st.floats(0.1, 1e6), min_size=4, max_size=9)


def row(rows: tuple[Row, ...], metric: str = "pp512") -> Row:
    return next(r for r in rows if r.metric == metric)


def test_the_ratio_is_that_of_the_medians_b_over_a() -> None:
    found = compare(result((10, 20, 30, 40)), result((50, 50, 50, 50)))
    assert row(found.rows).ratio == 2
    assert row(found.rows).b_better is True
    assert found.differences == ()


def test_lower_memory_is_better() -> None:
    found = row(compare(result(), result()).rows, "peak memory")
    assert (found.ratio, found.b_better, found.exceeds_spread) == (1, None, None)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((104, 105, 106, 107), True),
        ((90, 91, 92, 99), True),
        ((103, 105, 106, 107), False),
        ((104, 105, 106), None),
    ],
)
def test_a_difference_exceeds_the_spread_when_the_ranges_lie_apart(
    other: tuple[float, ...], expected: bool | None
) -> None:
    found = compare(result((100, 101, 102, 103)), result(other))
    assert row(found.rows).exceeds_spread is expected


@given(SPEEDS, SPEEDS)
def test_swapping_the_results_inverts_the_ratio(a: list[float], b: list[float]) -> None:
    there, back = row(compare(result(a), result(b)).rows), row(compare(result(b), result(a)).rows)
    assert there.ratio is not None
    assert back.ratio is not None
    assert there.ratio * back.ratio == pytest.approx(1)
    assert there.exceeds_spread == back.exceeds_spread


@given(SPEEDS)
def test_a_result_does_not_differ_from_itself(samples: list[float]) -> None:
    found = row(compare(result(samples), result(samples)).rows)
    assert (found.ratio, found.b_better, found.exceeds_spread) == (1, None, False)


def test_another_device_is_refused_and_with_leave_flagged() -> None:
    other = result(device=dataclasses.replace(DEVICE, instruction_sets=("AVX2", "AVX512F")))
    with pytest.raises(RequestError, match="instruction sets: AVX2 FMA and AVX2 AVX512F"):
        compare(result(), other)
    found = compare(result(), other, allow_different=True)
    assert found.differences == ("instruction sets: AVX2 FMA and AVX2 AVX512F",)
    assert json.loads(found.to_json())["rows"][0]["ratio"] == 1


def test_another_model_is_refused_and_with_leave_flagged() -> None:
    other = result(of=model("other", "b" * 64))
    with pytest.raises(RequestError, match="model: tiny and other"):
        compare(result(), other)
    assert compare(result(), other, allow_different=True).differences


def test_a_package_and_the_gguf_it_was_made_from_are_the_same_model() -> None:
    gguf = ModelInfo("m.gguf", "gguf", None, 1, "b" * 64)
    package = ModelInfo("m", "package", "cpu-int4", 1, "a" * 64, ("b" * 64,))
    assert compare(result(of=package), result(of=gguf)).differences == ()


def test_what_one_side_does_not_tell_is_no_difference() -> None:
    unknown = dataclasses.replace(DEVICE, logical_cores=None, instruction_sets=())
    assert compare(result(), result(device=unknown)).differences == ()
    nameless = ModelInfo("tiny", "gguf", None, 1, None)
    assert compare(result(), result(of=nameless)).differences == ()


def test_versions_and_threads_are_remarks_that_refuse_nothing() -> None:
    newer = dataclasses.replace(DEVICE, onnxruntime="1.30.0")
    found = compare(result(), result(device=newer, threads=4))
    assert found.differences == ()
    assert found.remarks == ("onnxruntime: 1.29.0 and 1.30.0", "threads: 2 and 4")


def test_single_engines_are_paired_and_others_by_their_labels() -> None:
    assert compare(result(label="ort"), result(label="llamacpp")).rows[0].label_b == "llamacpp"
    both = dataclasses.replace(
        result(), engines=(*result(label="x").engines, *result(label="y").engines)
    )
    assert {r.label_a for r in compare(both, result(label="y")).rows} == {"y"}
    with pytest.raises(RequestError, match="no engine in common: x, y and z"):
        compare(both, result(label="z"))


def test_a_median_of_zero_has_no_ratio() -> None:
    assert row(compare(result((0, 0, 0, 0)), result()).rows).ratio is None
