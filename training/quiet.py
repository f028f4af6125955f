"""Libraries' remarks that a user can do nothing about, kept from the terminal."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(logger: str, least: int, *remarks: str) -> Iterator[None]:
    """Without records of `logger` ("" is the root) under level `least`, and without warnings that
    match a regular expression of `remarks`."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(least)
    try:
        with warnings.catch_warnings():
            for remark in remarks:
                warnings.filterwarnings("ignore", remark)
            yield
    finally:
        log.setLevel(level)
