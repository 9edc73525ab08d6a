"""Static graphs against the float32 package: greedy agreement, on this machine's provider.

The float32 package answers prompts greedily. At each of its tokens the static graphs, given the
same tokens before it, are asked for their most probable one; besides, they answer by themselves.
From the repository's root:

    python -m benchmarks.npu MODEL.gguf

Fidelity on text and speed: `python -m benchmarks.fidelity MODEL.gguf --targets npu-int8` and
`ondevice bench`. Not run on an NPU.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import ondevice
from benchmarks.common import WORK, package_for, print_json
from benchmarks.parity_gguf import greedy
from benchmarks.prompts import PROMPTS
from ondevice.export.recipe import Options
from ondevice.package import Package
from ondevice.runtime.model import conversation
from ondevice.runtime.npu import NpuEngine

ASKED = 40
GREEDY = 64
CONTEXT = 1024


@dataclass(frozen=True)
class Agreement:
    """Of `tokens` greedy tokens of the float32 package, the share that is also most probable in
    the static graphs; and of `prompts`, how many they answer with the same tokens by themselves."""

    model: str
    activation_bits: int
    provider: str
    bytes: int
    prompts: int
    tokens: int
    agreement: float
    equal_answers: int


def answers(package: Package, threads: int) -> list[tuple[list[int], list[int]]]:
    """Prompts and their greedy answers."""
    asked = PROMPTS[:: len(PROMPTS) // ASKED][:ASKED]
    eos = package.manifest.text.eos_ids
    found = []
    with ondevice.load(package, threads=threads, context_length=CONTEXT) as model:
        for prompt in asked:
            tokens = list(model.prepare(conversation(prompt.text)).tokens)
            found.append((tokens, greedy(model.engine, tokens, GREEDY, eos)))
    return found


def compare(
    package: Package, bits: int, asked: Sequence[tuple[list[int], list[int]]], threads: int
) -> Agreement:
    """How far static graphs go along with answers."""
    same = tokens = equal = 0
    eos = package.manifest.text.eos_ids
    with contextlib.closing(NpuEngine(package, threads)) as engine:
        for prompt, answer in asked:
            engine.rewind(0)
            logits = engine.verify([*prompt, *answer[:-1]])[len(prompt) - 1 :]
            same += int((logits.argmax(axis=1) == answer).sum())
            tokens += len(answer)
            equal += greedy(engine, prompt, GREEDY, eos) == answer
        provider = engine.provider
    return Agreement(
        package.manifest.name,
        bits,
        provider,
        package.total_bytes,
        len(asked),
        tokens,
        round(same / tokens, 4),
        equal,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--work", type=Path, default=WORK, help="folder for packages")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    asked = answers(package_for(options.gguf, "cpu-fp32", options.work), options.threads)
    found = []
    for bits in (16, 8):
        name = f"npu-int8-{bits}"
        chosen = Options(activation_bits=bits)
        package = package_for(options.gguf, "npu-int8", options.work, chosen, name)
        found.append(asdict(compare(package, bits, asked, options.threads)))
    print_json(found)


if __name__ == "__main__":
    main()
