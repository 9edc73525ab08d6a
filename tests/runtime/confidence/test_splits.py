from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from confidence_data import world

from ondevice.errors import CalibrationError, RequestError
from ondevice.runtime.confidence import splits
from ondevice.runtime.confidence.samples import from_records
from ondevice.runtime.evaluate import dataset

EXAMPLES = world(300).examples
UNSPLIT = [replace(example, split="") for example in EXAMPLES]


def test_the_datas_own_splits_are_kept_and_others_left_alone() -> None:
    test = [replace(EXAMPLES[0], id="t", split="test")]
    found = splits.split([*EXAMPLES, *test])
    assert (len(found.train), len(found.threshold), len(found.certify)) == (100, 100, 100)
    assert found.ignored == 1 and {e.split for e in found.certify} == {"certify"}


def test_without_splits_whole_templates_are_dealt_out() -> None:
    found = splits.split(UNSPLIT, seed=1)
    parts = (found.train, found.threshold, found.certify)
    assert sum(map(len, parts)) == 300 and len(found.train) > len(found.certify) >= 75
    names = [{e.template for e in part} for part in parts]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]
    assert found == splits.split(UNSPLIT, seed=1) != splits.split(UNSPLIT, seed=2)


def test_examples_without_a_template_are_dealt_out_one_by_one() -> None:
    found = splits.split([replace(e, template="") for e in UNSPLIT])
    assert [len(found.train), len(found.threshold), len(found.certify)] == [120, 90, 90]


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        (EXAMPLES[:150], "none called 'certify'"),
        (UNSPLIT[:50], "at least 30"),
        ([], "at least 30"),
        ([replace(e, split="test") for e in UNSPLIT], "'test'; call them train"),
    ],
)
def test_data_that_cannot_be_split_is_an_error(examples: list[dataset.Example], said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        splits.split(examples)


def test_a_folder_holds_a_file_for_each_split(tmp_path: Path) -> None:
    for name in splits.NAMES:
        dataset.write(tmp_path / f"{name}.jsonl.gz", [e for e in EXAMPLES if e.split == name])
    assert splits.read(tmp_path) == EXAMPLES
    (tmp_path / "certify.jsonl.gz").unlink()
    with pytest.raises(CalibrationError, match=r"no certify\.jsonl"):
        splits.read(tmp_path)


def test_an_id_in_two_files_is_an_error(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        dataset.write(tmp_path / name, EXAMPLES[:3])
    with pytest.raises(CalibrationError, match=r"a\.jsonl.*b\.jsonl.*'e0'"):
        splits.read([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])


def test_no_data_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="--data"):
        splits.read([])
    (tmp_path / "empty.csv").write_text("id,prompt,answer\n")
    with pytest.raises(RequestError, match="no questions"):
        splits.read(tmp_path / "empty.csv")


def test_records_become_arrays_in_the_examples_order() -> None:
    of = world(20, hidden=3)
    cut = [replace(of.records[0], finish_reason="length"), *of.records[1:]]
    failed = [
        *cut[:-1],
        replace(
            cut[-1],
            error="prompt too long",
            features=(),
            text="",
            prompt_hidden=(),
            answer_hidden=(),
        ),
    ]
    found = from_records(of.examples, failed)
    assert found.open.tolist() == [False, *[True] * 18, False]
    assert found.prompt_hidden is not None and found.prompt_hidden.shape == (20, 3)
    assert found.prompt_hidden[19].tolist() == [0, 0, 0]
    assert found.right[:19].tolist() == [float(r.right) for r in of.records[:19]]
    assert found.take(found.open).ids == tuple(f"e{i}" for i in range(1, 19))


def test_hidden_states_of_some_records_only_are_none() -> None:
    of = world(20, hidden=3)
    part = [replace(of.records[0], prompt_hidden=()), *of.records[1:]]
    found = from_records(of.examples, part)
    assert found.prompt_hidden is None and not found.has_hidden


def test_records_without_features_are_refused() -> None:
    of = world(20)
    with pytest.raises(CalibrationError, match="'e3' has 0 features"):
        from_records(
            of.examples, [*of.records[:3], replace(of.records[3], features=()), *of.records[4:]]
        )
