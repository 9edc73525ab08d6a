"""Adapters merged into checkpoints: what peft makes of them, and what is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import random_weights, tiny, write_checkpoint, write_gguf, write_safetensors
from numpy.typing import NDArray

from ondevice.errors import SourceError
from ondevice.export.architecture import EMBEDDING, HEAD, Architecture
from ondevice.export.convert import convert
from ondevice.export.lora import AdapterSource, with_adapter
from ondevice.export.source import Source, open_source
from ondevice.runtime.ort import OrtEngine

TOLERANCE = 2e-4
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
QUERY = "model.layers.0.self_attn.q_proj"
PREFIX = "base_model.model."


def trained(checkpoint: Path, folder: Path, **options: Any) -> Any:
    """A peft model with random factors on a checkpoint, its adapter saved to `folder`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tied embeddings, which are meant here
        tuned = get_peft_model(model, LoraConfig(**options)).eval()
        with torch.no_grad():
            for value in (v for v in tuned.parameters() if v.requires_grad):
                value += 0.1 * torch.randn_like(value)
        tuned.save_pretrained(folder)
    return tuned


def logits(model: Any, tokens: list[int]) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        found: NDArray[np.float32] = model(torch.tensor([tokens])).logits[0].numpy()
    return found


def merged(base: Path, adapter: Path) -> AdapterSource:
    return AdapterSource(open_source(base), adapter)


def all_weights(source: Source) -> dict[str, NDArray[np.float32]]:
    return {name: source.read(name) for name in source.architecture.tensor_shapes()}


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        (tiny("llama"), {"target_modules": LINEAR}),
        (tiny("llama"), {"target_modules": LINEAR, "use_rslora": True, "r": 4, "lora_alpha": 9}),
        (
            tiny("qwen2", tied_embeddings=True),
            {
                "target_modules": LINEAR,
                "rank_pattern": {"q_proj": 3, r"layers\.1\.mlp\.up_proj": 5},
                "alpha_pattern": {r".*\.1\..*": 20, "^model.layers.0.self_attn.k_proj": 2},
            },
        ),
        (tiny("phi3"), {"target_modules": ["qkv_proj", "gate_up_proj", "o_proj"]}),
        (tiny("gemma3_text"), {"target_modules": LINEAR, "modules_to_save": ["norm"]}),
        (tiny("llama"), {"target_modules": ["v_proj", "embed_tokens", "lm_head"]}),
    ],
    ids=["llama", "rslora", "patterns", "fused", "norms saved", "embedding and head"],
)
def test_merged_weights_are_those_that_peft_merges(
    tmp_path: Path, architecture: Architecture, options: dict[str, Any]
) -> None:
    base = write_checkpoint(tmp_path / "base", architecture)
    model = trained(base, tmp_path / "adapter", **options)
    model.merge_and_unload().save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "config.json").write_bytes((base / "config.json").read_bytes())
    ours, theirs = merged(base, tmp_path / "adapter"), open_source(tmp_path / "theirs")
    before, found, expected = all_weights(open_source(base)), all_weights(ours), all_weights(theirs)
    assert found.keys() == expected.keys()
    assert any(abs(expected[name] - before[name]).max() > 1e-2 for name in expected)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-6, err_msg=name)


def test_the_exported_package_has_the_logits_of_the_merged_model(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", tiny("llama"))
    model = trained(base, tmp_path / "adapter", target_modules=LINEAR, r=4)
    package = convert_merged(base, tmp_path / "adapter", tmp_path / "out")
    tokens = list(range(3, 30))
    unmerged, plain = logits(model, tokens), logits(model.merge_and_unload(), tokens)
    engine = OrtEngine(package, 1)
    found = np.stack([engine.prefill(tokens[:10]), *map(engine.decode, tokens[10:])])
    assert np.abs(found - plain[9:]).max() <= TOLERANCE
    assert np.abs(found - unmerged[9:]).max() <= TOLERANCE


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    ],
    ids=["factors of the embedding", "factors of the head", "embedding", "head"],
)
def test_an_embedding_that_is_the_head_too_becomes_two_where_one_is_changed(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    base = write_checkpoint(tmp_path / "base", tiny("llama", tied_embeddings=True))
    model = trained(base, tmp_path / "adapter", **options)
    source = merged(base, tmp_path / "adapter")
    assert not source.architecture.tied_embeddings
    package = convert_merged(base, tmp_path / "adapter", tmp_path / "out")
    tokens = list(range(3, 20))
    found = OrtEngine(package, 1).prefill(tokens)
    assert np.abs(found - logits(model, tokens)[-1]).max() <= TOLERANCE


def convert_merged(base: Path, adapter: Path, out: Path) -> Any:
    from ondevice.export.recipe import Options

    return convert(base, "cpu-fp32", out, options=Options(adapter=adapter))


# ---- adapters written here, without peft


def factors(
    architecture: Architecture, modules: list[str], rank: int = 4
) -> dict[str, NDArray[np.float32]]:
    """Tensors of an adapter as peft names them."""
    chance = np.random.default_rng(3)
    shapes = architecture.tensor_shapes()
    tensors: dict[str, NDArray[np.float32]] = {}
    for module in modules:
        out, inner = shapes[f"{module}.weight"]
        for side, shape in (("A", (rank, inner)), ("B", (out, rank))):
            drawn = chance.standard_normal(shape).astype(np.float32)
            tensors[f"{PREFIX}{module}.lora_{side}.weight"] = drawn
    return tensors


def write_adapter(
    folder: Path, tensors: dict[str, NDArray[np.float32]], dtype: str = "F32", **changes: Any
) -> Path:
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    write_safetensors(folder / "adapter_model.safetensors", tensors, dtype)
    return folder


def refused(base: Path, adapter: Path, pattern: str) -> None:
    source = open_source(base)
    with pytest.raises(SourceError, match=pattern) as caught:
        all_weights(AdapterSource(source, adapter))
    assert "\n" not in str(caught.value)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "base", tiny())


