"""Names of the online store that its writer and its readers agree on."""

from data_contracts.features import FeatureGroup

QUERY_TIME = "q"
"""The request field of a Feast client: the query time in µs."""


def view_name(group: FeatureGroup) -> str:
    """The Feast feature view of a group: a changed definition is another view."""
    return f"{group.name}_{group.digest[:12]}"


def state_name(group: FeatureGroup) -> str:
    """The one BYTES feature of that view: the packed state of a key."""
    return f"{view_name(group)}_state"
