from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ondevice.errors import EngineError, RequestError
from ondevice.runtime import llamacpp, measure
from ondevice.runtime.llamacpp import LlamaCppEngine

installed = pytest.mark.skipif(
    llamacpp.version() is None, reason="llama-cpp-python is not installed (extra `bench`)"
)


def test_missing_bindings_are_an_engine_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(llamacpp, "import_module", refuse)
    with pytest.raises(EngineError, match=r"pip install 'ondevice\[bench\]'"):
        LlamaCppEngine(Path("m.gguf"), threads=1)


def test_the_module_itself_needs_no_bindings() -> None:
    code = "import sys, ondevice.runtime.llamacpp; sys.exit('llama_cpp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@installed
def test_a_missing_or_broken_file_is_an_engine_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EngineError, match="does not exist"):
        LlamaCppEngine(tmp_path / "absent.gguf", threads=1)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 100)
    with pytest.raises(EngineError, match=r"cannot load .*broken\.gguf"):
        LlamaCppEngine(tmp_path / "broken.gguf", threads=1)
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def engine(smollm2_gguf: Path) -> Iterator[LlamaCppEngine]:
    opened = LlamaCppEngine(smollm2_gguf, threads=1, context_length=256)
    yield opened
    opened.close()
    opened.close()


@installed
@pytest.mark.real_model
class TestOnSmolLM2:
    TOKENS = (504, 3575, 282, 4649, 314, 7042, 28, 284, 260, 3575, 282, 6652, 314)

    def test_limits_are_the_files_and_the_contexts(self, engine: LlamaCppEngine) -> None:
        assert (engine.limits.context_length, engine.limits.vocab_size) == (256, 49152)

    def test_a_prompt_in_parts_gives_the_logits_of_the_whole(self, engine: LlamaCppEngine) -> None:
        engine.rewind(0)
        whole = engine.prefill(self.TOKENS)
        assert whole.shape == (49152,)
        engine.rewind(5)
        assert engine.position == 5
        # Other batch sizes round otherwise; the order of the best tokens must not change.
        parts = engine.prefill(self.TOKENS[5:])
        assert np.argmax(parts) == np.argmax(whole)
        assert np.abs(parts - whole).max() < 0.2 * whole.std()

    def test_every_row_of_verify_is_what_decode_gives(self, engine: LlamaCppEngine) -> None:
        engine.rewind(0)
        rows = engine.verify(self.TOKENS)
        assert rows.shape == (len(self.TOKENS), 49152)
        engine.rewind(0)
        for token, row in zip(self.TOKENS, rows, strict=True):
            decoded = engine.decode(token)
            assert np.corrcoef(decoded, row)[0, 1] > 0.999
        assert engine.position == len(self.TOKENS)

    def test_an_earlier_answer_is_not_overwritten_by_the_next(self, engine: LlamaCppEngine) -> None:
        engine.rewind(0)
        first = engine.decode(504)
        kept = first.copy()
        engine.decode(3575)
        assert np.array_equal(first, kept)

    def test_a_snapshot_brings_back_the_state(self, engine: LlamaCppEngine) -> None:
        engine.rewind(0)
        engine.prefill(self.TOKENS)
        snapshot = engine.snapshot()
        expected = engine.decode(260)
        engine.rewind(0)
        engine.prefill([1, 2, 3])
        engine.restore(snapshot)
        assert engine.position == len(self.TOKENS)
        assert np.array_equal(engine.decode(260), expected)

    def test_what_does_not_fit_is_refused_and_changes_nothing(self, engine: LlamaCppEngine) -> None:
        engine.rewind(0)
        engine.prefill(self.TOKENS)
        for tokens, words in (
            ([1] * 300, "do not fit"),
            ([49152], "outside the vocabulary"),
            ([-1], "outside the vocabulary"),
            ([], "no tokens"),
        ):
            with pytest.raises(RequestError, match=words):
                engine.prefill(tokens)
            assert engine.position == len(self.TOKENS)
        with pytest.raises(RequestError, match="rewind"):
            engine.rewind(100)

    def test_it_agrees_with_itself(self, engine: LlamaCppEngine) -> None:
        assert measure.agreement(engine, engine, self.TOKENS) == measure.Agreement(13, 1.0)

    def test_zero_threads_are_refused(self, smollm2_gguf: Path) -> None:
        with pytest.raises(RequestError, match="threads"):
            LlamaCppEngine(smollm2_gguf, threads=0)
