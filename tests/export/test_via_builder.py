"""The model builder itself on tiny models, where this environment has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import EOS, tiny, tokenizer_json, tokens, write_checkpoint, write_json
from numpy.typing import NDArray

from ondevice.export.via import convert_via
from ondevice.package import Package
from ondevice.runtime.engine import Engine
from ondevice.runtime.genai import GenaiEngine
from ondevice.runtime.ort import OrtEngine

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("onnxruntime_genai")

PROMPT, STEPS = [5, 80, 7, 130, 131, 9, 200, 41], 12
Granite = tuple[Package, Callable[[list[int]], NDArray[np.float32]]]


@pytest.fixture(scope="module")
def granite(tmp_path_factory: pytest.TempPathFactory) -> Granite:
    """A Granite, which we do not describe, and what transformers says of a text."""
    folder = tmp_path_factory.mktemp("granite")
    torch.manual_seed(0)
    config = transformers.GraniteConfig(
        vocab_size=len(tokens()),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        embedding_multiplier=2.0,
        attention_multiplier=0.2,
        logits_scaling=3.0,
        residual_multiplier=0.5,
        eos_token_id=tokens().index(EOS),
        initializer_range=0.2,
    )
    model = transformers.GraniteForCausalLM(config).float().eval()
    model.save_pretrained(folder / "source")
    (folder / "source" / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    fields: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": EOS}
    (folder / "source" / "tokenizer_config.json").write_text(json.dumps(fields), encoding="utf-8")

    def logits(ids: list[int]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = model(torch.tensor([ids])).logits[0].numpy()
            return found

    package = convert_via("genai", folder / "source", "cpu-fp32", folder / "out")
    assert isinstance(package, Package)
    return package, logits


def test_an_undescribed_architecture_is_proved_against_transformers(granite: Granite) -> None:
    manifest = granite[0].manifest
    assert manifest.proof is not None
    assert manifest.proof.kl_mean < 1e-5 and manifest.proof.top1_agreement > 0.995
    assert manifest.shape.architecture == "granite"
    assert manifest.tools["reference"].startswith("transformers 5.")


@pytest.mark.parametrize("kind", [OrtEngine, GenaiEngine])
def test_both_engines_generate_what_transformers_would(
    kind: Callable[[Package, int], Engine], granite: Granite
) -> None:
    package, logits = granite
    engine = kind(package, 1)
    ids = [*PROMPT]
    found = engine.prefill(ids)
    for _ in range(STEPS):
        expected = logits(ids)[-1]
        assert np.abs(found - expected).max() < 2e-4
        ids.append(int(expected.argmax()))
        found = engine.decode(ids[-1])
    engine.close()


def test_several_positions_get_their_logits(granite: Granite) -> None:
    package, logits = granite
    engine = OrtEngine(package, 1)
    engine.prefill(PROMPT[:3])
    assert np.abs(engine.verify(PROMPT[3:]) - logits(PROMPT)[3:]).max() < 2e-4


def test_a_described_architecture_is_proved_by_our_own_reference(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "c", tiny())
    write_json(source / "tokenizer_config.json", {"eos_token": EOS})
    package = convert_via("genai", source, "cpu-int4", tmp_path / "out", accept=True)
    manifest = package.manifest
    assert manifest.tools["reference"] == "ondevice"
    version = manifest.tools["onnxruntime-genai"]
    assert manifest.recipe.tensors == {
        "float32": 1,  # the embedding
        f"int4 block 32, by onnxruntime-genai {version}": 2 * 5,  # query, key and value are fused
        f"int8 block 32, by onnxruntime-genai {version}": 1,
    }
    assert isinstance(package, Package)
    engine, other = OrtEngine(package, 1), GenaiEngine(package, 1)
    assert np.abs(engine.prefill(PROMPT) - other.prefill(PROMPT)).max() < 1e-3
