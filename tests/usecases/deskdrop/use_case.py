"""Reactions to articles: which first view is followed by a like, bookmark, comment or follow."""

from data_contracts.aggregates import Count
from data_contracts.derived import Rate
from data_contracts.encoding import HOUR_OF_DAY, Categorical
from data_contracts.evaluation import Evaluation, Slice
from data_contracts.features import FeatureGroup
from data_contracts.labels import Label
from data_contracts.model_spec import ModelSpec
from data_contracts.use_case import Declaration
from data_contracts.windows import Sliding

REACTIONS = ("like", "bookmark", "comment", "follow")
WINDOWS = (Sliding("1h"), Sliding("24h"), Sliding("30d"), Sliding("365d"))
AGGREGATES = {"views": Count(where=("view",)), "reactions": Count(where=REACTIONS)}
DERIVED = {"rate": Rate("reactions", "views", prior=0.17, strength=10)}

USE_CASE = Declaration(
    description="Views of and reactions to the articles of an internal reading platform",
    owner="reading",
    start="2016-03-14",
    groups=(
        FeatureGroup(
            name="user",
            entity="user_id",
            aggregates=AGGREGATES,
            windows=WINDOWS,
            derived=DERIVED,
            owner="reading",
            description="How much the user reads and how readily they react",
        ),
        FeatureGroup(
            name="item",
            entity="item_id",
            aggregates=AGGREGATES,
            windows=WINDOWS,
            derived=DERIVED,
            owner="reading",
            description="How much the article is read and how readily it is reacted to",
        ),
    ),
    label=Label(
        on="view",
        positive=REACTIONS,
        match={"user_id": "user_id", "item_id": "item_id"},
        within="24h",
        first_per=("user_id", "item_id"),
    ),
    evaluation=Evaluation(
        user="user_id", slices=(Slice("platform"), Slice("user_views_30d", (1, 10, 100)))
    ),
    # No embedding of user or item: on the validation rows it gains less than another seed does,
    # and readers and articles come and go. What they did lately says enough.
    model=ModelSpec(
        categorical=(Categorical(HOUR_OF_DAY, 25), Categorical("platform", 16)),
        item=("item",),
    ),
)
