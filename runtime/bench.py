"""Measures engines on a model: which workloads, in which order, and what is kept of them.

Every engine runs the same token ids with the same threads; with several engines the repetitions
alternate (A B A B), so that what slows the machine for a while slows all of them.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ondevice.errors import RequestError
from ondevice.progress import Progress
from ondevice.runtime.bench_result import (
    EngineResult,
    InterToken,
    LabelledAgreement,
    LoadCheck,
    Metric,
    Protocol,
    Ratio,
    Result,
)
from ondevice.runtime.bench_subject import Subject, SubjectInfo
from ondevice.runtime.device import Device, fingerprint
from ondevice.runtime.load import Watch
from ondevice.runtime.load import check_load as check_load
from ondevice.runtime.measure import ChatSample, PeakMemory, agree, random_tokens, token_gaps

"""(stage in words, done, total)."""

_SHORTEST = 1e-9  # s; what a clock too coarse to see a step is taken to have seen


@dataclass(frozen=True)
class Settings:
    """What to measure. A workload of 0 tokens is left out.

    `prompt_tokens` (pp) and `generated_tokens` (tg) are random ids as in llama-bench;
    `chat_tokens` are generated after a fixed conversation. `threads` None measures the best
    count. `agreement` also compares the engines' most probable tokens on a page of prose.
    """

    prompt_tokens: int = 512
    generated_tokens: int = 128
    chat_tokens: int = 64
    warmups: int = 1
    repetitions: int = 5
    threads: int | None = None
    seed: int = 0
    agreement: bool = False

    def check(self) -> None:
        """Raises `RequestError` for numbers that cannot be measured with."""
        for name, value, least, most in (
            ("repetitions", self.repetitions, 1, 1000),
            ("warm-ups", self.warmups, 0, 100),
            ("prompt tokens", self.prompt_tokens, 0, 1 << 20),
            ("generated tokens", self.generated_tokens, 0, 1 << 20),
            ("chat tokens", self.chat_tokens, 0, 1 << 20),
            ("seed", self.seed, 0, 1 << 40),
            ("threads", 1 if self.threads is None else self.threads, 1, 1024),
        ):
            if not least <= value <= most:
                raise RequestError(f"{value} {name} cannot be measured; give {least} to {most}")
        if self.chat_tokens == 1:
            raise RequestError("1 chat token has no decode to measure; give 0 or at least 2")
        if not (self.prompt_tokens or self.generated_tokens or self.chat_tokens):
            raise RequestError("nothing to measure: every workload has 0 tokens")

    @property
    def positions(self) -> int:
        """Positions of the KV cache that the two random workloads need."""
        return max(self.prompt_tokens, self.generated_tokens + 1)


@dataclass
class _Samples:
    """What one subject has given so far, round by round."""

    loads: list[float] = field(default_factory=list)
    imports: list[float] = field(default_factory=list)
    prefills: list[float] = field(default_factory=list)
    decodes: list[tuple[float, ...]] = field(default_factory=list)
    chats: list[ChatSample] = field(default_factory=list)
    memory: PeakMemory | None = None


def run(
    subjects: Sequence[Subject],
    settings: Settings = Settings(),
    progress: Progress | None = None,
    *,
    load_check: Callable[[], LoadCheck] | None = None,
    device: Device | None = None,
) -> Result:
    """Measure the subjects, interleaved, and close them.

    The first subject's own greedy answer is what every subject decodes in the chat workload.
    `load_check` stands in for watching the machine.
    Peak memory is read after the workloads and before models are loaded again. Raises
    `RequestError` for settings that do not fit the models, `EngineError` when one fails.
    """
    with contextlib.ExitStack() as stack:
        for subject in subjects:
            stack.callback(subject.close)
        settings.check()
        labels = [subject.info.label for subject in subjects]
        if not labels or len(set(labels)) != len(labels):
            raise RequestError(f"engines must be named once each, got: {', '.join(labels)}")
        finish = load_check or Watch().finish
        samples, agreements = _measure(subjects, settings, _Stage(progress, subjects, settings))
        load = finish()
    infos = [subject.info for subject in subjects]
    engines = [_engine_result(i, s, settings) for i, s in zip(infos, samples, strict=True)]
    return Result(
        tool=_tool(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        device=device or fingerprint(),
        protocol=_protocol(settings, len(subjects) > 1),
        load=load,
        engines=tuple(engines),
        ratios=ratios(engines),
        agreement=agreements,
        notes=_notes(infos, load, samples, settings),
    )


def ratios(engines: Sequence[EngineResult]) -> tuple[Ratio, ...]:
    """Round-by-round ratios of every pair of engines for every metric both have."""
    found = []
    for a, b in itertools.combinations(engines, 2):
        for metric in a.metrics:
            other = b.metric(metric.name)
            if other is None or len(other.samples) != len(metric.samples):
                continue
            if metric.name == "import" or min(other.samples) <= 0:
                continue  # a library is imported only once: there are no rounds
            rounds = [x / y for x, y in zip(metric.samples, other.samples, strict=True)]
            middle = statistics.median(rounds)
            found.append(Ratio(metric.name, a.label, b.label, middle, min(rounds), max(rounds)))
    return tuple(found)


class _Stage:
    """Counts steps for the caller's progress."""

    def __init__(
        self, progress: Progress | None, subjects: Sequence[Subject], settings: Settings
    ) -> None:
        counts = (settings.prompt_tokens, settings.generated_tokens, settings.chat_tokens)
        rounds = (settings.warmups + settings.repetitions) * sum(1 for c in counts if c)
        self._total = len(subjects) * (rounds + settings.repetitions + settings.agreement)
        self._done = 0
        self._progress = progress

    def __call__(self, what: str, subject: Subject) -> None:
        if self._progress is not None:
            self._progress(f"{what}, {subject.info.label}", self._done, self._total)
        self._done += 1


