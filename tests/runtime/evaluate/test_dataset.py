"""Files of questions are read and written whole; what is wrong with one is said with its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import OndeviceError, RequestError
from ondevice.runtime.evaluate.checkers import Choice, Exact, Numeric
from ondevice.runtime.evaluate.dataset import Example, read, write

FULL = Example(
    id="a",
    prompt="How many? Answer\u2028with a number.\n3, 4",
    check=Numeric(2, units=("things",)),
    system="Be brief.",
    family="count",
    template="count/1",
    split="test",
    tier="edge",
    reference="2",
    max_tokens=24,
    schema={"type": "object"},
    data_class="restricted",
)
PLAIN = Example(id="b", prompt="Wie heißt das? 猫", check=Exact(("Katze",)))


def lines(path: Path, *rows: Any) -> Path:
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def refused(path: Path) -> str:
    with pytest.raises(RequestError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("name", ["set.jsonl", "set.jsonl.gz"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [FULL, PLAIN])
    assert read(tmp_path / name) == [FULL, PLAIN]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_equal_examples_give_equal_bytes(tmp_path: Path) -> None:
    write(tmp_path / "one.jsonl.gz", [FULL, PLAIN])
    write(tmp_path / "other.jsonl.gz", [FULL, PLAIN])
    first = (tmp_path / "one.jsonl.gz").read_bytes()
    assert first == (tmp_path / "other.jsonl.gz").read_bytes()
    assert first[4:8] == bytes(4)  # no time of writing


def test_writing_into_a_file_in_the_way_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(OndeviceError, match="cannot write"):
        write(tmp_path / "file" / "set.jsonl", [PLAIN])


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    assert ".jsonl.gz or .csv" in refused(tmp_path / "set.txt")
    with pytest.raises(RequestError, match=r"\.jsonl"):
        write(tmp_path / "set.csv", [PLAIN])


def test_a_plain_answer_means_exactly_this(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"id": "x", "prompt": "2+2?", "answer": "4"})
    assert read(path) == [Example("x", "2+2?", Exact(("4",)), reference="4")]


def test_csv_with_answers_checks_and_quoted_lines(tmp_path: Path) -> None:
    text = (
        "\ufeffid,prompt,answer,check,max_tokens,tier\r\n"
        '1,"Two\nlines, and a comma",yes,,12,easy\r\n'
        '2,Which?,,"{""kind"": ""choice"", ""answer"": ""a"", ""labels"": [""a"", ""b""]}",,\r\n'
    )
    (tmp_path / "set.csv").write_text(text, encoding="utf-8", newline="")
    first, second = read(tmp_path / "set.csv")
    assert first == Example(
        "1",
        "Two\nlines, and a comma",
        Exact(("yes",)),
        max_tokens=12,
        tier="easy",
        reference="yes",
    )
    assert second == Example("2", "Which?", Choice("a", ("a", "b")))


GOOD = {"id": "a", "prompt": "?", "answer": "x"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({**GOOD, "promt": "?"}, "line 2: unknown key 'promt'; did you mean 'prompt'?"),
        ({"id": "b", "prompt": "?"}, "line 2: 'answer' (or 'check') is missing"),
        ({"id": "b", "answer": "x"}, "line 2: 'prompt' is missing"),
        ({**GOOD, "id": 7}, "line 2: 'id' has to be text, not 7"),
        ({**GOOD, "id": ""}, "line 2: 'id' and 'prompt' must not be empty"),
        ({**GOOD, "id": "b", "check": {"kind": "exact"}}, "give 'check' or 'answer', not both"),
        ({"id": "b", "prompt": "?", "check": {"kind": "exat"}}, "line 2: there is no kind"),
        ({**GOOD, "id": "b", "max_tokens": "many"}, "a whole number above 0, not 'many'"),
        ({**GOOD, "id": "b", "max_tokens": True}, "a whole number above 0, not True"),
        ({**GOOD, "id": "b", "max_tokens": 0}, "a whole number above 0, not 0"),
        ({**GOOD, "id": "b", "schema": "{}"}, "'schema' has to be a JSON object"),
        ({**GOOD, "id": "b", "family": None}, "'family' has to be text"),
        (["a"], "line 2 has to be a JSON object"),
        ("{'id': 1}", "line 2 is no JSON"),
        ("[" * 100_000, "line 2 is no JSON"),
        (GOOD, "lines 1 and 2 have the same id 'a'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, row: Any, words: str) -> None:
    assert words in refused(lines(tmp_path / "set.jsonl", GOOD, row))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("id,prompt,answer\n", "holds no questions"),
        ("id,promt,answer\n1,?,x\n", "line 1: unknown column 'promt'; did you mean 'prompt'?"),
        ("id,answer\n1,x\n", "line 1: the column 'prompt' is missing"),
        ("id,prompt\n1,x\n", "line 1: the column 'answer' (or 'check') is missing"),
        ("id,prompt,answer,id\n1,?,x,2\n", "line 1 names the column 'id' twice"),
        ("id,prompt,answer\n1,?\n", "line 2 has 2 cells, the first line names 3"),
        ('id,prompt,answer\n1,"a\nb",x\n1,?,y\n', "lines 2 and 4 have the same id '1'"),
        ('id,prompt,answer\n1,"a"b,x\n', "line 2 is no CSV"),
        ("id,prompt,check\n1,?,{\n", "line 2: check is no JSON"),
        ("id,prompt,answer,max_tokens\n1,?,x,ten\n", "line 2: 'max_tokens' has to be a whole"),
        ("id,prompt,answer\n1,?,\n", "line 2: 'answer' (or 'check') is missing"),
    ],
)
def test_a_wrong_csv_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "set.csv"
    path.write_text(text, encoding="utf-8")
    assert words in refused(path)


def test_an_empty_file_holds_no_questions(tmp_path: Path) -> None:
    assert "holds no questions" in refused(lines(tmp_path / "set.jsonl", "", ""))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "cannot read" in refused(tmp_path / "none.jsonl")


def test_bytes_that_are_not_utf8_are_found_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n\xff\xfe\n")
    assert "line 2 is not UTF-8" in refused(path)


@pytest.mark.parametrize("data", [b"plain", gzip.compress(b'{"id": 1}' * 50)[:-20]])
def test_a_broken_gzip_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "set.jsonl.gz"
    path.write_bytes(data)
    assert "no whole gzip file" in refused(path)


@given(data=st.binary(max_size=80), name=st.sampled_from(["s.jsonl", "s.csv", "s.jsonl.gz"]))
def test_no_bytes_escape_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    path = tmp_path_factory.mktemp("bytes") / name
    path.write_bytes(data)
    with pytest.raises(RequestError):
        read(path)


@given(prompt=st.text(min_size=1).filter(str.strip), system=st.none() | st.text())
def test_any_text_survives(
    tmp_path_factory: pytest.TempPathFactory, prompt: str, system: str | None
) -> None:
    path = tmp_path_factory.mktemp("texts") / "s.jsonl"
    example = Example("a", prompt, Exact(("x",)), system=system)
    write(path, [example])
    assert read(path) == [example]
