"""What a Python worker raised, out of the many lines in which Spark wraps it."""

import re
from collections.abc import Generator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

_RAISED = re.compile(r"^data_contracts\.[\w.]+: (.+)$", re.MULTILINE)


@contextmanager
def told_by_workers(what: str) -> Generator[None]:
    """Raise ValueError with the one line of an error of ours that a worker met with over `what`;
    any other error of Spark comes through."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        if found := _RAISED.search(str(error)):
            raise ValueError(f"{what}: {found[1]}") from error
        raise
