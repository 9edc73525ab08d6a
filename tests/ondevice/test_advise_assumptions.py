"""Assumptions: every one has a source, and a bad one is told in one line."""

from __future__ import annotations

import datetime
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.advise import assumptions as figures
from ondevice.errors import RequestError


def written(folder: Path, text: str) -> Path:
    path = folder / "own.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_assumption_has_a_unit_a_source_and_a_date() -> None:
    for entry in figures.defaults():
        assert entry.unit and entry.source and entry.origin == "default", entry.key
        assert datetime.date.fromisoformat(entry.date) <= datetime.date(2026, 11, 25)


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '[gpu]\nusd_per_hour = 0.1\n[device.watts]\nvalue = 12\nsource = "meter"\n'
        'date = "2026-11-01"\n',
    )
    found = figures.read(path)
    assert found["gpu.usd_per_hour"] == Fraction(1, 10)  # the decimal, not the float
    assert found.entries["gpu.usd_per_hour"].origin == "file"
    watts = found.entries["device.watts"]
    assert (watts.value, watts.source, watts.date) == (12, "meter", "2026-11-01")
    changed = {"gpu.usd_per_hour", "device.watts"}
    before = figures.defaults().entries
    assert all(found.entries[key] == before[key] for key in before if key not in changed)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gpu]\n\nusd_per_hor = 1", "line 3: no assumption 'gpu.usd_per_hor'; did you mean 'gpu."),
        ("[gpuu]\nusd_per_hour = 1", "line 2: no assumption 'gpuu.usd_per_hour'; did you mean"),
        ("gpu.tokens_per_s = 0", "line 1: gpu.tokens_per_s: 0 is not possible; give more than 0"),
        ("[gpu]\nusd_per_hour = -1", "line 2: gpu.usd_per_hour: -1 is not possible; give 0"),
        ("[gpu]\nutilisation = 1.5", "line 2: gpu.utilisation: 1.5 is not possible; a share"),
        ("[gpu]\nusd_per_hour = nan", "is not a number"),
        ("[gpu]\nusd_per_hour = inf", "is not a number"),
        ("[gpu]\nusd_per_hour = 1e300", "give at most"),
        ("[gpu]\nusd_per_hour = 1e999999999", "give at most"),
        ("[gpu]\nusd_per_hour = 1e-999999999", "as good as 0"),
        ("[gpu]\nusd_per_hour = true", "is not a number"),
        ("[gpu]\nusd_per_hour = [1]", "is not a number"),
        ("[workload]\ninput_tokens = 1.5", "give a whole number"),
        ("[gpu.usd_per_hour]\nsource = 'x'", "line 1: gpu.usd_per_hour: the table needs a `value`"),
        ("\n[gpu.usd_per_hour.x]", "line 2: gpu.usd_per_hour: the table needs a `value`"),
        ("[gpu.usd_per_hour]\nvalue = 1\nsrc = 'x'", "unknown entry 'src'"),
        ("x = 1", "line 1: no assumption 'x'"),
        ("[gpu", "is not valid TOML"),
        ("[gpu]\nusd_per_hour = 1\nusd_per_hour = 2", "is not valid TOML"),
    ],
)
def test_a_bad_file_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RequestError) as error:
        figures.read(written(tmp_path, text))
    assert said in str(error.value)
    assert "own.toml" in str(error.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"cannot read .*none\.toml"):
        figures.read(tmp_path / "none.toml")
    with pytest.raises(RequestError, match="cannot read"):
        figures.read(tmp_path)
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"\xff\xfe[gpu]")
    with pytest.raises(RequestError, match="is not UTF-8"):
        figures.read(bad)


@pytest.mark.parametrize("setting", ["gpu.usd_per_hour", "nothing=1", "gpu.usd_per_hour=x", "=1"])
def test_a_bad_setting_is_told(setting: str) -> None:
    with pytest.raises(RequestError):
        figures.apply_settings([setting], figures.defaults())


def test_figures_that_contradict_each_other_are_told() -> None:
    for settings in (
        ["overhead.low=0.6"],
        ["workload.input_tokens=0", "workload.output_tokens=0"],
    ):
        with pytest.raises(RequestError):
            figures.apply_settings(settings, figures.defaults()).checked()


@given(st.decimals(0, 10**6, places=6, allow_nan=False))
def test_a_decimal_is_kept_exactly(value: object) -> None:
    found = figures.apply_settings([f"gpu.usd_per_hour={value}"], figures.defaults())
    assert found["gpu.usd_per_hour"] == Fraction(str(value))


@given(st.text(max_size=60))
def test_no_text_escapes_as_another_error(text: str) -> None:
    try:
        figures.apply_settings([text], figures.defaults())
    except RequestError as error:
        assert str(error)
