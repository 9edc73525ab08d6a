from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ondevice.errors import RequestError
from ondevice.runtime import compare, llama_bench


def entry(**changes: Any) -> dict[str, Any]:
    """One test as llama-bench writes it (the fields of its table of August 2026)."""
    return {
        "build_commit": "abc1234",
        "build_number": 7000,
        "cpu_info": "Example CPU",
        "gpu_info": "",
        "backends": "CPU",
        "model_filename": "/home/somebody/models/tiny-q4_0.gguf",
        "model_type": "llama 135M Q4_0",
        "model_size": 98_000_000,
        "model_n_params": 134_515_008,
        "n_batch": 2048,
        "n_ubatch": 512,
        "n_threads": 2,
        "type_k": "f16",
        "type_v": "f16",
        "n_prompt": 512,
        "n_gen": 0,
        "n_depth": 0,
        "test_time": "2026-11-24T20:00:00Z",
        "avg_ns": 1,
        "stddev_ns": 1,
        "avg_ts": 101.0,
        "stddev_ts": 1.0,
        "samples_ns": [1, 1, 1],
        "samples_ts": [100.0, 101.0, 102.0],
    } | changes


def read(tmp_path: Path, *entries: dict[str, Any]) -> llama_bench.Result:
    path = tmp_path / "llama.json"
    path.write_text(json.dumps(list(entries)))
    return llama_bench.read(path)


def test_prefill_and_decode_become_the_metrics_of_our_own_results(tmp_path: Path) -> None:
    found = read(tmp_path, entry(), entry(n_prompt=0, n_gen=128, samples_ts=[30, 31]))
    (engine,) = found.engines
    assert [(m.name, m.samples) for m in engine.metrics] == [
        ("pp512", (100.0, 101.0, 102.0)),
        ("tg128", (30.0, 31.0)),
    ]
    assert (engine.engine, engine.threads, engine.model.bytes) == ("llamacpp", 2, 98_000_000)
    assert found.device.cpu == "Example CPU"
    assert found.created == "2026-11-24T20:00:00Z"
    assert "7000" in found.tool


def test_only_the_file_name_of_the_model_is_kept(tmp_path: Path) -> None:
    for path in ("/home/somebody/m.gguf", "C:\\Users\\somebody\\m.gguf"):
        found = read(tmp_path, entry(model_filename=path))
        assert found.engines[0].model.name == "m.gguf"
        assert "somebody" not in found.to_json()


def test_other_settings_are_another_subject(tmp_path: Path) -> None:
    found = read(tmp_path, entry(), entry(n_threads=4), entry(n_threads=4, n_prompt=0, n_gen=9))
    assert [(e.label, e.threads, len(e.metrics)) for e in found.engines] == [
        ("llamacpp", 2, 1),
        ("llamacpp (2)", 4, 2),
    ]


def test_depth_and_mixed_tests_have_names_of_their_own(tmp_path: Path) -> None:
    found = read(tmp_path, entry(n_gen=64), entry(n_depth=4096))
    assert [m.name for m in found.engines[0].metrics] == ["pp512+tg64", "pp512 @ d4096"]


def test_without_samples_the_average_stands_and_it_is_said(tmp_path: Path) -> None:
    old = entry()
    del old["samples_ts"]
    found = read(tmp_path, old)
    assert found.engines[0].metrics[0].samples == (101.0,)
    assert any("average" in note for note in found.notes)


def test_the_comparison_reads_both_kinds_of_file(tmp_path: Path) -> None:
    found = read(tmp_path, entry())
    assert compare.read(tmp_path / "llama.json") == found
    found.write(tmp_path / "ours.json")
    assert compare.read(tmp_path / "ours.json") == found


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "[1]",
        "[{}]",
        json.dumps([entry(avg_ts=-1)]),
        json.dumps([entry(samples_ts=["fast"])]),
        json.dumps([entry(n_prompt=0, n_gen=0)]),
        json.dumps([entry(model_filename="")]),
        json.dumps([entry(n_threads=0)]),
        json.dumps([entry(avg_ts=0)]).replace('"avg_ts": 0', '"avg_ts": 1e999'),
        json.dumps([entry()]).replace("101.0", "NaN"),
    ],
)
def test_bad_content_is_one_line_naming_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(RequestError, match=r"bad\.json") as caught:
        llama_bench.read(path)
    assert "\n" not in str(caught.value)