def _measure(
    subjects: Sequence[Subject], settings: Settings, stage: _Stage
) -> tuple[list[_Samples], tuple[LabelledAgreement, ...]]:
    samples = [_Samples() for _ in subjects]
    pairs = list(zip(subjects, samples, strict=True))
    _load(pairs, 1, stage)
    vocab = min(subject.limits().vocab_size for subject in subjects)
    room = min(subject.limits().context_length for subject in subjects)
    if settings.positions > room:
        raise RequestError(
            f"the workloads need {settings.positions} positions, the model has {room}; "
            "measure fewer tokens"
        )
    _random_workloads(pairs, settings, vocab, stage)
    _chat_workload(pairs, settings, stage)
    for subject, sample in pairs:
        sample.memory = subject.peak_memory()
    agreements = _agreements(subjects, room, stage) if settings.agreement else ()
    _load(pairs, settings.repetitions - 1, stage)
    return samples, agreements


_Pairs = list[tuple[Subject, _Samples]]


def _load(pairs: _Pairs, times: int, stage: _Stage) -> None:
    for _ in range(times):
        for subject, sample in pairs:
            stage("loading", subject)
            loading = subject.load()
            sample.loads.append(loading.load)
            if loading.imported is not None:
                sample.imports.append(loading.imported)


def _rounds(settings: Settings) -> list[bool]:
    """Whether each round is kept: the warm-ups are not."""
    return [False] * settings.warmups + [True] * settings.repetitions


def _random_workloads(pairs: _Pairs, settings: Settings, vocab: int, stage: _Stage) -> None:
    prompt = random_tokens(settings.prompt_tokens, vocab, settings.seed)
    steps = random_tokens(settings.generated_tokens, vocab, settings.seed + 1)
    for keep in _rounds(settings) if prompt else []:
        for subject, sample in pairs:
            stage(f"pp{len(prompt)}", subject)
            seconds = subject.prefill(prompt)
            if keep:
                sample.prefills.append(seconds)
    for keep in _rounds(settings) if steps else []:
        for subject, sample in pairs:
            stage(f"tg{len(steps)}", subject)
            gaps = subject.decode(steps)
            if keep:
                sample.decodes.append(gaps)


def _chat_workload(pairs: _Pairs, settings: Settings, stage: _Stage) -> None:
    continuation: tuple[int, ...] | None = None
    for keep in _rounds(settings) if settings.chat_tokens else []:
        for subject, sample in pairs:
            stage("chat", subject)
            chat = subject.chat(settings.chat_tokens, continuation)
            if chat is None:
                return
            continuation = continuation or chat.tokens
            if keep:
                sample.chats.append(chat)


