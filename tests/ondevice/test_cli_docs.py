"""The documents say what the program does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ondevice.cli import options

TOP = Path(__file__).parents[2]


def test_docs_cli_is_what_the_commands_say_of_themselves() -> None:
    script = TOP / "scripts" / "write_cli_docs.py"
    command = [sys.executable, "-P", str(script), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stderr}run python scripts/write_cli_docs.py"


def test_the_help_names_every_target() -> None:
    from ondevice.export.convert import TARGETS

    named = re.findall(r"(?:[cn]pu|coreml)-[a-z0-9-]+", options.TARGETS_HELP)
    assert sorted(named) == sorted(TARGETS)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/cli.md"])
def test_links_within_the_repository_lead_somewhere(page: str) -> None:
    text = (TOP / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?://)([^)#]+)", text)
    assert [link for link in links if not (TOP / page).parent.joinpath(link).exists()] == []


def test_the_first_two_blocks_of_the_readme_are_the_ones_ci_runs() -> None:
    text = (TOP / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    assert "ondevice pull\nondevice ask " in blocks[0]
    assert blocks[1].endswith("pytest\n")
