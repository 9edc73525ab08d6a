"""What is kept of a reply: its text and how it came about. Pure functions."""

from __future__ import annotations

from dataclasses import replace

from ondevice import labels
from ondevice.desktop.records import Details
from ondevice.runtime.fallback.reply import Reply


def details_of(reply: Reply, *, loaded: bool) -> Details:
    """Measurements and reasons of a reply; `loaded`: the model was loaded for it."""
    local, cloud = reply.local, reply.cloud
    made = Details(**labels.label(reply))
    if cloud is not None:
        return replace(
            made,
            ttft_ms=cloud.ttft_s * 1e3,
            prompt_tokens=cloud.prompt_tokens,
            output_tokens=cloud.output_tokens,
            finish_reason=cloud.finish_reason,
        )
    if local is None:
        return made
    return replace(
        made,
        ttft_ms=local.timings.ttft * 1e3,
        prefill_tps=local.prefill_tps,
        decode_tps=local.decode_tps,
        prompt_tokens=local.prompt_tokens,
        output_tokens=len(local.tokens),
        cached_tokens=local.cached_tokens,
        finish_reason=local.finish_reason,
        load_ms=local.load_s * 1e3 if loaded else 0.0,
        dropped_messages=local.dropped_messages,
    )


def failed(error: str) -> Details:
    """What is kept of an answer that did not come about."""
    return Details(finish_reason="failed", failure=error)
