"""Questions about a PDF, answered as the assistant does: the right passage shown, the answer right?

    python -m benchmarks.documents --package qwen2.5-coder-0.5b-instruct --json FILE

Knows the handbook of `recipes/document` and its questions; nothing of the window.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import common
from ondevice.desktop import documents, passages
from ondevice.desktop.passages import WORDING, Passage, Wording
from ondevice.files import write_text
from ondevice.runtime import device
from ondevice.runtime.answer import Options
from ondevice.runtime.evaluate.checkers import Check, from_json, judge
from ondevice.runtime.model import Model, load

FOLDER = Path(__file__).parent.parent / "recipes" / "document"
WORDINGS = {
    "shipped": WORDING,
    "short": Wording("", "Use only the text above to answer: "),
    "strict": Wording(
        "Read these passages.\n\n",
        "Answer in one short sentence with what the passages say. "
        "If they do not say it, answer that the document does not say.\n\nQuestion: ",
    ),
}


@dataclass(frozen=True)
class Question:
    """A question; the passage that has all of `evidence`, word for word, is the right one."""

    id: str
    question: str
    evidence: tuple[str, ...]
    check: Check


@dataclass(frozen=True)
class Setting:
    """How the passages are cut and shown; `room` in tokens, `words` of a passage."""

    words: int = passages.WORDS
    room: int = passages.ROOM
    wording: str = "shipped"


@dataclass(frozen=True)
class Row:
    """One question: `rank` of the right passage (0: in no passage whole), and what was shown."""

    id: str
    rank: int
    shown: int
    right_shown: bool
    answered_right: bool | None = None
    answer: str = ""
    prompt_tokens: int = 0
    ttft_ms: float = 0.0


def questions(path: Path) -> list[Question]:
    """The questions of a file of JSON lines."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        data = json.loads(line)
        check = from_json(data["check"])
        found.append(Question(data["id"], data["question"], tuple(data["evidence"]), check))
    return found


def measure(
    text: documents.Text,
    asked: Sequence[Question],
    model: Model,
    setting: Setting,
    answer: bool,
    kept: common.Lines | None = None,
) -> Iterator[Row]:
    """One row for each question; without `answer` only the passages are looked at.

    Answers are added to `kept`, and taken from there when prompt and package are the same.
    """
    index = passages.Index(passages.cut(text, setting.words))
    for question in asked:
        ranked = index.rank(question.question, sys.maxsize)
        chosen = passages.fit(ranked, setting.room, lambda part: len(model.tokenizer.encode(part)))
        rank = next((at for at, one in enumerate(ranked, 1) if is_right(one, question)), 0)
        row = Row(question.id, rank, len(chosen), any(is_right(one, question) for one in chosen))
        if answer:
            prompt = passages.prompt(question.question, chosen, WORDINGS[setting.wording])
            given = _answer(prompt, model, kept)
            row = replace(row, answered_right=judge(question.check, given["answer"]).right, **given)
        yield row


def _answer(prompt: str, model: Model, kept: common.Lines | None) -> dict[str, Any]:
    """The fields of a `Row` that the model gives."""
    package = "" if model.package is None else common.package_hash(model.package)
    key = common.key([prompt, package])
    line = None if kept is None else kept.get(key)
    if line is None:
        given = model.generate(prompt, Options(temperature=0.0, max_tokens=96))
        line = {
            "answer": given.text,
            "prompt_tokens": given.prompt_tokens,
            "ttft_ms": round(given.timings.ttft * 1e3, 1),
        }
        if kept is not None:
            kept.add(key, **line)
    return {name: value for name, value in line.items() if name != "key"}


def is_right(passage: Passage, question: Question) -> bool:
    text = " ".join(passage.text.split())
    return all(evidence in text for evidence in question.evidence)


def summary(setting: Setting, rows: Sequence[Row]) -> dict[str, Any]:
    """What the table shows of one setting; TTFT in ms."""
    times = sorted(row.ttft_ms for row in rows)
    judged = [row for row in rows if row.answered_right is not None]
    return {
        **asdict(setting),
        "questions": len(rows),
        "right_shown": sum(row.right_shown for row in rows),
        "rank_1": sum(row.rank == 1 for row in rows),
        "answered_right": sum(bool(row.answered_right) for row in rows) if judged else None,
        "right_of_shown": sum(bool(r.answered_right) and r.right_shown for r in rows),
        "passages": round(sum(row.shown for row in rows) / len(rows), 1),
        "ttft_ms_median": times[len(times) // 2],
        "ttft_ms_largest": times[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.documents", description=__doc__)
    parser.add_argument("--package", default=None, help="of the store; its default unless told")
    parser.add_argument("--pdf", type=Path, default=FOLDER / "handbook.pdf")
    parser.add_argument("--questions", type=Path, default=FOLDER / "questions.jsonl")
    parser.add_argument("--words", type=int, nargs="+", default=[passages.WORDS])
    parser.add_argument("--room", type=int, nargs="+", default=[passages.ROOM])
    parser.add_argument("--wording", choices=WORDINGS, nargs="+", default=["shipped"])
    parser.add_argument("--no-answers", action="store_true", help="only rank and fit")
    parser.add_argument("--work", type=Path, default=common.WORK, help="answers are kept here")
    parser.add_argument("--json", type=Path, help="write the figures and every row there")
    arguments = parser.parse_args()
    settings = [
        Setting(words, room, wording)
        for words in arguments.words
        for room in arguments.room
        for wording in arguments.wording
    ]
    text = documents.read(arguments.pdf.name, arguments.pdf.read_bytes())
    asked = questions(arguments.questions)
    answer = not arguments.no_answers
    runs: list[dict[str, Any]] = []
    kept = common.Lines(arguments.work / "documents.jsonl")
    with load(arguments.package) as model:
        for setting in settings:
            rows = list(measure(text, asked, model, setting, answer, kept))
            runs.append({**summary(setting, rows), "rows": [asdict(row) for row in rows]})
            print(table(runs[-1:], heading=len(runs) == 1), flush=True)
        name = model.name
    if arguments.json:
        about = {"package": name, "date": date.today().isoformat(), **_machine()}
        write_text(arguments.json, json.dumps({**about, "runs": runs}, indent=1) + "\n")


def table(runs: Sequence[dict[str, Any]], heading: bool = True) -> str:
    """Markdown: one line a setting."""
    columns = [name for name in runs[0] if name not in ("rows", "questions")]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"] if heading else []
    lines += [f"| {' | '.join(str(run[name]) for name in columns)} |" for run in runs]
    return "\n".join(lines)


def _machine() -> dict[str, Any]:
    packages = ("bm25s", "onnxruntime", "pypdf")
    found = asdict(device.fingerprint())
    return {"device": found, "versions": {name: version(name) for name in packages}}


if __name__ == "__main__":
    main()
