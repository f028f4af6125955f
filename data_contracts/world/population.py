"""Who visits and what is sold."""

import numpy as np

from data_contracts.world.draws import Draws, Purpose
from data_contracts.world.parameters import Parameters

DEVICES: tuple[str, ...] = ("desktop", "mobile", "tablet")
_HEAVIEST = 200
_LEAST_CENTS, _MOST_CENTS = 500, 20_000


class Population:
    """Users and items of a world, as arrays indexed by their numbers."""

    def __init__(self, parameters: Parameters) -> None:
        draws = Draws(parameters.seed)
        self.parameters = parameters
        self.draws = draws
        users, items = np.arange(parameters.users), np.arange(parameters.items)
        weight = 1 / np.sqrt(1 - draws.uniform(Purpose.ACTIVITY, users))
        self.activity = np.cumsum((np.minimum(weight, _HEAVIEST) * 1000).astype(np.int64))
        """int64[users]: cumulated visits, Pareto with tail exponent 2, cut at 200."""
        self.segment = draws.below(parameters.segments, Purpose.SEGMENT, users)
        """int64[users]."""
        self.home_device = draws.below(len(DEVICES), Purpose.HOME_DEVICE, users)
        """int64[users]: the device of most of a user's sessions."""
        self.category = draws.below(parameters.categories, Purpose.CATEGORY, items)
        """int64[items]."""
        self.quality = parameters.quality * draws.bell(Purpose.QUALITY, items)
        """float64[items]: the item's own logit."""
        spread = 1 / np.sqrt(1 - draws.uniform(Purpose.PRICE, items))
        self.cents = np.minimum((_LEAST_CENTS * spread).astype(np.int64), _MOST_CENTS)
        """int64[items]: prices from 5.00 to 200.00, Pareto with tail exponent 2."""
        self.phase = draws.below(parameters.trend_period, Purpose.PHASE, items)
        """int64[items]: where the item's hidden trend stands at the epoch, µs."""

    def taste(self, users: np.ndarray, items: np.ndarray, drifted: np.ndarray) -> np.ndarray:
        """float64[…]: the logit by which users like the items' categories.

        Where `drifted`, the tastes for the first `drift_categories` are reversed.
        """
        chosen, kinds = self.parameters, self.category[items]
        shared = self.draws.bell(Purpose.SEGMENT_TASTE, self.segment[users], kinds)
        own = self.draws.bell(Purpose.TASTE, users, kinds)
        taste = chosen.segment_taste * shared + chosen.own_taste * own
        return np.where(drifted & (kinds < chosen.drift_categories), -taste, taste)

    def visitor(self, uniform: np.ndarray) -> np.ndarray:
        """int64[…]: users as often as they are active, from uniform draws."""
        places = (uniform * int(self.activity[-1])).astype(np.int64)
        return np.searchsorted(self.activity, places, side="right")
