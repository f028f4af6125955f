"""The log as a stream: records in order of arrival, a slice of sessions at a time.

What has not arrived when a slice ends waits as one row of numbers, so memory is bounded by a slice
and by what is under way. No record depends on where slices end.
"""

from collections.abc import Iterator

import numpy as np

from data_contracts.clock import HOUR, MINUTE, SECOND
from data_contracts.world.behaviour import Behaviour
from data_contracts.world.draws import Draws, Purpose
from data_contracts.world.parameters import Parameters
from data_contracts.world.population import Population
from data_contracts.world.visits import Pages, Visits

KINDS: tuple[str, ...] = ("impression", "click", "cart", "purchase")
ORIGINAL, DUPLICATE, CONFLICT, MALFORMED = range(4)
"""What a record is to the event whose id it bears."""

RECORD = np.dtype(
    [("arrived", "i8"), ("page", "i8"), ("position", "i4"), ("kind", "i1"), ("copy", "i1"),
     ("time", "i8"), ("user", "i8"), ("item", "i8"), ("device", "i1"), ("delay", "i8"),
     ("p", "f8"), ("clicks", "i4"), ("impressions", "i4"), ("clicked", "?")]
)  # fmt: skip
"""One record of the log with its truth. `delay`: µs after the event that led to it; `p`, `clicks`
and `impressions` (the history that p acts on) and `clicked` are those of its impression."""

SLICE = 1000
"""Sessions that are worked on at a time."""

_CLICK, _CART, _PURCHASE = 1, 2, 3
_TRANSIT = 50_000, 3 * SECOND
_LATE = MINUTE, 6 * HOUR
_AGAIN = 2 * SECOND, 10 * MINUTE
_DELAYS = {
    _CLICK: (SECOND, 19 * MINUTE, 4),
    _CART: (3 * SECOND, 25 * MINUTE, 3),
    _PURCHASE: (20 * SECOND, 24 * HOUR, 3),
}


def records(parameters: Parameters, slice_sessions: int = SLICE) -> Iterator[np.ndarray]:
    """RECORD[…] blocks, `parameters.events` rows in total, in order of arrival."""
    behaviour = Behaviour(Population(parameters))
    visits = Visits(behaviour.population)
    ahead, waiting = visits.pages(0, 0), np.empty(0, RECORD)
    left, session = parameters.events, 0
    while left:
        coming = Pages.joined([ahead, visits.pages(session, session + slice_sessions)])
        session += slice_sessions
        until = visits.begin(session)
        now = coming.time < until
        ahead = coming.take(~now)
        happened = history(behaviour, visits, coming.take(now))
        waiting = np.concatenate([waiting, sent(behaviour.population.draws, parameters, happened)])
        arrived = waiting["arrived"] < until
        block, waiting = waiting[arrived], waiting[~arrived]
        order = [block[name] for name in ("copy", "kind", "position", "page", "arrived")]
        block = block[np.lexsort(order)][:left]
        left -= len(block)
        yield block
        behaviour.clicks.forget(until)
        behaviour.impressions.forget(until)


def history(behaviour: Behaviour, visits: Visits, pages: Pages) -> np.ndarray:
    """RECORD[impressions of `pages`]: what is shown and whether it is clicked, pages of a user
    one after the other."""
    order = np.lexsort((pages.number, pages.time, pages.user))
    pages = pages.take(order)
    starts = np.flatnonzero(np.diff(pages.user, prepend=-1))
    turn = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    slots = behaviour.population.parameters.slots
    found = np.zeros((len(order), slots), RECORD)
    items = visits.shown(pages)
    for i in range(int(turn.max(initial=-1)) + 1):
        rows = np.flatnonzero(turn == i)
        found[rows] = shown(behaviour, pages.take(rows), items[rows])
    return found.reshape(-1)


