"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Counters of one server. texts: gives the number of texts that run or wait."""

    def __init__(self, texts: Callable[[], float]) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        self._requests = Counter(
            "textwright_requests",
            "Requests that were answered; status 499: the client went first.",
            ["route", "status"],
            registry=self.registry,
        )
        self._read = Counter(
            "textwright_prompt_tokens", "Tokens of prompts.", ["run"], registry=self.registry
        )
        self._written = Counter(
            "textwright_new_tokens", "Tokens that were written.", ["run"], registry=self.registry
        )
        gauge = Gauge(
            "textwright_texts", "Texts that run or wait, and looks.", registry=self.registry
        )
        gauge.set_function(texts)
        self._took = Histogram(
            "textwright_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._waited = Histogram(
            "textwright_first_token_seconds",
            "Seconds from a completion request to its first token.",
            buckets=_SECONDS,
            registry=self.registry,
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, status).inc()
        self._took.labels(route).observe(seconds)

    def first_token(self, seconds: float) -> None:
        """Count the wait for the first token of a request."""
        self._waited.observe(seconds)

    def wrote(self, run: str, read: int, written: int) -> None:
        """Count the tokens of a request that has ended, or was ended."""
        self._read.labels(run).inc(read)
        self._written.labels(run).inc(written)

    def render(self) -> bytes:
        """The page that Prometheus reads."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
