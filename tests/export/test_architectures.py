"""Every architecture from config.json and from GGUF keys: one description, one set of weights."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import (
    LLAMA3,
    long_rope,
    random_weights,
    tiny,
    write_checkpoint,
    write_gguf,
    write_json,
)
from layouts import CLASSES, GEMMA

from ondevice.errors import SourceError
from ondevice.export.architecture import (
    EMBEDDING,
    Architecture,
    LinearScaling,
    LongRope,
    Rope,
)
from ondevice.export.architectures import registry
from ondevice.export.gguf_source import GGUFSource
from ondevice.export.safetensors_source import SafetensorsSource
from ondevice.export.source import open_source

LINEAR = LinearScaling(8.0)
BOTH = {
    **{name: tiny(name) for name in CLASSES},
    "mistral with a window": tiny("mistral", window=24),
    "mistral with wide heads": tiny("mistral", head_dim=32),
    "llama linear": tiny("llama", rope=Rope(10000.0, 16, LINEAR)),
    "phi3 longrope": tiny("phi3", rope=long_rope()),
    "phi3 partial longrope": tiny("phi3", rope=long_rope(12), kv_heads=1, tied_embeddings=True),
    "phi3 with a window": tiny("phi3", rope=Rope(10000.0, 12), window=24),
    "qwen3 with biases": tiny("qwen3", qkv_bias=True, output_bias=True, head_dim=32),
    "gemma2 without windows": tiny("gemma2", window=0),
    "gemma3 without windows": tiny("gemma3_text", window=0),
    "gemma3 of seven layers": tiny(
        "gemma3_text", layers=7, windowed=(True,) * 5 + (False, True), logit_softcap=20.0
    ),
    "gemma3 linear": tiny("gemma3_text", rope=Rope(1e6, 16, LINEAR), hidden_size=80),
    "smollm3 with biases": tiny("smollm3", qkv_bias=True, output_bias=True, mlp_bias=True),
}
CONFIG_ONLY = {
    "llama3": tiny("llama", rope=Rope(500000.0, 16, LLAMA3)),
    "qwen2 with windows": tiny("qwen2", layers=3, window=24, windowed=(False, True, True)),
    "qwen3 with windows": tiny("qwen3", window=24),
    "gemma2 with another scale": tiny("gemma2", attention_scale=24**-0.5),
    "smollm3 other layers": tiny("smollm3", unrotated=frozenset({0, 2})),
    "smollm3 with windows": tiny("smollm3", window=24, windowed=(False, False, False, True)),
}


def from_config(folder: Path, architecture: Architecture, **changes: Any) -> Architecture:
    """What is read of a written checkpoint, some fields changed; `...` removes one."""
    path = write_checkpoint(folder, architecture) / "config.json"
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    write_json(path, {name: value for name, value in values.items() if value is not ...})
    return SafetensorsSource(folder).architecture


def from_gguf(folder: Path, architecture: Architecture, **keys: Any) -> Architecture:
    prefix = "gemma3" if architecture.name == "gemma3_text" else architecture.name
    named = {f"{prefix}.{name.replace('__', '.')}": value for name, value in keys.items()}
    return GGUFSource(write_gguf(folder / "m.gguf", architecture, keys=named)).architecture


def rounded(architecture: Architecture) -> Architecture:
    """With what GGUF holds in fp32 rounded so, and the name that it has for Mistral."""
    rope = architecture.rope
    if isinstance(rope.scaling, LongRope):
        factor = float(np.float32(rope.scaling.attention_factor))
        rope = replace(rope, scaling=replace(rope.scaling, attention_factor=factor))
    name = "llama" if architecture.name == "mistral" else architecture.name
    eps = float(np.float32(architecture.norm_eps))
    return replace(architecture, name=name, norm_eps=eps, rope=rope)


@pytest.mark.parametrize("new_rope", [False, True])
@pytest.mark.parametrize("name", [*BOTH, *CONFIG_ONLY])
def test_config_and_weights_come_back_as_they_were(
    tmp_path: Path, name: str, new_rope: bool
) -> None:
    architecture = (BOTH | CONFIG_ONLY)[name]
    weights = random_weights(architecture)
    write_checkpoint(tmp_path, architecture, weights, new_rope=new_rope, shards=2)
    source = SafetensorsSource(tmp_path)
    assert source.architecture == architecture
    for weight, values in weights.items():
        added = weight.endswith("norm.weight") and architecture.name in GEMMA
        expected = (values - 1) + np.float32(1) if added else values
        assert (source.read(weight) == expected).all() and source.stored_type(weight) == "F32"


@pytest.mark.parametrize("name", BOTH)
def test_gguf_gives_the_same_architecture_and_weights(tmp_path: Path, name: str) -> None:
    weights = random_weights(BOTH[name])
    source = GGUFSource(write_gguf(tmp_path / "m.gguf", BOTH[name], weights))
    assert source.architecture == rounded(BOTH[name])
    assert all((source.read(weight) == values).all() for weight, values in weights.items())


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("form", ["safetensors", "Q8_0"])
def test_rows_are_those_of_the_whole(
    tmp_path: Path, name: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture = tiny(name)
    if form == "safetensors":
        whole = parts = SafetensorsSource(write_checkpoint(tmp_path / "c", architecture))
    else:
        whole = parts = GGUFSource(write_gguf(tmp_path / "m.gguf", architecture, matrices=form))
    for weight, shape in architecture.tensor_shapes().items():
        values, grid = whole.read(weight), whole.stored_grid(weight)
        monkeypatch.setattr("ondevice.export.weights.CHUNK", 500)
        for start, stop in ((0, 1), (3, 3), (5, 23), (shape[0] - 7, shape[0])):
            rows = slice(start, stop)
            assert (parts.read(weight, rows) == values[rows]).all()
            part = parts.stored_grid(weight, rows)
            assert (part is None) == (grid is None) == (form == "safetensors" or len(shape) == 1)
            if part is not None and grid is not None:
                assert (part.integers == grid.integers[rows]).all()
                assert (part.scales == grid.scales[rows]).all()
        monkeypatch.undo()


def test_only_the_rows_asked_for_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SafetensorsSource(write_checkpoint(tmp_path, tiny("phi3")))
    taken = []

    def read(path: Path, offset: int, count: int) -> Any:
        taken.append(count)
        return np.fromfile(path, np.uint8, count, offset=offset)

    monkeypatch.setattr("ondevice.export.safetensors_file.read_bytes", read)
    source.read("model.layers.1.self_attn.k_proj.weight", slice(2, 5))
    source.read(EMBEDDING, slice(100, 110))
    assert taken == [3 * 64 * 4, 10 * 64 * 4]


DEFAULTS = {
    "mistral": ("sliding_window", "rope_theta", "rope_scaling"),
    "qwen2": ("use_sliding_window", "sliding_window", "rope_theta", "tie_word_embeddings"),
    "qwen3": ("use_sliding_window", "sliding_window", "rope_theta", "attention_bias"),
    "phi3": ("sliding_window", "rope_theta", "tie_word_embeddings"),
    "gemma2": (
        "hidden_activation",
        "layer_types",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "tie_word_embeddings",
        "rope_theta",
    ),
    "gemma3_text": (
        "hidden_activation",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "rope_theta",
        "rope_local_base_freq",
        "tie_word_embeddings",
    ),
    "smollm3": ("no_rope_layers", "layer_types", "rope_theta", "tie_word_embeddings"),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_fields_that_real_files_leave_out_have_their_familys_defaults(
    tmp_path: Path, name: str
) -> None:
    found = from_config(tmp_path, tiny(name), **dict.fromkeys(DEFAULTS[name], ...))
    # Mistral's window of 4096 tokens is no window in a context of 256.
    assert found == tiny(name)


def test_mistrals_window_is_on_every_layer_unless_it_is_null(tmp_path: Path) -> None:
    plain = tiny("mistral", context_length=8192)
    windowed = replace(plain, window=4096, windowed=(True, True))
    assert from_config(tmp_path / "a", plain, sliding_window=None) == plain
    assert from_config(tmp_path / "b", plain, sliding_window=...) == windowed
    assert from_config(tmp_path / "c", plain, sliding_window=8192) == plain


def test_qwens_window_begins_at_a_layer(tmp_path: Path) -> None:
    expected = tiny("qwen2", layers=3, window=24, windowed=(False, True, True))
    changes = {"layer_types": ..., "max_window_layers": 1}
    assert from_config(tmp_path / "a", expected, **changes) == expected
    off = tiny("qwen2", layers=3)
    assert from_config(tmp_path / "b", expected, use_sliding_window=False, **changes) == off


def test_gemma3s_pattern_is_a_number_or_a_list(tmp_path: Path) -> None:
    windowed = (True, True, False, True)
    expected = tiny("gemma3_text", layers=4, windowed=windowed)
    found = from_config(tmp_path / "a", expected, layer_types=..., sliding_window_pattern=3)
    assert found == expected
    assert from_config(tmp_path / "b", expected, layer_types=...).windowed == (True,) * 4
    for pattern in (3, list(windowed)):
        folder = tmp_path / f"c{isinstance(pattern, list)}"
        folder.mkdir()
        found = from_gguf(folder, expected, attention__sliding_window_pattern=pattern)
        assert found == rounded(expected)


def test_longrope_by_its_older_names(tmp_path: Path) -> None:
    expected = tiny("phi3", rope=long_rope(12))
    assert isinstance(expected.rope.scaling, LongRope)
    section = {
        "type": "su",
        "short_factor": list(expected.rope.scaling.short_factors),
        "long_factor": list(expected.rope.scaling.long_factors),
    }
    assert from_config(tmp_path / "a", expected, rope_scaling=section) == expected
    given = replace(expected.rope.scaling, attention_factor=1.19)
    found = from_config(
        tmp_path / "b", expected, rope_scaling={**section, "attention_factor": 1.19}
    )
    assert found.rope.scaling == given
    outside = {"original_max_position_embeddings": ...}
    inside = {**section, "type": "longrope", "original_max_position_embeddings": 64, "factor": 4.0}
    assert from_config(tmp_path / "c", tiny("llama"), rope_scaling=None).rope.scaling is None
    found = from_config(
        tmp_path / "d",
        replace(tiny("llama"), rope=long_rope()),
        rope_scaling={**inside, **_factors(long_rope())},
        **outside,
    )
    assert found.rope == long_rope()


def _factors(rope: Rope) -> dict[str, list[float]]:
    assert isinstance(rope.scaling, LongRope)
    short, long = rope.scaling.short_factors, rope.scaling.long_factors
    return {"short_factor": list(short), "long_factor": list(long)}


def test_gguf_files_of_gemma_27b_scale_by_the_width_per_head(tmp_path: Path) -> None:
    small = {"hidden_size": 16, "intermediate_size": 16, "heads": 2, "kv_heads": 1, "head_dim": 4}
    for name, layers in (("gemma2", 46), ("gemma3_text", 62)):
        folder = tmp_path / name
        folder.mkdir()
        assert from_gguf(folder, tiny(name, layers=layers, **small)).score_scale == 8**-0.5


@pytest.mark.parametrize(
    ("name", "changes", "pattern"),
    [
        ("phi3", {"rope_scaling": {"type": "yarn"}}, "type to 'yarn'"),
        ("phi3", {"rope_scaling": {"type": "longrope", "short_factor": [1.0]}}, "short_factor"),
        ("phi3", {"partial_rotary_factor": 1.5}, "partial_rotary_factor"),
        ("phi3", {"partial_rotary_factor": 0.19}, "partial_rotary_factor"),
        ("qwen3", {"partial_rotary_factor": 0.5}, "partial rotation"),
        ("mistral", {"layer_types": ["full_attention"]}, "for each layer"),
        ("mistral", {"layer_types": ["full_attention", "chunked_attention"]}, "for each layer"),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "no sliding_window"),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": -1}, "max_window_layers"),
        ("gemma2", {"hidden_activation": "gelu"}, "hidden_activation to 'gelu'"),
        ("gemma2", {"hidden_activation": None}, "no hidden_activation"),
        ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
        ("gemma2", {"attn_logit_softcapping": -50.0}, "attn_logit_softcapping"),
        ("gemma2", {"sliding_window": None}, "no sliding_window"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "only causal"),
        ("gemma3_text", {"rope_parameters": {"full_attention": 3}}, "not an object"),
        ("gemma3_text", {"rope_scaling": {"rope_type": "dynamic"}}, "'dynamic'"),
        ("qwen3", {"rope_parameters": {"full_attention": {}}}, "full_attention"),
        ("smollm3", {"no_rope_layers": [1, 1, 1]}, "no_rope_layers .* a list of 4 flags"),
        ("smollm3", {"no_rope_layers": [1, 1, 1, 2]}, "no_rope_layers .* a list of 4 flags"),
        ("smollm3", {"no_rope_layers": ..., "no_rope_layer_interval": 0}, "layer_interval"),
        ("qwen2", {"model_type": "qwen2_moe"}, "known are llama, mistral, qwen2, qwen3, phi3"),
        ("mistral", {"model_type": "mixtral"}, "'mixtral'; known are"),
    ],
)
def test_configs_that_cannot_be_exported_are_named(
    tmp_path: Path, name: str, changes: dict[str, Any], pattern: str
) -> None:
    with pytest.raises(SourceError, match=pattern) as caught:
        from_config(tmp_path, tiny(name), **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "keys", "pattern"),
    [
        ("llama", {"rope__scaling__type": "yarn"}, "scaling.type to 'yarn'"),
        ("llama", {"expert_count": 8}, "expert_count to 8"),
        ("qwen2", {"attention__sliding_window": 24}, "which layers"),
        ("smollm3", {"attention__sliding_window": 24}, "which layers"),
        ("phi3", {"rope__dimension_count": 20}, "partial rotation"),
        ("phi3", {"rope__dimension_count": 7}, "partial rotation"),
        ("gemma2", {"attention__sliding_window_pattern": [True]}, "a list of 2 flags"),
        ("gemma2", {"attn_logit_softcapping": -1.0}, "attn_logit_softcapping"),
        ("gemma3_text", {"rope__freq_base_swa": 0.0}, "gemma3.rope.freq_base_swa"),
    ],
)
def test_gguf_keys_that_cannot_be_exported_are_named(
    tmp_path: Path, name: str, keys: dict[str, Any], pattern: str
) -> None:
    with pytest.raises(SourceError, match=pattern) as caught:
        from_gguf(tmp_path, tiny(name), **keys)
    assert "\n" not in str(caught.value)


def test_a_gguf_file_with_one_set_of_rope_factors_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", tiny("phi3", rope=long_rope()))
    path.write_bytes(path.read_bytes().replace(b"rope_factors_short", b"rope_factors_shirt"))
    with pytest.raises(SourceError, match=r"one of rope_factors_long\.weight and"):
        GGUFSource(path)


def test_a_fused_matrix_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"qkv_proj.weight .* \(128, 64\), .* says \(192, 64\)"):
        from_config(tmp_path, tiny("phi3"), num_key_value_heads=4)


def test_every_family_is_tested_here() -> None:
    assert set(registry) == set(CLASSES)


@pytest.mark.parametrize("form", ["BF16", "Q8_0"])
def test_reading_holds_little_more_than_the_rows_asked_for(tmp_path: Path, form: str) -> None:
    architecture = tiny("llama", layers=1, vocab_size=20000, hidden_size=512)
    if form == "BF16":
        write_checkpoint(tmp_path / "c", architecture, dtype=form)
        source = open_source(tmp_path / "c")
    else:
        source = open_source(write_gguf(tmp_path / "m.gguf", architecture, matrices=form))
    whole = 20000 * 512 * 4
    for rows, most in ((slice(100, 200), 4_000_000), (slice(0, 20000), whole + 30_000_000)):
        tracemalloc.start()
        source.read(EMBEDDING, rows)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < most
