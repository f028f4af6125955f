"""The generated click world: which impression a simulated user will click."""

from data_contracts.aggregates import Count, Mean
from data_contracts.derived import Rate
from data_contracts.dimension import Dimension
from data_contracts.encoding import HOUR_OF_DAY, Categorical, Numeric
from data_contracts.evaluation import Evaluation, Slice
from data_contracts.features import FeatureGroup
from data_contracts.labels import Label
from data_contracts.model_spec import ModelSpec
from data_contracts.use_case import Declaration
from data_contracts.windows import Sliding, Tumbling

WINDOWS = (Sliding("10m"), Sliding("1h"), Sliding("24h"), Tumbling("1d"))
COUNTS = {
    "impressions": Count(where=("impression",)),
    "clicks": Count(where=("click",)),
    "purchases": Count(where=("purchase",)),
}
DERIVED = {"ctr": Rate("clicks", "impressions", prior=0.12, strength=20)}

USE_CASE = Declaration(
    description="SIMULATED impressions, clicks, carts and purchases with a known truth",
    owner="platform",
    simulated=True,
    start="2024-01-01",
    groups=(
        FeatureGroup(
            name="user",
            entity="user_id",
            aggregates={
                **COUNTS,
                "price": Mean("price", where=("impression",), scale=100),
            },
            windows=WINDOWS,
            derived=DERIVED,
            owner="platform",
            description="What the simulated user was shown, clicked and bought",
        ),
        FeatureGroup(
            name="item",
            entity="item_id",
            aggregates={**COUNTS, "position": Mean("position", where=("impression",))},
            windows=WINDOWS,
            derived=DERIVED,
            defaults={"position": 3.0},
            owner="platform",
            description="How often the item was shown, clicked and bought",
        ),
        FeatureGroup(
            name="taste",
            entity=("user_id", "category"),
            aggregates=COUNTS,
            windows=(Sliding("24h"), Sliding("7d")),
            derived=DERIVED,
            owner="platform",
            description="What the simulated user did with items of the category",
        ),
    ),
    label=Label(
        on="impression",
        positive=("click",),
        match={"event_id": "impression_id"},
        within="30m",
    ),
    dimensions=(Dimension("item", key="item_id", attributes=("category",)),),
    request_field="request_id",
    assumed_lag="5s",
    evaluation=Evaluation(
        user="user_id", slices=(Slice("device"), Slice("segment"), Slice("user_clicks_1h", (1, 3)))
    ),
    model=ModelSpec(
        categorical=(
            Categorical("item_id", 1024),
            Categorical("category", 64),
            Categorical("segment", 64),
            Categorical("device", 16),
            Categorical(HOUR_OF_DAY, 25),
        ),
        numeric=(Numeric("position", 3.0), Numeric("price", 20.0)),
        item=("item", "item_id", "category", "price"),
    ),
)