def _agreements(
    subjects: Sequence[Subject], room: int, stage: _Stage
) -> tuple[LabelledAgreement, ...]:
    tokens = subjects[0].text_tokens()[:room]
    if not tokens or len(subjects) < 2:
        return ()
    best = []
    for subject in subjects:
        stage("agreement", subject)
        best.append((subject.info.label, subject.top1(tokens)))
    found = []
    for (a, of_a), (b, of_b) in itertools.combinations(best, 2):
        value = agree(of_a, of_b)
        found.append(LabelledAgreement(a, b, value.tokens, value.top1))
    return tuple(found)


def _engine_result(info: SubjectInfo, samples: _Samples, settings: Settings) -> EngineResult:
    pp, tg = f"pp{settings.prompt_tokens}", f"tg{settings.generated_tokens}"
    metrics = [_milliseconds("load", samples.loads)]
    if samples.imports:
        metrics.append(_milliseconds("import", samples.imports))
    if samples.prefills:
        metrics.append(_speed(pp, [(settings.prompt_tokens, s) for s in samples.prefills]))
    if samples.decodes:
        metrics.append(_speed(tg, [(len(gaps), sum(gaps)) for gaps in samples.decodes]))
    gaps = [(tg, samples.decodes), ("chat", [chat.gaps for chat in samples.chats])]
    return EngineResult(
        label=info.label,
        engine=info.engine,
        engine_version=info.engine_version,
        model=info.model,
        threads=info.threads,
        context_length=info.context_length,
        peak_memory=samples.memory,
        metrics=(*metrics, *_chat_metrics(samples.chats)),
        inter_token=tuple(
            InterToken(name, token_gaps(list(itertools.chain.from_iterable(rounds))))
            for name, rounds in gaps
            if rounds
        ),
    )


def _chat_metrics(chats: Sequence[ChatSample]) -> tuple[Metric, ...]:
    if not chats:
        return ()
    return (
        _milliseconds("chat.ttft", [chat.ttft for chat in chats]),
        _milliseconds("chat.tokenize", [chat.tokenize for chat in chats]),
        _milliseconds("chat.prefill", [chat.prefill for chat in chats]),
        _milliseconds("chat.first_sample", [chat.first_sample for chat in chats]),
        _speed("chat.prefill_speed", [(chat.prompt_tokens, chat.prefill) for chat in chats]),
        _speed("chat.decode_speed", [(len(chat.gaps), sum(chat.gaps)) for chat in chats]),
    )


def _milliseconds(name: str, seconds: Sequence[float]) -> Metric:
    return Metric(name, "ms", False, tuple(s * 1e3 for s in seconds))


def _speed(name: str, runs: Sequence[tuple[int, float]]) -> Metric:
    return Metric(name, "tokens/s", True, tuple(n / max(s, _SHORTEST) for n, s in runs))


def _protocol(settings: Settings, interleaved: bool) -> Protocol:
    return Protocol(
        prompt_tokens=settings.prompt_tokens,
        generated_tokens=settings.generated_tokens,
        chat_tokens=settings.chat_tokens,
        warmups=settings.warmups,
        repetitions=settings.repetitions,
        seed=settings.seed,
        interleaved=interleaved,
    )


def _notes(
    infos: Sequence[SubjectInfo], load: LoadCheck, samples: Sequence[_Samples], settings: Settings
) -> tuple[str, ...]:
    notes = []
    if load.busy:
        notes.append(_busy_note(load))
    if settings.chat_tokens and not samples[0].chats:
        notes.append("The chat workload was left out: there is no tokenizer.")
    for a, b in itertools.combinations(infos, 2):
        if not a.model.same_source(b.model):
            notes.append(
                f"{a.label} and {b.label} run files that are not known to hold the same model; "
                "compare their agreement before their speed."
            )
    return tuple(notes)


def _busy_note(load: LoadCheck) -> str:
    during = load.other_cpu_percent_during
    share = "" if during is None else f" (others used {during:g}% of its processors meanwhile)"
    return (
        f"The machine was busy{share}: these figures are not to be trusted, ratios included, for "
        "engines whose threads wait actively lose more than others. Measure on an idle machine."
    )


def _tool() -> str:
    from ondevice import __version__

    return f"ondevice {__version__}"
