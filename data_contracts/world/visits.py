"""When users come: sessions by the hour of day, their pages, and what a page shows."""

from dataclasses import dataclass, fields

import numpy as np

from data_contracts.clock import DAY, HOUR, MINUTE, SECOND
from data_contracts.world.draws import Purpose
from data_contracts.world.population import DEVICES, Population

_HOURLY = np.array([4, 2, 2, 2, 2, 3, 5, 8, 10, 11, 11, 11, 12, 11, 11, 11, 12, 13, 15, 18, 19, 17,
                    12, 8])  # fmt: skip
_UPTO = np.concatenate([[0], np.cumsum(_HOURLY)])
_AT_HOME = 0.85
_SHORTEST_GAP, _LONGER = 10 * SECOND, 4 * MINUTE


@dataclass(frozen=True)
class Pages:
    """Pages as arrays of one length n."""

    number: np.ndarray
    """int64[n]: identity of the page, `session x most_pages + page of the session`."""
    user: np.ndarray
    """int64[n]."""
    device: np.ndarray
    """int64[n]: index into `DEVICES`."""
    time: np.ndarray
    """int64[n]: when it is requested, µs."""

    def take(self, rows: np.ndarray) -> "Pages":
        """The pages at `rows` (indices or mask)."""
        return Pages(*(getattr(self, column.name)[rows] for column in fields(self)))

    @staticmethod
    def joined(parts: "list[Pages]") -> "Pages":
        """One after the other."""
        columns = [column.name for column in fields(Pages)]
        return Pages(*(np.concatenate([getattr(p, name) for p in parts]) for name in columns))


class Visits:
    """Sessions, numbered in order of time; each stands in a stratum of its own."""

    def __init__(self, population: Population) -> None:
        self._people = population
        self._draws = population.draws
        self._chosen = population.parameters

    def begin(self, session: int) -> int:
        """µs before which no session from number `session` on begins."""
        return int(self._time(np.array([session]), np.zeros(1))[0])

    def pages(self, first: int, last: int) -> Pages:
        """The pages of the sessions `first` to `last` (exclusive), by session."""
        draws, most = self._draws, self._chosen.most_pages
        session = np.arange(first, last)
        start = self._time(session, draws.uniform(Purpose.START, session))
        user = self._people.visitor(draws.uniform(Purpose.USER, session))
        away = draws.uniform(Purpose.DEVICE, session) >= _AT_HOME
        other = draws.below(len(DEVICES), Purpose.OTHER_DEVICE, session)
        device = np.where(away, other, self._people.home_device[user])
        length = draws.uniform(Purpose.PAGES, session)
        count = 1 + (length * length * most).astype(np.int64)
        number = session[:, None] * most + np.arange(most)
        slow = draws.uniform(Purpose.GAP, number)
        gap = _SHORTEST_GAP + (slow * slow * _LONGER).astype(np.int64)
        gap[:, 0] = 0
        time = start[:, None] + np.cumsum(gap, axis=1)
        seen = np.arange(most) < count[:, None]
        row, _ = np.nonzero(seen)
        return Pages(number[seen], user[row], device[row], time[seen])

    def shown(self, pages: Pages) -> np.ndarray:
        """int64[n, slots]: the items of each page from the first slot on.

        The logging policy: every ordered choice of different items is equally likely.
        """
        slots, items = self._chosen.slots, self._chosen.items
        chosen = np.empty((len(pages.number), 0), np.int64)
        for slot in range(slots):
            item = self._draws.below(items - slot, Purpose.SHOWN, pages.number, slot)
            for taken in np.sort(chosen, axis=1).T:
                item = item + (item >= taken)
            chosen = np.concatenate([chosen, item[:, None]], axis=1)
        return chosen

    def _time(self, session: np.ndarray, within: np.ndarray) -> np.ndarray:
        """µs at which sessions begin that stand `within` [0, 1) their stratum."""
        daily = self._chosen.sessions_per_day
        place = (session % daily + within) / daily * int(_UPTO[-1])
        hour = np.searchsorted(_UPTO, place, side="right") - 1
        part = (place - _UPTO[hour]) / _HOURLY[hour]
        day = self._chosen.origin + session // daily * DAY
        return day + hour * HOUR + (part * HOUR).astype(np.int64)
