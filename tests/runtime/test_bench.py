from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from bench_fakes import DEVICE, IDLE, VOCAB, info, model, result, subject
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ondevice import json_file
from ondevice.errors import EngineError, OndeviceError, RequestError
from ondevice.package import Package
from ondevice.runtime import bench, bench_result, bench_setup, bench_worker, llamacpp
from ondevice.runtime.bench import Settings
from ondevice.runtime.bench_result import LoadCheck, Result
from ondevice.runtime.bench_subject import Spec, Subject, WorkerSubject
from ondevice.runtime.clock import ScriptedClock
from ondevice.runtime.engine import Engine
from ondevice.runtime.scripted import ScriptedEngine

SMALL = Settings(prompt_tokens=8, generated_tokens=4, chat_tokens=3, repetitions=2, warmups=1)


def measure(
    subjects: Sequence[Subject], settings: Settings = SMALL, load: LoadCheck = IDLE
) -> Result:
    return bench.run(subjects, settings, load_check=lambda: load, device=DEVICE)


def values(found: Result, name: str, label: str = "ort") -> tuple[float, ...]:
    engine = next(e for e in found.engines if e.label == label)
    metric = engine.metric(name)
    assert metric is not None, name
    return metric.samples


def test_known_delays_come_back_as_known_figures() -> None:
    clock = ScriptedClock()
    delays = (0.25, 0.25, 0.125, 0.375)
    found = measure([subject("ort", clock, prefill_s=0.0625, decode_s=delays, tokenize_s=0.5)])
    assert values(found, "load") == (500, 500)
    assert values(found, "import") == (250,)
    assert values(found, "pp8") == (16, 16)
    assert values(found, "tg4") == (4, 4)
    assert values(found, "chat.tokenize") == (500, 500)
    assert values(found, "chat.prefill") == (250, 250)
    assert values(found, "chat.first_sample") == (0, 0)
    assert values(found, "chat.ttft") == (750, 750)
    assert values(found, "chat.prefill_speed") == (16, 16)
    assert values(found, "chat.decode_speed") == (4, 4)
    gaps = {entry.workload: entry.gaps for entry in found.engines[0].inter_token}
    # Sorted: 125, 125, 250, 250, 250, 250, 375, 375 ms.
    tg = gaps["tg4"]
    assert (tg.n, tg.p50, tg.p95, tg.p99) == (8, 250, 375, 375)
    assert gaps["chat"].p50 == 250
    memory = found.engines[0].peak_memory
    assert memory is not None
    assert memory.bytes == 1000


def test_uneven_tokens_show_between_tokens_and_not_in_the_speed() -> None:
    clock = ScriptedClock()
    engine = ScriptedEngine((1,), vocab_size=VOCAB, clock=clock, decode_s=(1.0, 2.0, 1.0, 4.0))
    found = measure([subject("ort", clock, engine=lambda: engine)])
    assert values(found, "tg4") == (0.5, 0.5)
    gaps = next(e.gaps for e in found.engines[0].inter_token if e.workload == "tg4")
    assert (gaps.p50, gaps.n) == (1500, 8)


class Recorder(ScriptedEngine):
    """Writes down who was asked for what."""

    def __init__(self, label: str, log: list[tuple[str, str]], clock: ScriptedClock) -> None:
        super().__init__((ord(label) - 60,), vocab_size=VOCAB, clock=clock, decode_s=(0.01,))
        self.label, self.log, self.seen = label, log, [[0]][:0]

    def prefill(self, tokens: Sequence[int]):  # type: ignore[no-untyped-def]
        self.log.append((self.label, f"prefill {len(tokens)}"))
        self.seen.append(list(tokens))
        return super().prefill(tokens)

    def decode(self, token: int):  # type: ignore[no-untyped-def]
        self.seen.append([token])
        return super().decode(token)


def two(clock: ScriptedClock) -> tuple[list[Recorder], list[tuple[str, str]], list[Subject]]:
    log: list[tuple[str, str]] = []
    engines = [Recorder(label, log, clock) for label in "AB"]

    def opener(engine: Recorder) -> Engine:
        return engine

    subjects = [subject(e.label, clock, engine=lambda e=e: opener(e)) for e in engines]  # type: ignore[misc]
    return engines, log, list(subjects)


