from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from confidence_data import World, world, write_encoder

from ondevice import cli
from ondevice.errors import CalibrationError
from ondevice.package import Package, open_package
from ondevice.runtime.answer import Options
from ondevice.runtime.confidence import calibration as stored
from ondevice.runtime.confidence.calibrate import calibrate
from ondevice.runtime.evaluate import dataset, records
from ondevice.runtime.model import load


def written(folder: Path, of: World, package: Package) -> tuple[Path, Path]:
    """A data file and an answers file that is complete."""
    data, answers = folder / "data.jsonl", folder / "answers.jsonl"
    dataset.write(data, of.examples)
    subject = f"device:{package.manifest.name}"
    records.write(answers, [replace(record, subject=subject) for record in of.records])
    return data, answers


@pytest.fixture
def package(tiny_package: Package, tmp_path: Path) -> Package:
    shutil.copytree(tiny_package.folder, tmp_path / "tiny")
    return open_package(tmp_path / "tiny")


def test_a_calibration_with_its_certificate_lands_in_the_package(
    package: Package, tmp_path: Path
) -> None:
    data, answers = written(tmp_path, world(900, 1, signal=4), package)
    report = calibrate(package, data, answers=answers, max_error=0.15)
    read = stored.read(package)
    assert read == report.calibration
    assert read.key == stored.calibration_key(package, Options())
    assert read.certificate is not None and report.local_share == read.certificate.local_share
    assert read.certificate.examples == 300 and read.certificate.upper_bound <= 0.15
    assert 0.15 < read.certificate.local_share < 0.9
    assert report.auroc.low < report.auroc.value < report.auroc.high
    assert report.auroc.value > report.mean_logprob_auroc.value
    assert [one.probability for one in report.sure_and_wrong] == sorted(
        (one.probability for one in report.sure_and_wrong), reverse=True
    )
    assert len(report.sure_and_wrong) == 5
    assert all(one.text.startswith("not") for one in report.sure_and_wrong)
    json.dumps(report.to_json(), allow_nan=False)


def test_what_cannot_be_certified_is_said_and_still_calibrated(
    package: Package, tmp_path: Path
) -> None:
    data, answers = written(tmp_path, world(300, 2), package)
    report = calibrate(package, data, answers=answers, max_error=0.01, router=False)
    read = stored.read(package)
    assert read is not None and read.threshold is None and read.certificate is None
    assert "cannot certify an error of at most 1.0% with 95% confidence" in read.reason
    assert report.local_share is None and read.router is None


def test_missing_answers_are_made_by_the_model_and_kept(package: Package, tmp_path: Path) -> None:
    """A random model is never right: half of the answers are given, the others are made."""
    of = world(150, 3, max_tokens=4)
    data, answers = written(tmp_path, of, package)
    kept = records.read(answers)[:140]
    records.write(answers, kept)
    calibrate(package, data, answers=answers, router=False)
    made = records.read(answers)
    assert len(made) == 150 and made[:140] == kept
    with load(package) as model:
        text = model.generate(of.examples[145].prompt, Options(max_tokens=4)).text
    assert made[145].text == text and made[145].features and not made[145].right
    read = stored.read(package)
    assert read is not None
    with load(package) as model:
        answer = model.generate("Name the colour", Options(max_tokens=4))
        assert read.probability(answer, "Name the colour") == 0  # cut off


def test_a_stopped_run_leaves_no_calibration(package: Package, tmp_path: Path) -> None:
    data, answers = written(tmp_path, world(150, 3), package)

    def stop(stage: str, done: int, total: int) -> None:
        if done == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(package, data, answers=answers, progress=stop)
    assert stored.read(package) is None


def test_answers_of_one_class_are_an_error_in_one_line(package: Package, tmp_path: Path) -> None:
    of = world(150, 4)
    wrong = [replace(record, text="not this") for record in of.records]
    data, answers = written(tmp_path, replace(of, records=wrong), package)
    with pytest.raises(CalibrationError, match="none is right"):
        calibrate(package, data, answers=answers)
    assert stored.read(package) is None


def test_a_compressed_answers_file_that_lacks_some_is_not_spoilt(
    package: Package, tmp_path: Path
) -> None:
    data, answers = written(tmp_path, world(150, 5), package)
    packed = tmp_path / "answers.jsonl.gz"
    records.write(packed, records.read(answers)[:100])
    before = packed.read_bytes()
    with pytest.raises(CalibrationError, match="no answer of device:tiny to 50 of 150"):
        calibrate(package, data, answers=packed)
    assert packed.read_bytes() == before


