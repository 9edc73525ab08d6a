"""Damaged checkpoints: each is read or refused in one line, quickly and in little memory.

300 of Llama's and Qwen2's, as many of the other architectures.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import long_rope, tiny, write_checkpoint, write_gguf

from ondevice.errors import OndeviceError
from ondevice.export.source import open_source

SECONDS = 10
BYTES = 200_000_000
TEXT_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
INDEX = "model.safetensors.index.json"
SHARD = "model-00001-of-00002.safetensors"


def flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 3, 20])):
        data[position(data, chance)] ^= 1 << chance.randrange(8)


def truncate(data: bytearray, chance: random.Random) -> None:
    del data[position(data, chance) :]


def huge_count(data: bytearray, chance: random.Random) -> None:
    """Something that may be a count, a length, an offset or a type becomes a large number."""
    width = chance.choice([4, 8])
    value = chance.choice([0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1])
    at = position(data, chance) // 4 * 4
    data[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")


def noise(data: bytearray, chance: random.Random) -> None:
    at, length = position(data, chance), chance.choice([2, 8, 64, 1000])
    data[at : at + length] = chance.randbytes(length)


def move(data: bytearray, chance: random.Random) -> None:
    at, length = position(data, chance), chance.randint(1, 64)
    part = data[at : at + length]
    del data[at : at + length]
    other = position(data, chance)
    data[other:other] = part


def position(data: bytearray, chance: random.Random) -> int:
    """Mostly in the first part, where the headers are."""
    return chance.randrange(max(1, len(data) if chance.random() < 0.3 else min(len(data), 3000)))


def digits(data: bytearray, chance: random.Random) -> None:
    """One number of a text becomes another kind of value."""
    text = data.decode("utf-8", "surrogateescape")
    places = [i for i, letter in enumerate(text) if letter.isascii() and letter.isdigit()]
    at = chance.choice(places) if places else 0
    value = chance.choice(
        ["-1", "1e400", "null", "[]", "{}", '"x"', "9" * 30, "0.5", "NaN", "true"]
    )
    data[:] = (text[:at] + value + text[at + 1 :]).encode("utf-8", "surrogateescape")


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    flip_bits,
    truncate,
    huge_count,
    noise,
    move,
]


@contextmanager
def limits() -> Iterator[None]:
    """Stops a hang where the system has an alarm clock; checks time and memory everywhere."""

    def expired(*_: Any) -> None:
        raise AssertionError(f"reading took more than {SECONDS} s")

    if hasattr(signal, "SIGALRM"):
        before = signal.signal(signal.SIGALRM, expired)
        signal.alarm(SECONDS)
    start = time.monotonic()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < BYTES
        assert time.monotonic() - start < SECONDS
    finally:
        tracemalloc.stop()
        if hasattr(signal, "SIGALRM"):
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)


def read_all(path: Path) -> bool:
    """Whether everything could be read; any error but ours, or of several lines, gets out."""
    try:
        source = open_source(path)
        for name, shape in source.architecture.tensor_shapes().items():
            assert source.read(name).shape == shape and source.stored_type(name)
            source.stored_grid(name)
        assert source.tokenizer.eos_ids
        source.origin()
        source.close()
    except OndeviceError as error:
        assert "\n" not in str(error) and len(str(error)) < 700
        return False
    return True


def outcomes(original: Path, target: Path, file: Path, kinds: list[Any], seed: int) -> list[bool]:
    """Read `target` with its `file` damaged in each way: `original` is what it holds."""
    found = []
    data = original.read_bytes()
    for index, mutate in enumerate(kinds):
        damaged = bytearray(data)
        mutate(damaged, random.Random(f"{seed} {index}"))
        file.write_bytes(damaged)
        with limits():
            found.append(read_all(target))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_damaged_gguf_files_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    architecture = tiny("llama", layers=1)
    kinds = {"model.layers.0.mlp.up_proj.weight": "Q5_0", "lm_head.weight": "F16"}
    original = write_gguf(tmp_path / "whole.gguf", architecture, matrices="Q8_0", types=kinds)
    assert read_all(original)
    file = tmp_path / "m.gguf"
    found = outcomes(original, file, file, MUTATIONS * 10, seed)
    assert len(found) == 50 and not all(found)


@pytest.mark.parametrize("name", [SHARD, INDEX, *TEXT_FILES])
def test_damaged_checkpoint_folders_are_read_or_refused(tmp_path: Path, name: str) -> None:
    whole = write_checkpoint(tmp_path / "whole", tiny("qwen2", layers=1), shards=2)
    assert read_all(whole)
    folder = shutil.copytree(whole, tmp_path / "m")
    kinds = [*MUTATIONS, digits] * 4 + [digits]
    found = outcomes(whole / name, folder, folder / name, kinds, seed=5)
    assert len(found) == 25 and (name == "chat_template.jinja" or not all(found))


OTHERS = {
    "mistral": tiny("mistral", layers=1, window=24),
    "qwen3": tiny("qwen3", layers=1, window=24),
    "phi3": tiny("phi3", layers=1, rope=long_rope(12)),
    "gemma2": tiny("gemma2", layers=1),
    "gemma3": tiny("gemma3_text", layers=1),
    "smollm3": tiny("smollm3", layers=1, unrotated=frozenset({0})),
}


@pytest.mark.parametrize("name", OTHERS)
def test_damaged_checkpoints_of_every_architecture(tmp_path: Path, name: str) -> None:
    whole = write_checkpoint(tmp_path / "whole", OTHERS[name])
    assert read_all(whole)
    folder = shutil.copytree(whole, tmp_path / "m")
    found = []
    for file, rounds in (("config.json", 4), ("model.safetensors", 1)):
        kinds = [*MUTATIONS, digits, digits] * rounds if rounds > 1 else MUTATIONS
        found += outcomes(whole / file, folder, folder / file, kinds, seed=6)
        shutil.copy(whole / file, folder / file)
    architecture = OTHERS[name] if name != "qwen3" else tiny("qwen3", layers=1)
    architecture = replace(architecture, unrotated=frozenset())
    original = write_gguf(tmp_path / "whole.gguf", architecture, matrices="Q8_0")
    assert read_all(original)
    target = tmp_path / "m.gguf"
    found += outcomes(original, target, target, MUTATIONS * 4, seed=7)
    assert len(found) == 53 and any(found) and not all(found)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "m", "whole.gguf", "m.gguf"}


def test_sparse_damage_to_weights_never_gets_through_as_nan(tmp_path: Path) -> None:
    original = write_gguf(tmp_path / "whole.gguf", tiny("llama", layers=1), matrices="Q8_0")
    data = original.read_bytes()
    chance = np.random.default_rng(1)
    for _ in range(10):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[len(data) // 2 + chance.integers(0, len(data) // 2 - 4, 400)] = 0xFF
        (tmp_path / "m.gguf").write_bytes(damaged.tobytes())
        source = open_source(tmp_path / "m.gguf")
        for name in source.architecture.tensor_shapes():
            try:
                assert np.isfinite(source.read(name)).all()
            except OndeviceError:
                continue
