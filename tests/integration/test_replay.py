"""The replay against the real application, over a network that loses, delays and refuses."""

import asyncio

from data_contracts.clock import HOUR, MINUTE
from serving.replay import ReplayResult, _Player, _steps
from tests.integration.asgi import Client
from tests.integration.test_client import Fault, Network, lost, says
from tests.integration.test_instance import impression
from tests.integration.world import NOW, World


def replayed(
    client: Client, world: World, *faults: Fault
) -> tuple[ReplayResult, Network, list[float]]:
    """What came of one request and its two events, over which network, and the pauses in it."""
    network, pauses = Network(client, *faults), list[float]()
    start = NOW // HOUR * HOUR + HOUR
    steps = _steps(world.use_case, [impression(i, start + i * MINUTE) for i in (0, 1)], HOUR)

    async def noted(seconds: float) -> None:
        pauses.append(seconds)

    player = _Player("http://test", world.operate, "clicks", transport=network, pause=noted)
    return asyncio.run(player.play(steps, None)), network, pauses


def test_what_was_not_answered_is_sent_again_after_as_long_as_the_server_asks(
    client: Client, world: World
) -> None:
    faults = (says(429, after="3"), lost, says(503, after="2"), says(408))
    found, network, pauses = replayed(
        client, world, *faults, lambda asked, answered: answered(asked), says(429, after="7")
    )
    assert (1, 0, None, 2) == (found.requests, found.errors, found.first_error, found.events)
    assert (7, [3, 0, 2, 0, 7]) == (network.sent, [int(pause) for pause in pauses])


def test_what_is_refused_for_long_or_again_and_again_is_counted_as_lost(
    client: Client, world: World
) -> None:
    found, network, pauses = replayed(client, world, says(429, after="86400"))
    assert (1, 2, [], 2) == (found.errors, found.events, pauses, network.sent)
    found, network, pauses = replayed(client, world, *[says(429, after="1")] * 5)
    assert (1, 2, 4, 6) == (found.errors, found.events, len(pauses), network.sent)
