from __future__ import annotations

from pathlib import Path

import pytest

from ondevice import json_file
from ondevice.errors import RequestError

NAMES = sorted(
    path.name.removesuffix(".schema.json")
    for path in (Path(json_file.__file__).parent / "schemas").iterdir()
)


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_is_one(name: str) -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(json_file.schema(name))


@pytest.mark.parametrize("text", ["NaN", "[1, -Infinity]", '{"a": 1e999}'])
def test_what_is_no_finite_number_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a number|too large"):
        json_file.loads(text)


def test_a_count_is_written_without_a_point() -> None:
    assert "format_version: 1.0 is not" in json_file.problem({"format_version": 1.0}, "package")
    assert "format_version" not in json_file.problem({"format_version": 1}, "package")


def test_a_file_that_cannot_be_read_is_one_line_with_its_name(tmp_path: Path) -> None:
    for text, said in (("[" * 99_999, "not valid JSON"), ("", "not valid JSON")):
        path = tmp_path / "r.json"
        path.write_text(text)
        with pytest.raises(RequestError, match=said) as error:
            json_file.read(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(RequestError, match="cannot read"):
        json_file.read(tmp_path / "none.json")


def test_nothing_is_wrong_with_the_newest_version_or_an_older_one() -> None:
    for version in (1, 2):
        json_file.require_version({"format_version": version}, 2, Path("r.json"))
    with pytest.raises(RequestError, match=r"r\.json has format version 3.*upgrade ondevice"):
        json_file.require_version({"format_version": 3}, 2, Path("r.json"))
