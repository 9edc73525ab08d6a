"""fp32 exports of real GGUF files against the dequantized model in transformers.

The largest difference of logits over a prefill and 16 decode steps (limit 1e-3), and greedy 64
tokens on 20 prompts, which must be equal. Needs torch and transformers. From the root:

    python -m benchmarks.parity_gguf MODEL.gguf [MODEL.gguf ...] > parity.json

Answers that are done are kept in the work folder, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ondevice
from benchmarks.common import WORK, Lines, key, package_for, package_hash, print_json
from benchmarks.prompts import PROMPTS
from ondevice.export.proof import proof_text
from ondevice.runtime.engine import Engine
from ondevice.runtime.measure import most_probable
from ondevice.runtime.model import conversation

LIMIT = 1e-3
PREFILL = 256
STEPS = 16
GREEDY = 64
ASKED = 20
CONTEXT = 1024


@dataclass(frozen=True)
class Parity:
    """Largest absolute differences of logits, and on how many prompts the answers were equal."""

    model: str
    prefill_tokens: int
    prefill_difference: float
    decode_steps: int
    decode_difference: float
    prompts: int
    equal_answers: int
    different: tuple[str, ...]

    @property
    def passed(self) -> bool:
        worst = max(self.prefill_difference, self.decode_difference)
        return worst <= LIMIT and not self.different


class Reference:
    """The dequantized model in transformers, float32."""

    def __init__(self, gguf: Path, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self._torch = torch
        models: Any = AutoModelForCausalLM
        self._model = models.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        self._model.eval()

    def logits(self, tokens: Sequence[int], cache: Any = None) -> tuple[NDArray[np.float32], Any]:
        """Logits (tokens, vocab) after each token, and the KV cache to go on with."""
        with self._torch.inference_mode():
            done = self._model(
                self._torch.tensor([list(tokens)]), past_key_values=cache, use_cache=True
            )
        return done.logits[0].numpy(), done.past_key_values

    def greedy(self, prompt: Sequence[int], count: int, eos: Sequence[int]) -> list[int]:
        """Up to `count` most probable tokens, as transformers' own `generate` finds them."""
        ids = self._torch.tensor([list(prompt)])
        with self._torch.inference_mode():
            found = self._model.generate(
                ids,
                attention_mask=self._torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=count,
                eos_token_id=list(eos),
                pad_token_id=eos[0],
            )
        tokens: list[int] = found[0, len(prompt) :].tolist()
        return tokens


def greedy(engine: Engine, prompt: Sequence[int], count: int, eos: Sequence[int]) -> list[int]:
    """Up to `count` most probable tokens of our engine, an end token included."""
    engine.rewind(0)
    tokens = [most_probable(engine.prefill(prompt))]
    while len(tokens) < count and tokens[-1] not in eos:
        tokens.append(most_probable(engine.decode(tokens[-1])))
    return tokens


def logit_differences(
    engine: Engine, reference: Reference, prompt: Sequence[int]
) -> tuple[float, float]:
    """Largest absolute differences: at every position of a prefill, and over decode steps."""
    engine.rewind(0)
    found = engine.verify(prompt)
    expected, cache = reference.logits(prompt)
    prefill = float(np.abs(found - expected).max())
    token, decode = most_probable(expected[-1]), 0.0
    for _ in range(STEPS):
        logits, cache = reference.logits([token], cache)
        decode = max(decode, float(np.abs(engine.decode(token) - logits[0]).max()))
        token = most_probable(logits[0])
    return prefill, decode


def run(gguf: Path, work: Path, threads: int) -> Parity:
    """Export to float32, then compare with transformers."""
    package = package_for(gguf, "cpu-fp32", work)
    eos = package.manifest.text.eos_ids
    lines = Lines(work / "parity.jsonl")
    print(f"{gguf.name}: loading the reference", file=sys.stderr)
    reference = Reference(gguf, threads)
    asked = PROMPTS[:: len(PROMPTS) // ASKED][:ASKED]
    different = []
    with ondevice.load(package, threads=threads, context_length=CONTEXT) as model:
        text = model.tokenizer.encode(proof_text())[:PREFILL]
        prefill, decode = logit_differences(model.engine, reference, text)
        print(f"logits differ by {prefill:.2g} and {decode:.2g}", file=sys.stderr)
        for prompt in asked:
            tokens = model.prepare(conversation(prompt.text)).tokens
            name = key([package_hash(package), tokens, GREEDY])
            line = lines.get(name) or lines.add(
                name,
                id=prompt.id,
                ours=greedy(model.engine, tokens, GREEDY, eos),
                theirs=reference.greedy(tokens, GREEDY, eos),
            )
            same = line["ours"] == line["theirs"]
            print(f"{prompt.id}: {'equal' if same else 'different'}", file=sys.stderr)
            if not same:
                different.append(prompt.id)
    equal = len(asked) - len(different)
    return Parity(gguf.name, len(text), prefill, STEPS, decode, len(asked), equal, tuple(different))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("gguf", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for packages and answers")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    found = [run(gguf, options.work, options.threads) for gguf in options.gguf]
    print_json([{**asdict(parity), "passed": parity.passed} for parity in found])
    if not all(parity.passed for parity in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