def test_an_encoder_is_copied_into_the_package(package: Package, tmp_path: Path) -> None:
    data, answers = written(tmp_path, world(300, 6), package)
    encoder = write_encoder(tmp_path / "encoder")
    calibrate(package, data, answers=answers, encoder=encoder)
    shutil.rmtree(encoder)
    read = stored.read(package)
    assert read is not None and read.router is not None and read.router.encoder
    assert 0 < (read.prior("add numbers") or 0) < 1


def test_the_command_prints_the_share_that_stays_local(
    package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, answers = written(tmp_path, world(600, 1, signal=4), package)
    arguments = [str(package.folder), "--data", str(data), "--answers", str(answers)]
    plots = tmp_path / "plots"
    assert cli.run(["calibrate", *arguments, "--max-error", "0.2", "--plots", str(plots)]) == 0
    printed = capsys.readouterr().out
    assert "stays local" in printed and "at most 20.0% of these are wrong" in printed
    assert "wrong, yet thought right" in printed
    assert {p.name for p in plots.iterdir()} == {
        "reliability.png",
        "reliability.svg",
        "risk-coverage.png",
        "risk-coverage.svg",
    }
    assert cli.run(["calibrate", *arguments, "--max-error", "0.01", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["certificate"] is None and "cannot certify" in found["reason"]


def rivals(folder: Path, of: World, **changes: object) -> Path:
    """A larger model's answers: right but for every fourth."""
    path = folder / "rival.jsonl"
    made = [
        replace(
            record,
            subject="cloud:mine",
            model="large",
            text="no" if i % 4 == 0 else f"yes {i}",
            features=(),
            **changes,  # type: ignore[arg-type]
        )
        for i, record in enumerate(of.records)
    ]
    records.write(path, made)
    return path


def test_with_a_larger_models_answers_it_also_learns_when_that_is_worth_asking(
    package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = world(600, 1)
    data, answers = written(tmp_path, of, package)
    arguments = [str(package.folder), "--data", str(data), "--answers", str(answers)]
    assert cli.run(["calibrate", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["against"] is None
    before = stored.read(package)
    arguments += ["--against", str(rivals(tmp_path, of)), "--max-loss", "0.1"]
    assert cli.run(["calibrate", *arguments]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "against cloud:mine large: 75.0% (" in printed
    assert "stays local then" in printed and "at most 10.0% was asked for" in printed
    read = stored.read(package)
    assert before is not None and read is not None and read.rival is not None
    assert (read.rival.subject, read.rival.model) == ("cloud:mine", "large")
    assert read.rival.kept is not None and 0 < read.rival.kept.local_share < 1
    # P(right) and its certificate are what they were.
    assert replace(read, rival=None) == before
    assert cli.run(["calibrate", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["against"]
    assert found["local_share"]["value"] == read.rival.kept.local_share
    assert found["local_share"]["low"] <= found["local_share"]["value"]
    assert found["advantage"] == read.rival.advantage and found["chosen"]


def test_a_bad_rival_is_one_line_before_any_question_is_answered(
    package: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = world(150, 2)
    data, _ = written(tmp_path, of, package)
    arguments = ["calibrate", str(package.folder), "--data", str(data), "--answers", "no.jsonl"]
    for path, loss, said in (
        (tmp_path / "missing.jsonl", "0.1", "cannot read the records"),
        (rivals(tmp_path, of), "1.5", "max loss"),
        (rivals(tmp_path, of, question="old"), "0.1", "has answers of cloud:mine to 0 of 50"),
    ):
        code = cli.run([*arguments, "--against", str(path), "--max-loss", loss])
        error = capsys.readouterr().err
        assert code == 2 and said in error and error.strip().count("\n") == 0
    assert stored.read(package) is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.jsonl", None, "cannot read"),
        ("empty.jsonl", "", "no questions"),
        ("twice.csv", "id,prompt,answer\na,b,c\na,d,e\n", "same id 'a'"),
        ("columns.csv", "id,question,answer\na,b,c\n", "unknown column 'question'"),
        ("few.csv", "id,prompt,answer\na,b,c\n", "at least 30"),
        ("data.txt", "x", ".jsonl"),
    ],
)
def test_bad_data_is_one_line_and_exit_code_2(
    name: str,
    content: str | None,
    said: str,
    package: Package,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    code = cli.run(["calibrate", str(package.folder), "--data", str(tmp_path / name)])
    error = capsys.readouterr().err
    assert code == 2 and said in error and error.strip().count("\n") == 0


def test_a_target_that_makes_no_sense_is_refused_before_any_work(
    package: Package, tmp_path: Path
) -> None:
    with pytest.raises(CalibrationError, match="max error"):
        calibrate(package, tmp_path / "missing.jsonl", max_error=5)
