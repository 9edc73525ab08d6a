"""What the server counts, for Prometheus; nothing of what was asked or said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ondevice.host import BusyError, GoneError, Host

if TYPE_CHECKING:
    from ondevice.errors import OndeviceError
    from ondevice.serve.said import Done

_TTFT_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TPS = (1, 2, 5, 10, 20, 40, 80, 160, 320)


class Metrics:
    """Counters of one server."""

    def __init__(self, host: Host) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = made = CollectorRegistry()
        self._answers = Counter(
            "ondevice_answers", "Answers by model, source and end.",
            ("model", "source", "finish_reason"), registry=made,
        )  # fmt: skip
        self._requests = Counter(
            "ondevice_requests", "Requests for an answer by path and status.",
            ("path", "status"), registry=made,
        )  # fmt: skip
        self._refused = Counter(
            "ondevice_refused", "Requests without an answer: queue_full or error.",
            ("reason",), registry=made,
        )  # fmt: skip
        self._cancelled = Counter(
            "ondevice_cancelled", "Requests whose client left before the end.", registry=made
        )
        self._prompt = Counter("ondevice_prompt_tokens", "Tokens of prompts.", registry=made)
        self._output = Counter("ondevice_output_tokens", "Tokens generated.", registry=made)
        self._ttft = Histogram(
            "ondevice_ttft_seconds", "Time to first token, without the wait in the line.",
            buckets=_TTFT_S, registry=made,
        )  # fmt: skip
        self._decode = Histogram(
            "ondevice_decode_tokens_per_second", "Speed of decode.", buckets=_TPS, registry=made
        )
        waiting = Gauge("ondevice_waiting", "Requests in the line.", registry=made)
        waiting.set_function(lambda: host.turns.waiting)
        busy = Gauge("ondevice_busy", "Whether an answer is being made.", registry=made)
        busy.set_function(lambda: host.turns.busy)
        loaded = Gauge("ondevice_models_loaded", "Models in memory.", registry=made)
        loaded.set_function(lambda: len(host.open_names))

    def requested(self, path: str, status: int) -> None:
        """Count a request; `path` is one of the server's own."""
        self._requests.labels(path, str(status)).inc()

    def left(self) -> None:
        """Count a client that left."""
        self._cancelled.inc()

    def answered(self, done: Done) -> None:
        """Count an answer."""
        figures = done.figures
        if figures.finish_reason == "cancelled":
            self.left()
            return
        self._answers.labels(figures.model, done.label["source"], figures.finish_reason).inc()
        self._prompt.inc(figures.prompt_tokens)
        self._output.inc(figures.output_tokens)
        self._ttft.observe(figures.ttft_ms / 1e3)
        if figures.decode_tps:
            self._decode.observe(figures.decode_tps)

    def failed(self, error: OndeviceError) -> None:
        """Count a request that got no answer."""
        if isinstance(error, GoneError):
            self.left()
        else:
            self._refused.labels("queue_full" if isinstance(error, BusyError) else "error").inc()

    def page(self) -> tuple[bytes, str]:
        """The text of /metrics and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST
