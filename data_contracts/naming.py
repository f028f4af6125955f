"""Errors that say of what they are."""

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def naming(what: str) -> Generator[None]:
    """Put `what` before the message of what is wrong within: a ValueError, whose cause may be the
    TypeError of a value of another type than its declaration says."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ValueError(f"{what}: {error}") from error
