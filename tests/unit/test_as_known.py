"""Features from what was known at q: the kernel against the oracle over what was visible."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.as_known import as_known
from data_contracts.oracle import oracle_features
from tests.engines import as_events
from tests.strategies import FADING, FULL, KEYS, events, groups, times


@given(st.data())
def test_the_kernel_gives_the_oracles_features_of_the_events_known_by_then(
    data: st.DataObject,
) -> None:
    group = data.draw(groups() | st.sampled_from((FULL, FADING)))
    log = data.draw(events())
    known = [e["event_time"] + data.draw(st.sampled_from((0, 1, 5 * 10**6, 10**11))) for e in log]
    asked = [(key, data.draw(times())) for key in (*KEYS, *KEYS)]
    found = as_known(
        group,
        np.array([KEYS.index(e["user_id"]) for e in log], np.int64),
        as_events(group, log),
        np.array(known, np.int64),
        np.array([KEYS.index(key) for key, _ in asked], np.int64),
        np.array([q for _, q in asked], np.int64),
    )
    for (key, q), values in zip(asked, found.tolist(), strict=True):
        visible = [e for e, at in zip(log, known, strict=True) if at <= q]
        assert oracle_features(group, visible, key, q) == values
