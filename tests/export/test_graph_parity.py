"""The exported graph against transformers and onnxruntime-genai, on random tiny models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import LLAMA3, long_rope, random_weights, tiny, write_checkpoint, write_gguf

from ondevice.errors import ExportError
from ondevice.export.architecture import Architecture, LinearScaling, Rope
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
    "odd hidden size, heads and vocabulary": tiny(
        "qwen3", hidden_size=80, intermediate_size=72, heads=9, kv_heads=3, vocab_size=271
    ),
    "llama linear": tiny("llama", rope=Rope(10000.0, 16, LinearScaling(8.0))),
    "mistral": tiny("mistral"),
    "mistral with a window": tiny("mistral", window=24),
    "mistral with wide heads": tiny("mistral", head_dim=32),
    "qwen2 with windows": tiny("qwen2", layers=3, window=24, windowed=(False, True, True)),
    "qwen3": tiny("qwen3"),
    "qwen3 tied, wide heads": tiny("qwen3", tied_embeddings=True, head_dim=32, kv_heads=1),
    "phi3": tiny("phi3"),
    "phi3 longrope": tiny("phi3", rope=long_rope(original=32)),
    "phi3 partial longrope": tiny(
        "phi3",
        hidden_size=128,
        head_dim=32,
        rope=long_rope(16, original=32),
        kv_heads=1,
        tied_embeddings=True,
    ),
    "phi3 with a window": tiny("phi3", window=24),
    "gemma2": tiny("gemma2"),
    "gemma2 with another scale": tiny("gemma2", attention_scale=24**-0.5),
    "gemma3": tiny("gemma3_text"),
    "gemma3 of seven layers": tiny(
        "gemma3_text", layers=7, windowed=(True,) * 5 + (False, True), kv_heads=1
    ),
    "gemma3 linear": tiny("gemma3_text", rope=Rope(1e6, 16, LinearScaling(8.0)), hidden_size=80),
    "smollm3": tiny("smollm3"),
}

# What GGUF does not hold, or holds as other numbers (Llama 3's rope as factors).
GGUF = {
    name: architecture
    for name, architecture in ARCHITECTURES.items()
    if name not in ("llama with llama3 rope", "qwen2 with windows", "gemma2 with another scale")
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

    @property
    def prefixes(self) -> list[list[int]]:
        """The sequences after the prefill and after each decoded token."""
        return [self.tokens[:count] for count in range(PREFILL, PREFILL + DECODE + 1)]


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


def logits_after(model: Any, tokens: list[int]) -> np.ndarray:
    """Logits (vocab,) after a sequence that is run as a whole: LongRoPE depends on its length."""
    import torch

    return model(torch.tensor([tokens]), use_cache=False).logits[0, -1].numpy()


def test_logits_and_greedy_tokens_are_those_of_transformers(exported: Exported) -> None:
    import torch

    model = transformers_model(exported.checkpoint)
    with torch.no_grad():
        logits = np.stack([logits_after(model, tokens) for tokens in exported.prefixes])
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


@pytest.mark.parametrize("name", GGUF)
def test_the_same_weights_through_gguf_give_the_same_logits(name: str, tmp_path: Path) -> None:
    weights = random_weights(GGUF[name])
    checkpoint = write_checkpoint(tmp_path / "checkpoint", GGUF[name], weights)
    file = write_gguf(tmp_path / "model.gguf", GGUF[name], weights)
    tokens = list(range(PREFILL + DECODE))
    sources = {"safetensors": checkpoint, "gguf": file}
    packages = [convert(path, "cpu-fp32", tmp_path / out) for out, path in sources.items()]
    ours, theirs = (run(OrtEngine(package, 1), tokens) for package in packages)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("make", [OrtEngine, GenaiEngine])
def test_longrope_is_computed_anew_whichever_way_the_switch_is_crossed(
    long_rope_package: Package, make: Callable[..., Engine]
) -> None:
    tokens = list(range(40))
    engine = make(long_rope_package, 1, 128)
    long = engine.prefill(tokens)
    engine.rewind(0)
    engine.prefill(tokens[:30])
    parts = [engine.prefill(tokens[30:35]), engine.prefill(tokens[35:])]
    np.testing.assert_allclose(parts[1], long, atol=1e-4)
    engine.rewind(20)
    back = engine.decode(tokens[20])
    engine.rewind(0)
    np.testing.assert_allclose(back, engine.prefill(tokens[:21]), atol=1e-4)


def test_a_snapshot_can_cross_the_switch_too(long_rope_package: Package) -> None:
    tokens = list(range(40))
    first, second = OrtEngine(long_rope_package, 1), OrtEngine(long_rope_package, 1)
    first.prefill(tokens[:30])
    second.restore(first.snapshot())
    assert second.position == 30
    found = second.prefill(tokens[30:])
    first.rewind(0)
    np.testing.assert_allclose(found, first.prefill(tokens), atol=1e-4)


@pytest.fixture(scope="module")
def long_rope_package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("longrope")
    checkpoint = write_checkpoint(folder / "checkpoint", ARCHITECTURES["phi3 longrope"])
    return convert(checkpoint, "cpu-fp32", folder / "out")


def test_a_window_counts_its_tokens_as_transformers_does(tmp_path: Path) -> None:
    """One token more or less in the window would differ by far more than the tolerance."""
    apart = []
    for window in (23, 24, 25):
        folder = tmp_path / str(window)
        checkpoint = write_checkpoint(folder / "c", tiny("mistral", window=window, layers=1))
        engine = OrtEngine(convert(checkpoint, "cpu-fp32", folder / "out"), 1)
        apart.append(engine.prefill(list(range(60))))
    assert min(np.abs(apart[1] - apart[0]).max(), np.abs(apart[1] - apart[2]).max()) > 1e-2


@pytest.mark.parametrize(
    "architecture", [tiny("llama", head_dim=24), tiny("phi3", rope=Rope(10000.0, 12))]
)
def test_heads_that_the_attention_cannot_take_are_refused(
    tmp_path: Path, architecture: Architecture
) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", architecture)
    with pytest.raises(ExportError, match="wants a multiple of 16"):
        convert(checkpoint, "cpu-fp32", tmp_path / "out")
    assert not (tmp_path / "out").exists()
