"""Where output goes: results on stdout, everything else on stderr, and nothing of it in a pipe.

Knows nothing about models.
"""

from __future__ import annotations

import contextlib
import json
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

from ondevice.progress import Progress


def print_json(data: Any, *, one_line: bool = False) -> None:
    """Print JSON for a program; NaN and infinity do not occur."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=None if one_line else 2)
    print(text, flush=True)


def print_piece(text: str) -> None:
    """Print a piece of an answer at once. A terminal gets no control characters of the model's."""
    if sys.stdout.isatty():
        text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    print(text, end="", flush=True)


def note(text: str) -> None:
    """A dim remark for a person at a terminal; silent when stderr is not one."""
    if not sys.stderr.isatty():
        return
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, highlight=False).print(Text(text, style="dim"))


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """Columns as wide as their longest cell, two spaces apart: readable and easy to cut."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in [columns, *rows]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())


def print_fields(fields: dict[str, str]) -> None:
    """`name  value` lines."""
    width = max(map(len, fields))
    for name, value in fields.items():
        print(f"{name.ljust(width)}  {value}".rstrip())


def megabytes(size: int) -> str:
    """A size in bytes as decimal megabytes, such as `491 MB`."""
    return f"{size / 1e6:,.0f} MB"


@contextlib.contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Progress | None]:
    """A bar on stderr that shows the stage and how far it is; None when nobody watches."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        speed_estimate_period=90,  # seconds: GPTQ takes half a minute for a layer of 1.5B
    )
    with bars:
        task = bars.add_task("", total=None)
        stage_shown = ""

        def show(stage: str, done: int, total: int) -> None:
            nonlocal stage_shown
            if stage != stage_shown:
                bars.reset(task, description=stage, total=total or None)
                stage_shown = stage
            bars.update(task, completed=done, total=total or None)

        yield show
