"""Everything that can be chosen about a generated world."""

from dataclasses import dataclass

from data_contracts.clock import DAY, parse_time

MOST_USERS = 2**19
LONGEST = 2**63 // MOST_USERS
"""Users, and µs from the origin: together they fit one int64."""


@dataclass(frozen=True)
class Parameters:
    """A world; two with equal parameters give the same bytes."""

    events: int
    """Records of the log in total, malformed ones and copies included."""
    seed: int = 0
    """From which everything random derives."""
    start: str = "2024-01-01"
    """First day, UTC."""
    days: float = 7.7
    """How long the log is, about: it ends with its last record."""
    events_per_user: int = 80
    """Mean records of a user; with `events` it makes the number of users."""
    items: int = 300
    """Items of the catalogue; the logging policy shows each equally often."""
    categories: int = 8
    """Categories of items."""
    segments: int = 6
    """Segments of users."""
    slots: int = 5
    """Impressions of a page."""
    most_pages: int = 8
    """The most pages of a session."""
    expected_ctr: float = 0.15
    """Paces the log; the click model does not use it."""

    base: float = -1.4
    """Logit of a click on the first slot, all else being average."""
    quality: float = 0.9
    """Deviation of an item's own logit."""
    price_weight: float = 0.15
    """Logit lost for each 10.00 of price."""
    segment_taste: float = 0.8
    """Deviation of a segment's taste for a category."""
    own_taste: float = 0.15
    """Deviation of a user's own taste for a category from that of the segment."""
    trend: float = 0.3
    """Amplitude of an item's hidden trend, a triangle wave with a phase of its own."""
    trend_period: int = 3 * DAY
    """Period of the hidden trend in µs."""
    evening: float = 0.3
    """Logit gained at 20:00 and lost at 08:00 UTC, a triangle in between."""
    device: tuple[float, float, float] = (0.1, -0.1, 0.0)
    """Logit of desktop, mobile and tablet."""
    position_decay: float = 0.4
    """Logit lost with each slot down to the eleventh."""
    appetite: float = 0.7
    """Logit gained with each click of the user in the last hour, at most `most_appetite` clicks."""
    most_appetite: int = 3
    """Clicks that count for `appetite`."""
    fatigue: float = 0.05
    """Logit lost with each impression of the last ten minutes, at most `most_fatigue` of them."""
    most_fatigue: int = 20
    """Impressions that count for `fatigue`."""

    drift_day: int = 3
    """Day (0 is the first) from which base rate and some tastes are others."""
    drift_base: float = -0.3
    """Logit added to all from `drift_day` on."""
    drift_categories: int = 1
    """So many categories, the first ones: from `drift_day` on tastes for them are reversed."""

    late: float = 0.02
    """Share of records that arrive between a minute and six hours late."""
    duplicates: float = 0.01
    """Share of records that are sent a second time."""
    conflicts: float = 0.001
    """Share of records whose id comes a second time with another content."""
    malformed: float = 0.004
    """Share of impressions beside which a record stands that breaks the contract."""
    cart: float = 0.3
    """Share of clicks that put the item into the cart."""
    purchase: float = 0.4
    """Share of carts that are bought."""

    def __post_init__(self) -> None:
        if self.events < 1:
            raise ValueError(f"events {self.events}: a world needs at least 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed {self.seed}: choose one from 0 to 2^63 - 1")
        if self.users > MOST_USERS:
            raise ValueError(
                f"events {self.events}: {self.users} users, at most {MOST_USERS}: "
                f"choose at most {MOST_USERS * self.events_per_user} events"
            )
        if not 0 < self.days <= LONGEST / DAY - 1:
            raise ValueError(f"days {self.days}: choose up to {LONGEST // DAY - 1}")
        if not 1 <= self.slots <= self.items:
            raise ValueError(f"slots {self.slots}: choose from 1 to the {self.items} items")
        if self.drift_day < 0:
            raise ValueError(f"drift_day {self.drift_day}: the first day is 0")
        for name in ("late", "duplicates", "conflicts", "malformed", "cart", "purchase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)}: a share lies between 0 and 1")

    @property
    def users(self) -> int:
        """Users who visit."""
        return max(50, self.events // self.events_per_user)

    @property
    def origin(self) -> int:
        """The first day's beginning in µs."""
        return parse_time(f"{self.start}T00:00:00Z")

    @property
    def drift_at(self) -> int:
        """When the drift sets in, µs."""
        return self.origin + self.drift_day * DAY

    @property
    def sessions_per_day(self) -> int:
        """Sessions that make about `events` records in `days`."""
        pages = 0.5 + self.most_pages / 3
        funnel = 1 + self.expected_ctr * (1 + self.cart * (1 + self.purchase))
        records = (
            pages * self.slots * (funnel * (1 + self.duplicates + self.conflicts) + self.malformed)
        )
        return max(1, round(self.events / self.days / records))
