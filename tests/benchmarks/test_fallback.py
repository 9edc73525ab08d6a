from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import fallback_data, fallback_figures, fallback_table

PAGE = Path(__file__).parents[2] / "docs" / "fallback.json"


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return fallback_figures.everything(fallback_data.load(), quick=True)


@pytest.mark.parametrize(
    "name", ["auroc_test", "auroc_ood", "ece", "local_share", "quality_loss", "cost_cut"]
)
def test_the_documented_figures_come_out_of_the_committed_answers_again(
    found: dict[str, Any], name: str
) -> None:
    documented = json.loads(PAGE.read_text(encoding="utf-8"))
    # Another processor sums in another order: an answer or two may change sides.
    assert found[name] == pytest.approx(documented[name], abs=0.015)


def test_every_rule_is_judged_against_the_real_and_the_simulated_model(
    found: dict[str, Any],
) -> None:
    rules = {"local only", "large only", "fixed 0.7", "mean log-probability", "ours", "oracle"}
    assert {name.split(",")[0] for name in found["tables"]} == {"Qwen 1.5B", "simulated 97%"}
    for table in found["tables"].values():
        assert rules < {row["name"] for row in table}


def test_the_tables_can_be_printed(found: dict[str, Any]) -> None:
    text = fallback_table.markdown(found)
    assert "| ours + probe |" in text
    assert "nan" not in text


def test_a_missing_answer_is_named(tmp_path: Path) -> None:
    answers = fallback_data.SET / "answers"
    (tmp_path / "large.jsonl.gz").write_bytes((answers / "large.jsonl.gz").read_bytes())
    (tmp_path / "small.jsonl.gz").write_bytes((answers / "large.jsonl.gz").read_bytes()[:0])
    with pytest.raises(SystemExit, match="missing or stale"):
        fallback_data.load(tmp_path)
