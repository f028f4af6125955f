"""How a long piece of work tells how far it is."""

from collections.abc import Callable

OnProgress = Callable[[str, float], None]
"""(what is being done, share of it that is done)"""


def silent(_: str, __: float) -> None:
    """Tell nobody."""