def test_rows_are_the_same_bits_whatever_comes_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: Path
) -> None:
    monkeypatch.setattr("ondevice.export.lora._ROWS", 24)
    source = merged(base, write_adapter(tmp_path / "adapter", factors(tiny(), [QUERY])))
    name = f"{QUERY}.weight"
    whole = source.read(name)
    for rows in (slice(0, 1), slice(5, 7), slice(23, 25), slice(30, 64), slice(63, 64)):
        assert source.read(name, rows).tobytes() == whole[rows].tobytes()


def test_what_is_not_changed_keeps_its_stored_integers(tmp_path: Path) -> None:
    architecture = tiny("llama", hidden_size=64)
    file = write_gguf(tmp_path / "model.gguf", architecture, matrices="Q8_0")
    plain = open_source(file)
    source = merged(file, write_adapter(tmp_path / "adapter", factors(architecture, [QUERY])))
    other = QUERY.replace("q_proj", "k_proj") + ".weight"
    grid, own = source.stored_grid(other), plain.stored_grid(other)
    assert grid is not None and own is not None
    np.testing.assert_array_equal(grid.integers, own.integers)
    assert source.stored_grid(f"{QUERY}.weight") is None
    assert source.stored_type(other) == "Q8_0"
    assert source.stored_type(f"{QUERY}.weight") == "Q8_0 with LoRA"
    assert source.tokenizer == plain.tokenizer


def test_a_gguf_base_gets_the_same_merged_weights(tmp_path: Path, base: Path) -> None:
    weights = random_weights(tiny())
    file = write_gguf(tmp_path / "model.gguf", tiny(), weights)
    adapter = write_adapter(tmp_path / "adapter", factors(tiny(), [QUERY]))
    name = f"{QUERY}.weight"
    found = merged(file, adapter).read(name)
    assert abs(found - weights[name]).max() > 0.5
    np.testing.assert_allclose(found, merged(base, adapter).read(name), atol=1e-6)


