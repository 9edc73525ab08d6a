"""Base and fine-tuned model exported alike and asked the same questions, side by side.

Knows the recipe's folder; exporting and evaluating are the program's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ondevice.errors import OndeviceError
from ondevice.export.convert import convert
from ondevice.export.recipe import Options
from ondevice.package import Package, open_package
from ondevice.progress import Progress
from ondevice.runtime.evaluate import tables
from ondevice.runtime.evaluate.eval_result import EvalResult
from ondevice.runtime.evaluate.evaluate import Settings, prepare
from ondevice.runtime.page import Table
from recipes.finetune.run import ADAPTER, EVALSET

TARGET = "cpu-int8"
SPLITS = ("test", "ood")
_NAMES = ("base", "fine-tuned")


def packages(base: Path, out: Path, target: str = TARGET) -> tuple[Package, Package]:
    """The base, and the base with the adapter in `out` merged in, as packages of one target.

    Made once; they differ in the adapter alone. Raises `OndeviceError`.
    """
    adapter = out / ADAPTER
    if not adapter.is_dir():
        raise OndeviceError(f"{adapter} is missing; let `train` come to its end first")
    made = []
    for name, options in zip(_NAMES, (Options(), Options(adapter=adapter)), strict=True):
        folder = out / f"{name}-{target}"
        if folder.is_dir():
            made.append(open_package(folder))
        else:
            made.append(convert(base, target, folder, options=options))
    return made[0], made[1]


def compare(
    base: Path,
    out: Path,
    *,
    splits: Sequence[str] = SPLITS,
    limit: int | None = None,
    threads: int | None = None,
    target: str = TARGET,
    progress: Progress | None = None,
) -> dict[str, EvalResult]:
    """Ask both packages every question of the splits; results by split, written to `out` as JSON.

    Answers are kept: called again, it goes on where it was.
    """
    both = tuple(str(package.folder) for package in packages(base, out, target))
    results = {}
    for split in splits:
        settings = Settings(
            dataset=EVALSET / f"{split}.jsonl.gz",
            models=both,
            answers=out / f"answers-{split}",
            limit=limit,
            threads=threads,
        )
        results[split] = prepare(settings).run(progress)
        results[split].write(out / f"eval-{split}.json")
    return results


def told(results: dict[str, EvalResult], show: Callable[[str], None] = print) -> None:
    """The figures as Markdown tables."""
    for split, result in results.items():
        show(f"\n## {split}: {result.dataset.examples} examples")
        found = [tables.overall_table(result.subjects), tables.comparison_table(result.comparisons)]
        found += tables.family_tables(result.comparisons)
        found += tables.part_tables(result.subjects)
        for table in found:
            show(f"\n{table.caption}\n\n{_markdown(table)}")


def _markdown(table: Table) -> str:
    rows = [table.head, ("---",) * len(table.head), *table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
