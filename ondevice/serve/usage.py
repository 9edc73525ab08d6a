"""How much an answer took and how it ended, in OpenAI's words."""

from __future__ import annotations

from typing import Any

from ondevice.labels import Figures


def usage(figures: Figures) -> dict[str, Any]:
    """Tokens of the prompt and the answer; those of the prompt that the KV cache had."""
    return {
        "prompt_tokens": figures.prompt_tokens,
        "completion_tokens": figures.output_tokens,
        "total_tokens": figures.prompt_tokens + figures.output_tokens,
        "prompt_tokens_details": {"cached_tokens": figures.cached_tokens},
    }


def finish_reason(figures: Figures) -> str:
    """ "length" or "stop"; an answer that was cancelled has no reader, or a server that closes."""
    return "length" if figures.finish_reason == "length" else "stop"