def shown(behaviour: Behaviour, pages: Pages, items: np.ndarray) -> np.ndarray:
    """RECORD[n, slots] of pages that show `items` int64[n, slots]; they enter the history."""
    found = np.zeros(items.shape, RECORD)
    wide = (len(pages.number), 1)
    positions = np.arange(1, len(items.T) + 1)
    user, time = pages.user.reshape(wide), pages.time.reshape(wide)
    clicks = behaviour.clicks.count(pages.user, pages.time).reshape(wide)
    impressions = behaviour.impressions.count(pages.user, pages.time).reshape(wide)
    device = pages.device.reshape(wide)
    p = behaviour.p_true(user, items, positions, device, time, clicks, impressions)
    draws, number = behaviour.population.draws, pages.number.reshape(wide)
    clicked = draws.uniform(Purpose.CLICK, number, items) < p
    columns: dict[str, np.ndarray] = {
        "page": number, "position": positions, "time": time, "user": user, "item": items,
        "device": device, "p": p, "clicks": clicks, "impressions": impressions, "clicked": clicked,
    }  # fmt: skip
    for name, column in columns.items():
        found[name] = column
    hits = found[clicked]
    behaviour.impressions.add(found["user"].ravel(), found["time"].ravel())
    behaviour.clicks.add(hits["user"], hits["time"] + _delay(draws, _CLICK, hits))
    return found


def funnel(draws: Draws, chosen: Parameters, impressions: np.ndarray) -> list[np.ndarray]:
    """RECORD[…] of clicks, carts and purchases that follow from `impressions`."""
    clicks = _following(draws, _CLICK, impressions[impressions["clicked"]])
    inside = _draw(draws, Purpose.CART, clicks) < chosen.cart
    carts = _following(draws, _CART, clicks[inside])
    bought = _draw(draws, Purpose.PURCHASE, carts) < chosen.purchase
    return [clicks, carts, _following(draws, _PURCHASE, carts[bought])]


def sent(draws: Draws, chosen: Parameters, impressions: np.ndarray) -> np.ndarray:
    """RECORD[…]: `impressions`, all that follows, their copies and corruptions, with arrivals."""
    events = np.concatenate([impressions, *funnel(draws, chosen, impressions)])
    transit = _span(_draw(draws, Purpose.TRANSIT, events), *_TRANSIT, 2)
    late = _draw(draws, Purpose.LATE, events)
    hours = _span(np.minimum(late / max(chosen.late, 2.0**-53), 1.0), *_LATE, 3)
    events["arrived"] = events["time"] + np.where(late < chosen.late, hours, transit)
    fate = _draw(draws, Purpose.COPY, events)
    twice = events[fate < chosen.duplicates + chosen.conflicts]
    fate = fate[fate < chosen.duplicates + chosen.conflicts]
    twice["copy"] = np.where(fate < chosen.duplicates, DUPLICATE, CONFLICT)
    twice["arrived"] += _span(_draw(draws, Purpose.COPY_TRANSIT, twice), *_AGAIN, 2)
    whole = events[events["kind"] == 0]
    broken = whole[_draw(draws, Purpose.MALFORMED, whole) < chosen.malformed]
    broken["copy"] = MALFORMED
    return np.concatenate([events, twice, broken])


def _following(draws: Draws, kind: int, causes: np.ndarray) -> np.ndarray:
    found = causes.copy()
    found["kind"] = kind
    found["delay"] = _delay(draws, kind, causes)
    found["time"] += found["delay"]
    return found


def _delay(draws: Draws, kind: int, causes: np.ndarray) -> np.ndarray:
    purposes = {_CLICK: Purpose.CLICK_DELAY, _CART: Purpose.CART_DELAY}
    purpose = purposes.get(kind, Purpose.PURCHASE_DELAY)
    return _span(draws.uniform(purpose, causes["page"], causes["item"]), *_DELAYS[kind])


def _span(uniform: np.ndarray, least: int, spread: int, power: int) -> np.ndarray:
    """int64: `least + spread x uniform^power` µs."""
    share = uniform
    for _ in range(power - 1):
        share = share * uniform
    return least + (share * spread).astype(np.int64)


def _draw(draws: Draws, purpose: Purpose, rows: np.ndarray) -> np.ndarray:
    return draws.uniform(purpose, rows["page"], rows["item"], rows["kind"])
