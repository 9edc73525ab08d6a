"""`ondevice compare`: what stands beside what, and when figures must not be compared."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from checkpoints import tiny, write_checkpoint

from ondevice import cli
from ondevice.export.convert import convert
from ondevice.export.recipe import Options
from ondevice.package import Package, Proof, write_manifest
from ondevice.runtime import trade_off_page
from ondevice.runtime.trade_off import trade_off

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("compare") / "c", tiny("llama"))


@pytest.fixture(scope="module")
def packages(checkpoint: Path) -> list[Package]:
    out = checkpoint.parent
    coarse = Options(block=64, quantizer="rtn")
    return [
        convert(checkpoint, "cpu-int8", out / "int8"),
        convert(checkpoint, "cpu-int4", out / "int4", accept=True),
        convert(checkpoint, "cpu-int4", out / "coarse", options=coarse, accept=True),
    ]


def proofs_of(packages: list[Package]) -> list[Proof]:
    return [p.manifest.proof for p in packages if p.manifest.proof is not None]


def output(capsys: Captured, *arguments: str) -> str:
    assert cli.run(list(arguments)) == 0
    return capsys.readouterr().out


def test_size_fidelity_and_speed_stand_side_by_side(
    packages: list[Package], capsys: Captured, tmp_path: Path
) -> None:
    folders = [str(package.folder) for package in packages]
    page = tmp_path / "page.html"
    options = ["-r", "1", "--threads", "1", "--report", str(page)]
    found = json.loads(output(capsys, "compare", "--json", *options, *folders))
    assert [row["label"] for row in found["rows"]] == ["int8", "int4", "coarse"]
    assert all(row["decode"]["median"] > 0 < row["prefill"]["median"] for row in found["rows"])
    assert [row["quantizer"] for row in found["rows"]] == ["search", "search", "rtn"]
    assert found["rows"][0]["on_frontier"] and found["instruction_sets"]
    text = page.read_text(encoding="utf-8")
    HTMLParser().feed(text)
    assert "Mean KL divergence (nats) over decode, tokens/s" in text and "coarse" in text


def test_without_speed_only_what_the_packages_say_is_shown(
    packages: list[Package], capsys: Captured
) -> None:
    folders = [str(package.folder) for package in packages[:2]]
    text = output(capsys, "compare", "--no-speed", *folders)
    assert text.splitlines()[0].startswith("PACKAGE") and "cpu-int8" in text
    assert "note:" not in text


def test_against_a_checkpoint_all_are_proved_anew(
    packages: list[Package], checkpoint: Path, capsys: Captured, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Another text than the built-in one, and a short one." * 4, encoding="utf-8")
    command = ["compare", "--json", "--no-speed", "--against", str(checkpoint)]
    folders = [str(package.folder) for package in packages[:2]]
    found = json.loads(output(capsys, *command, "--text", str(text), *folders))
    hashes = {row["proof"]["text_sha256"] for row in found["rows"]}
    assert len(hashes) == 1 and hashes != {p.text_sha256 for p in proofs_of(packages)}


def test_a_smaller_and_better_package_beats_the_others(packages: list[Package]) -> None:
    proofs = [
        replace(proof, kl_mean=kl)
        for proof, kl in zip(proofs_of(packages), (0.1, 0.1, 0.5), strict=True)
    ]
    rows = trade_off(packages, proofs, None).rows
    sizes = [row.bytes for row in rows]
    assert sizes[0] > sizes[1] > sizes[2]
    assert [row.on_frontier for row in rows] == [False, True, True]


def test_figures_of_other_texts_or_models_are_not_put_on_one_frontier(
    packages: list[Package],
) -> None:
    first, second, third = proofs_of(packages)
    for other, note in (
        (None, "no proof: int4; give --against"),
        (replace(second, text_sha256="1" * 64), "different texts"),
        (replace(second, reference_perplexity=1.0), "not packages of one model"),
    ):
        found = trade_off(packages, [first, other, third], None)
        assert note in found.notes[0]
        assert all(row.on_frontier is None for row in found.rows)
        assert note.split(";")[0] in trade_off_page.render(found)


def test_what_comes_from_packages_is_escaped(packages: list[Package], tmp_path: Path) -> None:
    folder = tmp_path / "<script>"
    folder.mkdir()
    for path in packages[0].folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    other = Package(folder, packages[0].manifest)
    write_manifest(folder, other.manifest)
    text = trade_off_page.render(trade_off([packages[0], other], proofs_of(packages[:1]) * 2, None))
    assert "<script>" not in text and "&lt;script&gt;" in text


def test_a_text_needs_a_checkpoint(packages: list[Package], capsys: Captured) -> None:
    assert cli.run(["compare", "--text", "t.txt", str(packages[0].folder)]) == 2
    assert "--text needs --against" in capsys.readouterr().err