def test_engines_take_turns_and_run_the_same_tokens() -> None:
    engines, log, subjects = two(ScriptedClock())
    measure(subjects)
    assert [label for label, _ in log] == ["A", "B"] * (len(log) // 2)
    assert [what for label, what in log if label == "A"] == (
        ["prefill 8"] * 3 + ["prefill 1"] * 3 + ["prefill 4"] * 3
    )
    assert engines[0].seen == engines[1].seen


def test_ratios_are_taken_round_by_round() -> None:
    clock = ScriptedClock()
    found = measure(
        [subject("a", clock, decode_s=(0.25,)), subject("b", clock, decode_s=(0.5,))],
    )
    ratio = next(r for r in found.ratios if r.metric == "tg4")
    assert (ratio.numerator, ratio.denominator) == ("a", "b")
    assert (ratio.median, ratio.minimum, ratio.maximum) == (2, 2, 2)


def test_a_ratio_cancels_what_slows_both_engines_of_a_round() -> None:
    a = result((100.0, 50.0, 200.0), label="a").engines[0]
    b = result((50.0, 25.0, 80.0), label="b").engines[0]
    (ratio,) = bench.ratios([a, b])
    assert (ratio.median, ratio.minimum, ratio.maximum) == (2, 2, 2.5)


def test_agreement_is_reported_for_each_pair_when_asked() -> None:
    clock = ScriptedClock()
    settings = Settings(
        prompt_tokens=8, generated_tokens=0, chat_tokens=0, repetitions=1, agreement=True
    )
    subjects = [subject("a", clock), subject("b", clock), subject("c", clock, script=(0,))]
    found = measure(subjects, settings)
    pairs = {(g.a, g.b): g.top1 for g in found.agreement}
    assert pairs == {("a", "b"): 1, ("a", "c"): 0, ("b", "c"): 0}


def test_workloads_of_no_tokens_are_left_out() -> None:
    found = measure(
        [subject("ort", ScriptedClock())], Settings(prompt_tokens=0, chat_tokens=0, repetitions=1)
    )
    names = [m.name for m in found.engines[0].metrics]
    assert names == ["load", "import", "tg128"]


def test_a_busy_machine_is_said_in_the_result() -> None:
    busy = LoadCheck(3.0, 80.0, busy=True, other_cpu_percent_during=42.5)
    found = measure([subject("ort", ScriptedClock())], load=busy)
    assert found.load == busy
    assert any("busy (others used 42.5%" in note for note in found.notes)


def test_progress_ends_at_its_total() -> None:
    steps: list[tuple[int, int]] = []
    bench.run(
        [subject("ort", ScriptedClock())],
        SMALL,
        lambda _, done, total: steps.append((done, total)),
        load_check=lambda: IDLE,
        device=DEVICE,
    )
    total = steps[0][1]
    assert steps == [(i, total) for i in range(total)]


def test_subjects_are_closed_when_one_fails() -> None:
    clock = ScriptedClock()
    good = ScriptedEngine((1,), vocab_size=VOCAB, clock=clock)

    def broken() -> Engine:
        raise EngineError("no such library")

    with pytest.raises(EngineError, match="no such library"):
        measure([subject("a", clock, engine=lambda: good), subject("b", clock, engine=broken)])
    assert good.closed


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(repetitions=0), "repetitions"),
        (Settings(repetitions=10**9), "repetitions"),
        (Settings(prompt_tokens=-1), "prompt tokens"),
        (Settings(chat_tokens=1), "chat token"),
        (Settings(threads=0), "threads"),
        (Settings(warmups=-1), "warm-ups"),
        (Settings(seed=-1), "seed"),
        (Settings(prompt_tokens=0, generated_tokens=0, chat_tokens=0), "nothing to measure"),
        (Settings(prompt_tokens=5000), "positions"),
    ],
)
def test_absurd_settings_are_one_line(settings: Settings, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        measure([subject("ort", ScriptedClock())], settings)
    assert "\n" not in str(caught.value)


def test_two_subjects_of_one_label_are_refused() -> None:
    clock = ScriptedClock()
    with pytest.raises(RequestError, match="once each"):
        measure([subject("ort", clock), subject("ort", clock)])


# The result file


def test_a_result_fits_its_schema_and_comes_back_the_same(tmp_path: Path) -> None:
    clock = ScriptedClock()
    settings = Settings(8, 4, 3, repetitions=3, agreement=True)
    found = measure([subject("a", clock), subject("b", clock)], settings)
    data = json.loads(found.to_json())
    Draft202012Validator.check_schema(json_file.schema("bench"))
    Draft202012Validator(json_file.schema("bench")).validate(data)
    assert data["engines"][0]["metrics"][0]["statistics"]["n"] == 3
    found.write(tmp_path / "r.json")
    assert bench_result.read(tmp_path / "r.json") == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format_version": NaN}',
        '{"format_version": 99}',
        "[" * 100_000,
        '{"format_version": 1}',
    ],
)
def test_a_bad_result_file_is_one_line_naming_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(RequestError, match=r"bad\.json") as caught:
        bench_result.read(path)
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_result_file_is_a_request_error(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot read"):
        bench_result.read(tmp_path / "absent.json")
    with pytest.raises(RequestError, match="cannot read"):
        bench_result.read(tmp_path)
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="not valid JSON"):
        bench_result.read(tmp_path / "b")


