"""Where commands print."""

from rich.console import Console


def terminal(stderr: bool = False) -> Console:
    """It prints text as it is: what users write may look like markup."""
    return Console(stderr=stderr, markup=False)