def test_origin_names_the_adapters_files_and_hashes(tmp_path: Path, base: Path) -> None:
    adapter = write_adapter(tmp_path / "my-adapter", factors(tiny(), [QUERY]))
    origin, plain = merged(base, adapter).origin(), open_source(base).origin()
    added = origin.files.keys() - plain.files.keys()
    assert added == {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    assert origin.id == f"{plain.id} + my-adapter"


def test_without_an_adapter_the_source_is_itself(base: Path) -> None:
    source = open_source(base)
    assert with_adapter(source, None) is source


@pytest.mark.parametrize(
    "renamed",
    [
        lambda name: name.removeprefix(PREFIX),
        lambda name: name.replace(f"{PREFIX}model.", PREFIX),
        lambda name: name.replace(f"{PREFIX}model.", f"{PREFIX}model.language_model."),
        lambda name: name.replace(f"{PREFIX}model.", f"{PREFIX}language_model.model."),
        lambda name: name.replace(".weight", ".default.weight"),
    ],
    ids=["no prefix", "no head", "beside vision", "older beside vision", "adapter's name"],
)
def test_other_spellings_of_a_module_are_understood(
    tmp_path: Path, base: Path, renamed: Any
) -> None:
    tensors = factors(tiny(), [QUERY])
    expected = merged(base, write_adapter(tmp_path / "usual", tensors))
    other = {renamed(name): values for name, values in tensors.items()}
    found = merged(base, write_adapter(tmp_path / "other", other))
    name = f"{QUERY}.weight"
    assert found.read(name).tobytes() == expected.read(name).tobytes()


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"use_dora": True}, "use_dora .*DoRA.*merge it with peft"),
        ({"bias": "lora_only"}, "bias to 'lora_only': biases are trained"),
        ({"lora_bias": True}, "biases are trained"),
        ({"fan_in_fan_out": True}, "transposed"),
        ({"peft_type": "IA3"}, "kind 'IA3'; only LORA"),
        ({"peft_type": None}, "has no peft_type"),
        ({"init_lora_weights": "pissa"}, "changes the base"),
        ({"layer_replication": [[0, 2]]}, "layers are repeated"),
        ({"some_new_option": {"x": 1}}, "sets some_new_option .* not known here"),
        ({"modules_to_save": ["lm_head"]}, "saves all of 'lm_head' but has no tensor"),
        ({"r": 8}, r"has the shape \(4, 64\).*ask for \(8, 64\)"),
        ({"r": 0}, "whole number from 1"),
        ({"lora_alpha": "8"}, "not a number"),
        ({"rank_pattern": {"q_proj": -1}}, "whole number"),
        ({"rank_pattern": {"(a*)*": 4}}, "no pattern of module names"),
        ({"alpha_pattern": {".*.*.*.*x": 4}}, "no pattern of module names"),
        ({"alpha_pattern": {"[": 4}}, "no pattern of module names"),
        ({"rank_pattern": [1]}, "not an object"),
    ],
)
def test_configurations_that_cannot_be_merged_are_named(
    tmp_path: Path, base: Path, changes: dict[str, Any], pattern: str
) -> None:
    refused(base, write_adapter(tmp_path / "a", factors(tiny(), [QUERY]), **changes), pattern)


def test_tensors_that_do_not_fit_are_named(tmp_path: Path, base: Path) -> None:
    good = factors(tiny(), [QUERY])
    down, up = f"{PREFIX}{QUERY}.lora_A.weight", f"{PREFIX}{QUERY}.lora_B.weight"
    wide = np.zeros((4, 80), np.float32)
    hint = {"base_model_name_or_path": "someone/Other-7B"}

    def tried(tensors: dict[str, NDArray[np.float32]], pattern: str, **changes: Any) -> None:
        refused(base, write_adapter(tmp_path / "adapter", tensors, **changes), pattern)

    tried(good | {down: wide}, "of another base or damaged; it names 'someone/Other-7B'", **hint)
    other = {name.replace("layers.0", "layers.7"): values for name, values in good.items()}
    tried(other, r"layers\.7.*the checkpoint has not; it names 'someone/Other-7B'", **hint)
    tried({down: good[down]}, "one of two matrices")
    tried(good | {f"{PREFIX}{QUERY}.bias": wide[0]}, "q_proj.bias', which the checkpoint has not")
    tried(good | {f"{PREFIX}{QUERY}.lora_magnitude_vector": wide[0]}, "DoRA")
    tried(good | {down.replace(".weight", ".second.weight"): good[down]}, "two tensors for")
    tried(good | {down: np.full((4, 64), np.nan, np.float32)}, "NaN or infinity")
    tried(good | {up: np.full((64, 4), 3e38, np.float32)}, "NaN or infinity")
    tried(good | {f"{PREFIX}lm_head.weight": np.zeros((300, 64), np.float32)}, r"\(300, 64\)")
    norm = {n.replace(QUERY, "model.norm"): values for n, values in good.items()}
    tried(norm, "another kind of layer")


def test_folders_that_are_no_adapters_are_named(tmp_path: Path, base: Path) -> None:
    refused(base, tmp_path / "nowhere", "adapter_config.json is missing")
    folder = write_adapter(tmp_path / "adapter", {})
    (folder / "adapter_model.safetensors").unlink()
    refused(base, folder, "adapter_model.safetensors is missing; give the folder of a PEFT adapter")
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04would run code")
    refused(base, folder, "pickled adapter")


def test_one_matrix_trained_as_embedding_and_head_is_refused(tmp_path: Path) -> None:
    architecture = tiny(tied_embeddings=True)
    base = write_checkpoint(tmp_path / "base", architecture)
    table = {
        f"{PREFIX}model.embed_tokens.lora_embedding_A": np.ones((4, 264), np.float32),
        f"{PREFIX}model.embed_tokens.lora_embedding_B": np.ones((64, 4), np.float32),
    }
    adapter = write_adapter(tmp_path / "adapter", table, ensure_weight_tying=True)
    refused(base, adapter, "as one matrix")
    write_adapter(tmp_path / "adapter", table)
    source = merged(base, adapter)
    np.testing.assert_allclose(source.read(EMBEDDING), source.read(HEAD) + 8, atol=1e-5)
