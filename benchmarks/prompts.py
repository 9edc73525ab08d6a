"""200 everyday tasks for a small offline model, each with an exact check of the answer.

Handwritten; knows nothing about models. Every prompt can be answered without the network.
"""

from __future__ import annotations

from benchmarks import tasks_knowledge, tasks_text
from benchmarks.tasks import Prompt

_GROUPS = (
    tasks_text.EXTRACTION,
    tasks_text.CLASSIFICATION,
    tasks_knowledge.FACTS,
    tasks_text.READING,
    tasks_text.GRAMMAR,
    tasks_knowledge.NUMBERS,
    tasks_knowledge.CODE,
    tasks_text.STRINGS,
    tasks_knowledge.WORDS,
)

PROMPTS: tuple[Prompt, ...] = tuple(
    prompt for group in _GROUPS for kind in group for prompt in kind.prompts()
)
