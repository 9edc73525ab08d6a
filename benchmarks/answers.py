"""Right answers to the 200 prompts: our package against llama.cpp on the same GGUF file.

Both get the same prompt token ids (our chat template and tokenizer) and decode greedily, so only
the engine and its weights differ. From the repository's root:

    python -m benchmarks.answers MODEL.gguf --json answers.jsonl

Interrupted, it goes on where it was. Checks run on the kept answers, so that a mended checker
needs no new run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import ondevice
from benchmarks.common import WORK, Lines, key, package_for, package_hash, print_json
from benchmarks.prompts import PROMPTS
from benchmarks.tasks import Prompt
from ondevice import files
from ondevice.package import Package
from ondevice.runtime.answer import Options
from ondevice.runtime.engine import Engine
from ondevice.runtime.evaluate.statistics import mcnemar
from ondevice.runtime.generate import generate
from ondevice.runtime.llamacpp import LlamaCppEngine
from ondevice.runtime.model import Model, conversation

CONTEXT = 1024


@dataclass(frozen=True)
class Comparison:
    """Right answers of two engines to the same prompts.

    `p_value` is that of McNemar's exact test, two-sided: how likely so uneven a split of the
    prompts that only one of them got right would be if both were equally good.
    """

    prompts: int
    ours: int
    theirs: int
    both: int
    only_ours: tuple[str, ...]
    only_theirs: tuple[str, ...]
    p_value: float
    identical_answers: float


@dataclass(frozen=True)
class Task:
    """A prompt with its token ids."""

    prompt: Prompt
    tokens: tuple[int, ...]


def compare(ours: dict[str, str], theirs: dict[str, str], prompts: Sequence[Prompt]) -> Comparison:
    """Check the answers (by prompt id) of both."""
    right_ours = {prompt.id for prompt in prompts if prompt.check(ours[prompt.id])}
    right_theirs = {prompt.id for prompt in prompts if prompt.check(theirs[prompt.id])}
    only_ours = tuple(sorted(right_ours - right_theirs))
    only_theirs = tuple(sorted(right_theirs - right_ours))
    return Comparison(
        prompts=len(prompts),
        ours=len(right_ours),
        theirs=len(right_theirs),
        both=len(right_ours & right_theirs),
        only_ours=only_ours,
        only_theirs=only_theirs,
        p_value=mcnemar(len(only_ours), len(only_theirs)),
        identical_answers=sum(ours[p.id] == theirs[p.id] for p in prompts) / len(prompts),
    )


def answer_all(
    engine: Engine, identity: str, model: Model, tasks: Sequence[Task], most: int, lines: Lines
) -> dict[str, str]:
    """The engine's answers by prompt id; only those that are not kept in `lines` are made.

    `identity` names the engine's weights: answers of others are not taken for its own.
    """
    assert model.package is not None
    eos = model.package.manifest.text.eos_ids
    answers = {}
    for number, task in enumerate(tasks, start=1):
        name = key([engine.name, identity, task.tokens, most])
        line = lines.get(name)
        if line is None:
            made = generate(
                engine, model.tokenizer, task.tokens, Options(max_tokens=most), eos_ids=eos
            )
            for _ in made:
                pass
            line = lines.add(
                name, engine=engine.name, id=task.prompt.id, text=made.text, tokens=made.tokens
            )
            print(f"{engine.name} {number}/{len(tasks)}", file=sys.stderr, end="\r")
        answers[task.prompt.id] = line["text"]
    return answers


def run(gguf: Path, package: Package, threads: int, most: int, lines: Lines) -> Comparison:
    """Answer with both engines, one after the other, and compare."""
    with ondevice.load(package, threads=threads, context_length=CONTEXT) as model:
        tasks = [Task(p, model.prepare(conversation(p.text)).tokens) for p in PROMPTS]
        ours = answer_all(model.engine, package_hash(package), model, tasks, most, lines)
        other = LlamaCppEngine(gguf, threads=threads, context_length=CONTEXT)
        try:
            theirs = answer_all(other, files.sha256(gguf), model, tasks, most, lines)
        finally:
            other.close()
    return compare(ours, theirs, PROMPTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--target", default="cpu-as-is")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for packages")
    parser.add_argument("--json", type=Path, default=WORK / "answers.jsonl", metavar="OUT")
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    package = package_for(options.gguf, options.target, options.work)
    lines = Lines(options.json)
    found = run(options.gguf, package, options.threads, options.max_tokens, lines)
    print_json({"model": options.gguf.name, "target": options.target, **asdict(found)})


if __name__ == "__main__":
    main()
