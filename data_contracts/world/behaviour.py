"""Whether a user clicks: the click model and the windowed history it looks at.

For user u who is shown item i of category c at position k at time t on device d, p_true is

    logistic( base + drift_base [t >= drift_at] + quality_i - price_weight price_i / 10
              + taste(u, c, t) + trend triangle(t + phase_i) + evening triangle(hour of t)
              + device_d - position_decay min(k - 1, 10)
              + appetite min(clicks of u in Sliding("1h") at t, most_appetite)
              - fatigue min(impressions of u in Sliding("10m") at t, most_fatigue) )

The windows are those of features, so a model reaches p_true only with the right ones.
"""

import numpy as np

from data_contracts.clock import DAY, HOUR
from data_contracts.windows import Sliding
from data_contracts.world.draws import logistic, triangle
from data_contracts.world.parameters import LONGEST
from data_contracts.world.population import Population

CLICKS, IMPRESSIONS = Sliding("1h"), Sliding("10m")
_DEEPEST = 10


class Trace:
    """When users did one thing, as far back as `window` can look."""

    def __init__(self, window: Sliding, origin: int) -> None:
        self._window = window
        self._origin = origin
        self._keys = np.empty(0, np.int64)

    def count(self, users: np.ndarray, times: np.ndarray) -> np.ndarray:
        """int64[n]: how often each user did it within the window at each time (µs)."""
        low, high = self._window.bounds(times)
        first = np.searchsorted(self._keys, self._key(users, np.maximum(low, self._origin)))
        return np.searchsorted(self._keys, self._key(users, high)) - first

    def add(self, users: np.ndarray, times: np.ndarray) -> None:
        """Remember that users did it, each at a time (µs)."""
        if len(users):
            keys = np.concatenate([self._keys, self._key(users, times)])
            self._keys = np.sort(keys, kind="stable")

    def forget(self, now: int) -> None:
        """Drop what no query at or after `now` (µs) can see."""
        low, _ = self._window.bounds(now)
        self._keys = self._keys[self._keys % LONGEST + self._origin >= low]

    def _key(self, users: np.ndarray, times: np.ndarray) -> np.ndarray:
        return users * LONGEST + (times - self._origin)


class Behaviour:
    """The click model of a population with the history that it acts on."""

    def __init__(self, population: Population) -> None:
        self.population = population
        self.clicks = Trace(CLICKS, population.parameters.origin)
        self.impressions = Trace(IMPRESSIONS, population.parameters.origin)

    def p_true(
        self,
        users: np.ndarray,
        items: np.ndarray,
        positions: np.ndarray,
        devices: np.ndarray,
        times: np.ndarray,
        clicks: np.ndarray,
        impressions: np.ndarray,
    ) -> np.ndarray:
        """float64[…]: click probabilities, given the counts of the history; shapes broadcast."""
        people, chosen = self.population, self.population.parameters
        drifted = times >= chosen.drift_at
        logit = chosen.base + chosen.drift_base * drifted + people.quality[items]
        logit = logit - chosen.price_weight * (people.cents[items] / 1000)
        logit = logit + people.taste(users, items, drifted)
        logit = logit + chosen.trend * triangle(times + people.phase[items], chosen.trend_period)
        logit = logit + chosen.evening * triangle(times - 8 * HOUR, DAY)
        logit = logit + np.array(chosen.device)[devices]
        logit = logit - chosen.position_decay * np.minimum(positions - 1, _DEEPEST)
        logit = logit + chosen.appetite * np.minimum(clicks, chosen.most_appetite)
        logit = logit - chosen.fatigue * np.minimum(impressions, chosen.most_fatigue)
        return logistic(logit)
