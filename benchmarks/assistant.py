"""The assistant as the window uses it: a PDF dropped in, 20 questions asked over HTTP.

    python -m benchmarks.assistant --package qwen2.5-coder-0.5b-instruct --json FILE

Starts `ondevice desktop --no-window` with an empty history of its own, and counts for how many
questions the right passage was shown beside the answer. Needs extra `desktop`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from benchmarks import common
from benchmarks.documents import FOLDER, Question, questions
from ondevice import store
from ondevice.files import write_text
from ondevice.runtime import device
from ondevice.runtime.evaluate.checkers import judge

TOKEN = "benchmark-token"
_ANSWER_S = 300.0


@dataclass(frozen=True)
class Row:
    """One question; `shown` passages, the answer, TTFT in ms."""

    id: str
    shown: int
    right_shown: bool
    answered_right: bool
    answer: str
    prompt_tokens: int
    ttft_ms: float


class Client:
    """The few requests that are needed; raises `urllib.error.URLError`."""

    def __init__(self, address: str) -> None:
        self._address = address

    def new_conversation(self, model: str) -> str:
        """Its id."""
        return str(self._json("/app/conversations", {"model": model})["id"])

    def add(self, conversation: str, path: Path) -> dict[str, Any]:
        """Drop a file in."""
        head = f'Content-Disposition: form-data; name="file"; filename="{path.name}"'
        body = f"--{TOKEN}\r\n{head}\r\n\r\n".encode() + path.read_bytes()
        body += f"\r\n--{TOKEN}--\r\n".encode()
        kind = f"multipart/form-data; boundary={TOKEN}"
        with self._post(f"/app/conversations/{conversation}/documents", body, kind) as response:
            document: dict[str, Any] = json.load(response)
        return document

    def ask(self, conversation: str, content: str) -> dict[str, Any]:
        """The message that answers. Raises `RuntimeError` for an error event."""
        body = json.dumps({"content": content}).encode()
        address = f"/app/conversations/{conversation}/messages"
        with self._post(address, body, "application/json") as response:
            for name, data in _events(line.decode().rstrip() for line in response):
                if name == "error":
                    raise RuntimeError(data["message"])
                if name == "final":
                    message: dict[str, Any] = data["message"]
                    return message
        raise RuntimeError("the answer ended without its last event")

    def _json(self, path: str, value: dict[str, Any]) -> dict[str, Any]:
        with self._post(path, json.dumps(value).encode(), "application/json") as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    def _post(self, path: str, body: bytes, kind: str) -> HTTPResponse:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
        request = Request(self._address + path, body, headers, method="POST")
        response: HTTPResponse = urlopen(request, timeout=_ANSWER_S)
        return response


@contextmanager
def assistant(home: Path) -> Iterator[Client]:
    """A running assistant whose files lie in `home`, and a client of it."""
    command = [sys.executable, "-m", "ondevice", "desktop", "--no-window"]
    environment = {**os.environ, "ONDEVICE_HOME": str(home), "ONDEVICE_TOKEN": TOKEN}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        address = next(line for line in process.stderr if "http://" in line)
        yield Client("http://" + address.partition("http://")[2].partition("/")[0])
    finally:
        process.terminate()
        process.wait(30)


def measure(client: Client, model: str, asked: Sequence[Question]) -> Iterator[Row]:
    """One row for each question, each in a conversation of its own."""
    for question in asked:
        conversation = client.new_conversation(model)
        client.add(conversation, FOLDER / "handbook.pdf")
        message = client.ask(conversation, question.question)
        texts = [" ".join(passage["text"].split()) for passage in message["passages"]]
        yield Row(
            id=question.id,
            shown=len(texts),
            right_shown=any(all(e in text for e in question.evidence) for text in texts),
            answered_right=judge(question.check, message["content"]).right,
            answer=message["content"],
            prompt_tokens=message["details"]["prompt_tokens"],
            ttft_ms=round(message["details"]["ttft_ms"], 1),
        )


def main() -> None:
    """Print a line for each question, then the sums; write all with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", default=None, help="a name in the store")
    parser.add_argument("--json", type=Path, help="write the rows here")
    arguments = parser.parse_args()
    package = store.find(arguments.package)
    asked = questions(FOLDER / "questions.jsonl")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "packages").mkdir()
        (Path(folder) / "packages" / package.manifest.name).symlink_to(package.folder)
        with assistant(Path(folder)) as client:
            for row in measure(client, package.manifest.name, asked):
                rows.append(row)
                shown = "shown" if row.right_shown else "not shown"
                print(f"{row.id}  {shown}  {row.ttft_ms:.0f} ms  {row.answer[:70]!r}", flush=True)
    result = {"package": package.manifest.name, **summary(rows), "rows": [asdict(r) for r in rows]}
    result["device"] = asdict(device.fingerprint())
    if arguments.json is not None:
        write_text(arguments.json, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    common.print_json({key: value for key, value in result.items() if key != "rows"})


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Sums over all questions; TTFT in ms."""
    return {
        "questions": len(rows),
        "right_shown": sum(row.right_shown for row in rows),
        "answered_right": sum(row.answered_right for row in rows),
        "passages": round(statistics.mean(row.shown for row in rows), 1),
        "ttft_ms_median": statistics.median(row.ttft_ms for row in rows),
        "ttft_ms_largest": max(row.ttft_ms for row in rows),
    }


def _events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Server-sent events with their data."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


if __name__ == "__main__":
    main()
