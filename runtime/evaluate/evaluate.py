"""An evaluation from a file of questions and names of models to its result, resumable.

Answers are kept line by line in a folder, one file for each model and identity, so that a run
that was stopped or killed goes on where it was. Prints nothing and asks nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ondevice import files
from ondevice.errors import RequestError
from ondevice.progress import Progress
from ondevice.runtime.evaluate import distributed, judge, kept, subjects, summary
from ondevice.runtime.evaluate.collect import collect
from ondevice.runtime.evaluate.dataset import Example, read
from ondevice.runtime.evaluate.eval_result import DataSet, EvalResult
from ondevice.runtime.evaluate.frontier import Frontier, frontier, has_confidence
from ondevice.runtime.evaluate.records import Record
from ondevice.runtime.evaluate.subjects import CloudSource, CloudUse, PackageSource, Source

FEW = 200

Answers = dict[str, list[Record]]


@dataclass(frozen=True)
class Settings:
    """What to evaluate, with what.

    `models` and `judge` are package names, paths or "cloud:NAME"; `answers` is the folder of the
    kept answers; `dask` the address of a scheduler, "" for this machine. `policy` None is the
    person's own. `retry_errors` asks again where a call gave no answer.
    """

    dataset: Path
    models: tuple[str, ...]
    answers: Path
    split: str = ""
    limit: int | None = None
    judge: str = ""
    dask: str = ""
    policy: Path | None = None
    threads: int | None = None
    retry_errors: bool = False


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that is prepared: files read, models found, nothing asked yet.

    `left_out` counts examples that only a judge could decide, where there is none.
    """

    settings: Settings
    examples: tuple[Example, ...]
    left_out: int
    sources: tuple[Source, ...]
    judging: Source | None

    def cloud_use(self) -> tuple[CloudUse, ...]:
        """What would be sent to endpoints at most, kept answers already left out."""
        found = []
        for source in self.sources:
            if isinstance(source, CloudSource):
                path = self._file(source)
                usable = kept.usable(
                    path, self.examples, source.name, retry_errors=self.settings.retry_errors
                )
                found.append(source.use([e for e in self.examples if e.id not in usable]))
        if isinstance(self.judging, CloudSource):
            found.append(self.judging.use(self._judged_at_most()))
        return tuple(use for use in found if use.requests or use.refused)

    def run(self, progress: Progress | None = None) -> EvalResult:
        """Ask what is missing, then compute everything from the kept answers.

        Raises `OndeviceError` when a model cannot be used; what was answered until then is kept.
        """
        with kept.locked(self.settings.answers):
            answers = {source.name: self._collect(source, progress) for source in self.sources}
            verdicts = {} if self.judging is None else self._judge(self.judging, answers, progress)
        for name, decided in verdicts.items():
            answers[name] = judge.apply(self.examples, answers[name], decided)
        return EvalResult(
            tool=_tool(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            dataset=self._dataset(),
            subjects=tuple(
                summary.summarize(s.name, s.identity, self.examples, answers[s.name])
                for s in self.sources
            ),
            comparisons=summary.compare_all(self.examples, answers),
            frontiers=frontiers(self.examples, answers, self.sources),
            judge=tuple(
                judge.summarize(self.judging.name, name, answers[name], decided)
                for name, decided in verdicts.items()
                if self.judging is not None
            ),
            notes=tuple(self._notes(answers)),
        )

    def _collect(self, source: Source, progress: Progress | None) -> list[Record]:
        path = self._file(source)
        if not self.settings.dask or not isinstance(source, PackageSource):
            return self._collect_here(source, self.examples, path, progress)
        if self.settings.retry_errors:
            kept.forget_errors(path)
        task = distributed.Task(source.elsewhere(), source.identity, source.threads, source.hidden)
        address = self.settings.dask
        return distributed.collect(task, source.name, self.examples, path, address, progress)

    def _collect_here(
        self, source: Source, examples: Sequence[Example], path: Path, progress: Progress | None
    ) -> list[Record]:
        if self.settings.retry_errors:
            kept.forget_errors(path)
        if len(kept.usable(path, examples, source.name)) == len(examples):
            return collect(_Silent(source.name), examples, path, progress)
        with source.open() as subject:
            return collect(subject, examples, path, progress)

    def _judge(
        self, source: Source, answers: Answers, progress: Progress | None
    ) -> dict[str, judge.Verdicts]:
        found = {}
        for judged in self.sources:
            asked = judge.questions(self.examples, answers[judged.name])
            path = self._file(source, judged)
            replies = self._collect_here(source, asked, path, progress)
            found[judged.name] = judge.verdicts(self.examples, replies)
        return found

    def _file(self, source: Source, judged: Source | None = None) -> Path:
        name, identity = source.name, source.identity
        if judged is not None:
            name = f"judge {name} of {judged.name}"
            parts = f"{identity} {judge.identity()} {judged.identity}"
            identity = hashlib.sha256(parts.encode()).hexdigest()
        return kept.file_for(self.settings.answers, name, identity)

    def _judged_at_most(self) -> list[Example]:
        free = [example for example in self.examples if judge.is_free(example)]
        exact = [example for example in self.examples if not judge.is_free(example)]
        # Which of them the judge is tried on is not known before the answers are: the longest.
        exact.sort(key=lambda example: -len(example.prompt))
        return [
            judge.question(example, "x" * 4 * example.max_tokens)
            for example in free + exact[: judge.MOST_CHECKED]
            for _ in self.sources
        ]

    def _dataset(self) -> DataSet:
        return DataSet(
            name=self.settings.dataset.name,
            sha256=files.sha256(self.settings.dataset),
            split=self.settings.split,
            examples=len(self.examples),
            templates=len({example.template for example in self.examples if example.template}),
            left_out=self.left_out,
        )

    def _notes(self, answers: Answers) -> Iterator[str]:
        if self.left_out:
            yield (
                f"{self.left_out} free answers can only be judged by a model and are left out; "
                "name one with --judge."
            )
        if len(self.examples) < FEW:
            yield f"{len(self.examples)} examples make wide intervals; 200 to 500 say more."
        for name, found in answers.items():
            reasons = [record.error for record in found if record.error]
            refused = [reason for reason in reasons if reason.startswith(summary.REFUSED)]
            failures = [reason for reason in reasons if not reason.startswith(summary.REFUSED)]
            if refused:
                yield f"{name}: {len(refused)} were not sent and count as wrong ({refused[0]})."
            if failures:
                yield (
                    f"{name}: {len(failures)} calls gave no answer and count as wrong (first: "
                    f"{failures[0][:300]}); --retry-errors asks them again."
                )


def prepare(settings: Settings) -> Evaluation:
    """Read the questions, find the models. Raises `OndeviceError` naming what is wrong."""
    chosen = _chosen(settings)
    examples = [e for e in chosen if settings.judge or not judge.is_free(e)]
    if not examples:
        raise RequestError(
            f"all {len(chosen)} answers to {settings.dataset} can only be judged by a model; name "
            "one with --judge"
        )
    sources = subjects.find(settings.models, settings.policy, settings.threads)
    judging = None
    if settings.judge:
        judging = subjects.source(settings.judge, settings.policy, settings.threads)
    left_out = len(chosen) - len(examples)
    return Evaluation(settings, tuple(examples), left_out, tuple(sources), judging)


def frontiers(
    examples: Sequence[Example], answers: Mapping[str, Sequence[Record]], sources: Sequence[Source]
) -> tuple[Frontier, ...]:
    """One for each pair of a small and a large subject.

    Small is every package whose answers have confidences. Large are the endpoints; without one,
    the package with the most parameters is large for the others.
    """
    small = [s for s in sources if isinstance(s, PackageSource) and has_confidence(answers[s.name])]
    large: list[Source] = [s for s in sources if isinstance(s, CloudSource)]
    if not large and len(small) > 1:
        large = [max(small, key=lambda source: source.package.manifest.shape.parameters)]
    found = []
    for one in small:
        values, meaning = subjects.confidences(one.package, examples, answers[one.name])
        for other in large:
            if other is not one:
                both = (answers[one.name], answers[other.name])
                names = (one.name, other.name)
                found.append(frontier(examples, *both, values, names=names, confidence=meaning))
    return tuple(found)


def _chosen(settings: Settings) -> list[Example]:
    examples = read(settings.dataset)
    if settings.split:
        splits = sorted({example.split for example in examples if example.split})
        examples = [example for example in examples if example.split == settings.split]
        if not examples:
            known = f"its splits: {', '.join(splits)}" if splits else "it names no splits"
            raise RequestError(
                f"{settings.dataset} has no examples of split {settings.split!r}; {known}"
            )
    return examples[: settings.limit]


@dataclass(frozen=True)
class _Silent:
    """Stands for a model that need not be loaded, because all its answers are kept."""

    name: str

    def answer(self, example: Example) -> Record:
        raise AssertionError(f"{example.id} was to be kept already")


def _tool() -> str:
    from ondevice import __version__

    return f"ondevice {__version__}"
