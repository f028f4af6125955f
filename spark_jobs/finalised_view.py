"""The Feast on-demand view of a group: finalised features by name, for any Feast client."""

from collections.abc import Sequence

from feast import FeatureView, Field, OnDemandFeatureView, RequestSource
from feast.transformation.python_transformation import PythonTransformation
from feast.transformation.udf_rehydrate import rehydrate_udf_from_source
from feast.types import Float64, Int64

from data_contracts.features import FeatureGroup
from data_contracts.finalised import definitions_of
from data_contracts.online import QUERY_TIME
from data_contracts.views import Reading

# Feast runs this text in the client's process, which needs this package and no use case.
_SOURCE = """\
def finalised_features(inputs):
    from data_contracts.finalised import finalised

    return finalised({definitions!r}, inputs)
"""


class FinalisedView(OnDemandFeatureView):
    """An on-demand view whose schema is declared: from made-up bytes Feast could infer none."""

    def infer_features(self) -> None:
        """Nothing is left to infer."""


def finalised_view(
    group: FeatureGroup, read: Reading, states: Sequence[FeatureView]
) -> OnDemandFeatureView:
    """The view called as the group, over the views of packed states that it is `read` from and *q*
    of the request."""
    text = _SOURCE.format(definitions=definitions_of(group, read.groups))
    function = rehydrate_udf_from_source(text)
    assert function is not None
    asked = RequestSource(
        name=f"{group.name}_request", schema=[Field(name=QUERY_TIME, dtype=Int64)]
    )
    return FinalisedView(
        name=group.name,
        sources=[*states, asked],
        schema=[Field(name=name, dtype=Float64) for name in group.feature_names],
        feature_transformation=PythonTransformation(udf=function, udf_string=text),
        mode="python",
        description=group.description,
        owner=group.owner,
        tags={"digest": group.digest},
    )
