"""Where a request's time goes, for who traces; nothing where nobody does."""

import os
from contextlib import AbstractContextManager, nullcontext

_NOTHING = nullcontext()
_ASKED = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def traced() -> bool:
    """Whether the environment names a collector of traces, as OpenTelemetry specifies."""
    return any(os.environ.get(name) for name in _ASKED)


class Untraced:
    """Spans that nobody asked for."""

    def span(self, name: str, version: str) -> AbstractContextManager[object]:
        """The time within it, which a model's version is spent on."""
        return _NOTHING

    def spent(self, name: str, version: str, before_ms: float, milliseconds: float) -> None:
        """Note a time that ended `before_ms` ago."""

    def close(self) -> None:
        """Send what is left."""
