"""The exported graph against transformers and onnxruntime-genai, on random tiny models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import LLAMA3, random_weights, tiny, write_checkpoint, write_gguf

from ondevice.export.architecture import Architecture, Rope
from ondevice.export.convert import convert
from ondevice.package import Package
from ondevice.runtime.engine import Engine
from ondevice.runtime.genai import GenaiEngine
from ondevice.runtime.ort import OrtEngine

PREFILL, DECODE, GREEDY = 24, 16, 32
TOLERANCE = 2e-4

LLAMA3_ROPE = Rope(10000.0, 16, replace(LLAMA3, original_context_length=8))
ARCHITECTURES = {
    "llama": tiny("llama"),
    "llama tied": tiny("llama", tied_embeddings=True),
    "llama MHA": tiny("llama", kv_heads=4),
    "llama with llama3 rope": tiny("llama", rope=LLAMA3_ROPE),
    "llama with biases": tiny("llama", qkv_bias=True, output_bias=True, mlp_bias=True),
    "llama with odd shapes": tiny(
        "llama", hidden_size=96, intermediate_size=104, heads=6, kv_heads=3
    ),
    "qwen2": tiny("qwen2"),
    "qwen2 tied": tiny("qwen2", tied_embeddings=True),
    "qwen2 MHA": tiny("qwen2", kv_heads=4),
}


@dataclass
class Exported:
    """A checkpoint, its fp32 package and the tokens to try on both."""

    checkpoint: Path
    package: Package
    architecture: Architecture

    @property
    def tokens(self) -> list[int]:
        chance = np.random.default_rng(1)
        return [int(i) for i in chance.integers(0, self.architecture.vocab_size, PREFILL + DECODE)]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    architecture = ARCHITECTURES[request.param]
    folder = tmp_path_factory.mktemp("parity")
    checkpoint = write_checkpoint(folder / "checkpoint", architecture)
    return Exported(checkpoint, convert(checkpoint, "cpu-fp32", folder / "out"), architecture)


def run(engine: Engine, tokens: list[int]) -> np.ndarray:
    """Logits after the prefill and after each decoded token."""
    rows = [engine.prefill(tokens[:PREFILL])]
    rows += [engine.decode(token) for token in tokens[PREFILL:]]
    return np.stack(rows)


def greedy(engine: Engine, prompt: list[int]) -> list[int]:
    logits, found = engine.prefill(prompt), []
    for _ in range(GREEDY):
        found.append(int(logits.argmax()))
        logits = engine.decode(found[-1])
    return found


def transformers_model(checkpoint: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(2)
    return AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def test_logits_and_greedy_tokens_are_those_of_transformers(exported: Exported) -> None:
    import torch

    model = transformers_model(exported.checkpoint)
    with torch.no_grad():
        logits = model(torch.tensor([exported.tokens])).logits[0, PREFILL - 1 :].numpy()
        prompt = torch.tensor([exported.tokens[:PREFILL]])
        expected = model.generate(prompt, max_new_tokens=GREEDY, do_sample=False, eos_token_id=None)
    engine = OrtEngine(exported.package, 1)
    found = run(engine, exported.tokens)
    assert logits.std() > 0.1
    assert np.abs(found - logits).max() <= TOLERANCE
    engine.rewind(0)
    assert greedy(engine, exported.tokens[:PREFILL]) == expected[0, PREFILL:].tolist()


def test_onnxruntime_genai_gives_the_same_from_the_same_folder(exported: Exported) -> None:
    ort, genai = OrtEngine(exported.package, 1), GenaiEngine(exported.package, 1, 128)
    difference = run(ort, exported.tokens) - run(genai, exported.tokens)
    assert np.abs(difference).max() <= TOLERANCE
    ort.rewind(0), genai.rewind(0)
    prompt = exported.tokens[:PREFILL]
    assert greedy(ort, prompt) == greedy(genai, prompt)


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_the_same_weights_through_gguf_give_the_same_logits(name: str, tmp_path: Path) -> None:
    weights = random_weights(tiny(name))
    checkpoint = write_checkpoint(tmp_path / "checkpoint", tiny(name), weights)
    file = write_gguf(tmp_path / "model.gguf", tiny(name), weights)
    tokens = list(range(PREFILL + DECODE))
    sources = {"safetensors": checkpoint, "gguf": file}
    packages = [convert(path, "cpu-fp32", tmp_path / out) for out, path in sources.items()]
    ours, theirs = (run(OrtEngine(package, 1), tokens) for package in packages)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
