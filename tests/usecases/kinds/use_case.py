"""Every aggregate over every kind of window that may take it, to be proven."""

from data_contracts.aggregates import (
    ApproxDistinct,
    Count,
    DecayedCount,
    DecayedSum,
    Distinct,
    First,
    FrequentItems,
    Last,
    LastK,
    Max,
    Mean,
    Min,
    Quantile,
    SinceLast,
    StdDev,
    Sum,
    TopK,
)
from data_contracts.derived import Difference, Rate
from data_contracts.dimension import Dimension
from data_contracts.encoding import HOUR_OF_DAY, Categorical
from data_contracts.features import FeatureGroup
from data_contracts.labels import Label
from data_contracts.model_spec import ModelSpec
from data_contracts.use_case import Declaration
from data_contracts.windows import Lifetime, Session, Sliding, Tumbling

KINDS = (Sliding("1h"), Tumbling("1h"), Session("10m", within="1h"), Lifetime())
COUNTS = {"shown": Count(where=("impression",)), "clicked": Count(where=("click",))}
CTR = {"ctr": Rate("clicked", "shown", prior=0.12, strength=20)}

USE_CASE = Declaration(
    description="SIMULATED events under every aggregate and kind of window",
    owner="platform",
    simulated=True,
    start="2024-01-01",
    groups=(
        FeatureGroup(
            name="user",
            entity="user_id",
            aggregates={
                **COUNTS,
                "mobile": Count(where={"event_type": ("impression",), "device": ("mobile",)}),
                "spent": Sum("price", where=("purchase",), scale=100),
                "price": Mean("price", scale=100),
                "slot": Mean("position", nulls="zero"),
                "cheapest": Min("price", scale=100),
                "dearest": Max("price", scale=100),
                "spread": StdDev("price", scale=100),
                "first_item": First("item_id"),
                "last_price": Last("price", where=("impression",), scale=100),
                "last_items": LastK("item_id", k=3),
                "items": Distinct("item_id", cap=6),
                "top_categories": TopK("category", k=2, cap=4),
                "since_click": SinceLast(where=("click",)),
            },
            windows=KINDS,
            derived={**CTR, "range": Difference("dearest", "cheapest")},
            defaults={"cheapest": -1.0, "since_click": 1e6},
            owner="platform",
            description="Exact aggregates that know no age",
        ),
        FeatureGroup(
            name="fading",
            entity="item_id",
            aggregates={
                "heat": DecayedCount("6h"),
                "glow": DecayedSum("price", where=("impression",), scale=100, half_life="1d"),
            },
            windows=(Sliding("24h"), Sliding("3d")),
            ttl="4d",
            owner="platform",
            description="Aggregates that fade: of sliding windows alone",
        ),
        FeatureGroup(
            name="taste",
            entity=("user_id", "category"),
            aggregates={**COUNTS, "last_price": Last("price", scale=100)},
            windows=KINDS,
            derived=CTR,
            owner="platform",
            description="A pair of keys, one of them from a dimension",
        ),
        FeatureGroup(
            name="sketch",
            entity="user_id",
            aggregates={
                "items": ApproxDistinct("item_id", bits=7),
                "frequent": FrequentItems("item_id", k=2, sample=16),
                "median": Quantile("price", scale=100),
                "high": Quantile("price", rank=0.9, scale=100),
            },
            windows=KINDS,
            max_sketch_bytes=2**23,
            owner="platform",
            description="Sketches, which have a view of their own",
        ),
    ),
    label=Label(
        on="impression",
        positive=("click",),
        match={"event_id": "impression_id"},
        within="30m",
    ),
    dimensions=(Dimension("item", key="item_id", attributes=("category",)),),
    model=ModelSpec(categorical=(Categorical(HOUR_OF_DAY, 25),), item=("fading",)),
)