@given(st.data())
def test_a_changed_field_is_read_or_refused_but_never_crashes(data: st.DataObject) -> None:
    tree = json.loads(result().to_json())
    spot = tree
    while True:
        keys = list(spot) if isinstance(spot, dict) else list(range(len(spot)))
        key = data.draw(st.sampled_from(keys))
        inner = spot[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        spot = inner
    junk = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),  # no JSON file holds them
        st.text(max_size=5),
        st.just([]),
    )
    spot[key] = data.draw(junk)
    try:
        read = bench_result.from_data(json.loads(json.dumps(tree)), Path("x.json"))
    except RequestError as error:
        assert "x.json" in str(error)
    else:
        assert bench_result.from_data(json.loads(read.to_json()), Path("x.json")) == read


def test_a_result_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OndeviceError, match="cannot write"):
        result().write(tmp_path / "file" / "r.json")


# Engines in processes of their own

WORKER = """
import os, sys, time
sys.path.insert(0, {tests!r})
from bench_fakes import subject
from ondevice.errors import EngineError
from ondevice.runtime import bench_worker
from ondevice.runtime.clock import ScriptedClock
def local_subject(spec, info=None):
    print("noise on standard output")
    os.write(1, b"noise below Python\\n")
    if spec.package == "bad":
        raise EngineError("this package is bad")
    if spec.package == "dies":
        os.kill(os.getpid(), 9)
    return subject("w", ScriptedClock(), prefill_s=0.5)
bench_worker.local_subject = local_subject
bench_worker.main()
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(tests=str(Path(__file__).parent)))

    import ondevice.runtime.bench_subject as module

    monkeypatch.setattr(module, "WORKER", (str(script),))

    def make(package: str = "good") -> WorkerSubject:
        return WorkerSubject(info("w"), Spec("ort", package, None, 2, 2048))

    return make


def test_a_worker_gives_the_same_figures_as_the_engine_in_this_process(worker) -> None:  # type: ignore[no-untyped-def]
    settings = Settings(8, 4, 3, repetitions=1, agreement=True)
    apart = measure([worker(), subject("x", ScriptedClock(), prefill_s=0.5)], settings)
    w, x = apart.engines
    assert [m.samples for m in w.metrics] == [pytest.approx(m.samples) for m in x.metrics]
    assert apart.agreement[0].top1 == 1


def test_a_workers_error_arrives_as_the_same_error(worker) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EngineError, match="this package is bad"):
        measure([worker("bad")])
    good = worker()
    good.load()
    with pytest.raises(RequestError, match="do not fit"):
        good.prefill([1] * 5000)
    good.close()


def test_a_worker_that_dies_is_an_engine_error(worker) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EngineError, match="ended unexpectedly"):
        measure([worker("dies")])


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_closing_ends_the_worker_even_a_stopped_one(
    worker, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    import ondevice.runtime.bench_subject as module

    monkeypatch.setattr(module, "CLOSE_S", 0.2)
    subject = worker()
    subject.load()
    process = subject._process
    os.kill(process.pid, signal.SIGSTOP)
    subject.close()
    assert process.poll() is not None
    subject.close()


def test_a_subject_that_is_not_loaded_says_so(worker) -> None:  # type: ignore[no-untyped-def]
    for unloaded in (worker(), subject("x", ScriptedClock())):
        with pytest.raises(RequestError, match="not loaded"):
            unloaded.limits()


def test_an_unknown_request_is_a_bug_and_not_an_answer() -> None:
    with pytest.raises(RuntimeError, match="unknown request"):
        bench_worker._answer(subject("x", ScriptedClock()), '["__class__"]')


# Which engines run what


@pytest.mark.parametrize(
    ("engines", "gguf", "words"),
    [
        (("nope",), None, "unknown engine 'nope'; known: ort, genai, llamacpp"),
        ((), None, "nothing to measure"),
        (("ort", "ort"), None, "named once"),
        (("llamacpp",), None, "--gguf"),
        (("ort",), Path("x.gguf"), "for the llamacpp engine"),
        (("llamacpp",), Path("absent.gguf"), "does not exist"),
    ],
)
def test_engines_that_make_no_sense_are_refused(
    engines: tuple[str, ...], gguf: Path | None, words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        bench_setup.subjects([package()], engines, gguf, Settings(threads=1))


def package(target: str = "cpu-int4", context_length: int = 2048) -> Package:
    from ondevice.package import (
        FileInfo,
        Manifest,
        ModelShape,
        Recipe,
        SourceInfo,
        Text,
    )

    return Package(
        Path("folder"),
        Manifest(
            name="tiny",
            source=SourceInfo("org/tiny", None, None, "gguf", {"m.gguf": "b" * 64}),
            shape=ModelShape("llama", VOCAB, 8, 1, 2, 1, 4, context_length, 1000),
            recipe=Recipe(target, 4.5, {}, {}),
            text=Text((0,), None, None, chat_template=False),
            files={"model.onnx": FileInfo(10, "c" * 64), "tokenizer.json": FileInfo(5, "d" * 64)},
            tools={},
        ),
    )


def test_all_subjects_get_the_same_threads_and_context(tmp_path: Path) -> None:
    gguf = tmp_path / "m.gguf"
    gguf.write_bytes(b"GGUF")
    found = bench_setup.subjects(
        [package(), package("cpu-int8")],
        ("ort", "llamacpp"),
        gguf,
        Settings(threads=3, chat_tokens=0),
    )
    assert [s.info.label for s in found] == ["ort cpu-int4", "ort cpu-int8", "llamacpp"]
    assert {(s.info.threads, s.info.context_length) for s in found} == {(3, 512)}


def test_the_context_is_never_longer_than_the_models() -> None:
    settings = Settings(prompt_tokens=290, generated_tokens=100, chat_tokens=0, threads=1)
    (only,) = bench_setup.subjects([package(context_length=300)], settings=settings)
    assert only.info.context_length == 300
    with pytest.raises(RequestError, match="the model has 300"):
        bench_setup.subjects([package(context_length=300)], settings=Settings(threads=1))


def test_a_package_is_recognized_as_made_from_a_gguf() -> None:
    made = bench_setup.package_info(package())
    assert made.bytes == 15
    assert made.same_source(bench_result.ModelInfo("m", "gguf", None, 1, "b" * 64))
    assert not made.same_source(model())
    assert not model(digest="e" * 64).same_source(model())


def test_files_of_unknown_kinship_are_pointed_out() -> None:
    clock = ScriptedClock()
    other = subject("b", clock)
    other.info = bench_setup.SubjectInfo("b", "b", None, model("other", "f" * 64), 2, 2048)
    found = measure([subject("a", clock), other])
    assert any("not known to hold the same model" in note for note in found.notes)


def test_a_real_package_is_measured_in_a_process_of_its_own(tiny_package: Package) -> None:
    settings = Settings(8, 4, 0, repetitions=2, threads=1)
    subjects = bench_setup.subjects([tiny_package], settings=settings)
    found = measure(subjects, settings)
    (ort,) = found.engines
    assert (ort.engine, ort.label, ort.threads) == ("ort", "ort", 1)
    assert ort.model.bytes == tiny_package.total_bytes
    assert {"load", "import", "pp8", "tg4"} == {m.name for m in ort.metrics}
    assert all(sample > 0 for metric in ort.metrics for sample in metric.samples)
    assert ort.peak_memory is not None
    assert 20e6 < ort.peak_memory.bytes < 1e9


def test_a_conversation_longer_than_the_context_is_refused_before_loading(
    tiny_package: Package,
) -> None:
    longest = tiny_package.manifest.shape.context_length
    with pytest.raises(RequestError, match="0 chat tokens"):
        bench_setup.subjects(
            [tiny_package], settings=Settings(8, 4, chat_tokens=longest, threads=1)
        )


@pytest.mark.real_model
@pytest.mark.skipif(
    llamacpp.version() is None, reason="llama-cpp-python is not installed (extra `bench`)"
)
def test_a_real_model_is_measured_beside_llama_cpp_on_its_own_file(
    smollm2_package: Package, smollm2_gguf: Path
) -> None:
    settings = Settings(32, 4, 3, repetitions=1, threads=1, agreement=True)
    subjects = bench_setup.subjects([smollm2_package], ("ort", "llamacpp"), smollm2_gguf, settings)
    found = measure(subjects, settings)
    assert found.notes == ()  # the GGUF was recognized as what the package was made from
    assert {r.metric for r in found.ratios} >= {"pp32", "tg4", "chat.ttft", "load"}
    assert found.agreement[0].top1 > 0.9
    assert found.agreement[0].tokens > 250
