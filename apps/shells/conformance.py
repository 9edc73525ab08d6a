"""Builds every shell that can be built here and has each do the same; prints a table.

    python apps/shells/conformance.py [MODEL] [--shell NAME]... [--case NAME]... [--required]

The sidecar is the `ondevice` of the Python that runs this; MODEL a pulled model or a package
folder. Exit code 1 where a shell failed, or none could be run; 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from building import SHELLS, BuildFailed, NotHere, Shell
from cases import CASES, Case, Subject
from driver import Failed


@dataclass(frozen=True)
class Row:
    """A line of the table; `why` for what was not run or failed."""

    shell: str
    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    why: tuple[str, ...] = ()


def run(shell: Shell, cases: Sequence[Case], sidecar: list[str], build: Path) -> Row:
    """Build a shell and run the cases, all of them whatever fails."""
    try:
        command = shell.build(build)
    except NotHere as reason:
        return Row(shell.name, why=(f"not run: {reason}",))
    except BuildFailed as error:
        return Row(shell.name, failed=("build",), why=(f"build: {error}",))
    passed, failed, why = [], [], []
    for case in cases:
        try:
            case.run(Subject(command, sidecar))
            passed.append(case.name)
        except Failed as error:
            failed.append(case.name)
            why.append(f"{case.name}: {error}")
        except (LookupError, TypeError, ValueError) as error:  # an event without its fields
            failed.append(case.name)
            why.append(f"{case.name}: {type(error).__name__}: {error}")
    return Row(shell.name, tuple(passed), tuple(failed), tuple(why))


def table(rows: Sequence[Row], cases: Sequence[Case]) -> str:
    """The outcome for people: a line a shell, a column a case, reasons below."""
    names = [case.name for case in cases]
    lines = [f"{'shell':10}" + "".join(f"{name:>{len(name) + 2}}" for name in names)]
    for row in rows:
        marks = {**dict.fromkeys(row.passed, "pass"), **dict.fromkeys(row.failed, "FAIL")}
        cells = "".join(f"{marks.get(name, '-'):>{len(name) + 2}}" for name in names)
        lines.append(f"{row.shell:10}{cells}")
    lines += [f"{row.shell}: {why}" for row in rows for why in row.why]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", help="a pulled model or a package folder")
    parser.add_argument("--shell", action="append", choices=[s.name for s in SHELLS])
    parser.add_argument("--case", action="append", choices=[c.name for c in CASES])
    parser.add_argument(
        "--required", action="store_true", help="a shell that cannot be run here is a failure"
    )
    given = parser.parse_args(arguments)
    cases = [c for c in CASES if not given.case or c.name in given.case]
    models = [given.model] if given.model else []
    sidecar = [sys.executable, "-m", "ondevice", "stdio", *models]
    shells = [s for s in SHELLS if not given.shell or s.name in given.shell]
    with tempfile.TemporaryDirectory() as build:
        rows = [run(shell, cases, sidecar, Path(build) / shell.name) for shell in shells]
    print(table(rows, cases))
    well = all if given.required else any
    return 0 if well(r.passed for r in rows) and not any(r.failed for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
