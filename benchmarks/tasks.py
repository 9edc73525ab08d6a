"""What a task is: a wording with its cases, and the prompts they make."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.checks import Check


@dataclass(frozen=True)
class Prompt:
    """One task: what the user says, and a check of what the model answers."""

    id: str
    text: str
    check: Check


@dataclass(frozen=True)
class Kind:
    """Tasks of one wording: `{}` in the template takes the first part of each case."""

    name: str
    template: str
    cases: tuple[tuple[str, Check], ...]

    def prompts(self) -> list[Prompt]:
        """One prompt per case, numbered from 1."""
        return [
            Prompt(f"{self.name}-{i}", self.template.replace("{}", filling), check)
            for i, (filling, check) in enumerate(self.cases, start=1)
        ]


def kind(name: str, template: str, *cases: tuple[str, Check]) -> Kind:
    """A `Kind`, written in the order in which one reads it."""
    return Kind(name, template, cases)
