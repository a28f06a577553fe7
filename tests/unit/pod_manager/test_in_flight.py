import asyncio

from phjob_pod_manager.in_flight import InFlight


async def test_it_is_drained_when_every_operation_has_ended() -> None:
    """A fence waits for that."""
    in_flight = InFlight()
    in_flight.begin()
    in_flight.begin()
    drained = asyncio.ensure_future(in_flight.drained())
    in_flight.end()
    await asyncio.sleep(0)
    assert not drained.done()
    assert in_flight
    in_flight.end()
    await drained
    assert not in_flight


async def test_nothing_in_flight_needs_no_wait() -> None:
    """It is drained from the beginning, and again after each end."""
    in_flight = InFlight()
    await in_flight.drained()
    in_flight.begin()
    in_flight.end()
    await in_flight.drained()
