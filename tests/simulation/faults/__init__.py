"""The faults of a run: which of them occur, when, and for how long. All of it is drawn from the seed.

Each fault ends after a while. At the end of the period, dead processes are started, paused ones resumed, and
nothing is slow.
"""

import asyncio
from collections.abc import Awaitable, Callable

from tests.simulation.broker import MAX_DELAY_SECONDS
from tests.simulation.faults.api_server import ApiFaults
from tests.simulation.faults.broker import BrokerFaults
from tests.simulation.faults.context import LOW_LATENCY_SECONDS, FaultContext
from tests.simulation.faults.processes import ProcessFaults
from tests.simulation.faults.races import RaceFaults

FAULT_PERIOD_SECONDS = 60.0
"""The time from the beginning in which faults begin."""

Fault = Callable[[], Awaitable[None]]


class Adversary:
    """The source of all faults of one run."""

    def __init__(self, context: FaultContext, only: frozenset[str] | None = None) -> None:
        """`only`: exactly the faults with these names occur, instead of drawn ones."""
        self._context = context
        processes, races = ProcessFaults(context), RaceFaults(context)
        broker, api_server = BrokerFaults(context), ApiFaults(context)
        faults: list[Fault] = [
            processes.kill, processes.kill, processes.pause, processes.pause_long, processes.terminate,
            processes.kill_while_writing,
            races.disrupt_writer, races.disrupt_writer,
            races.disrupt_command, races.disrupt_command,
            races.settle_during_admission, races.open_session_during_admission,
            broker.cut, broker.cut_without_notice, broker.restart, broker.wipe, broker.purge,
            broker.block, broker.lose_messages, broker.duplicate_messages, broker.switch_consumer,
            api_server.shut_down, api_server.expire_watches, api_server.expire_watches_after_pod_end,
            api_server.fail_requests, api_server.fail_requests,
            api_server.slow_down, api_server.delay_watches, api_server.delay_watches_of_one_kind,
            api_server.fail_pod_creations,
            api_server.delete_job_before_snapshot, api_server.delay_creation, api_server.delay_creation,
            api_server.answer_as_starting_server, api_server.answer_as_starting_server,
            api_server.answer_as_intermediary, api_server.delay_watches_of_one_process,
        ]  # fmt: skip
        """The faults of the usual world. One that is listed twice is chosen twice as often."""
        rare: list[Fault] = [races.delay_gate_removal]
        """Faults that are too rare to be drawn. They have a world of their own."""
        chosen = faults if only is None else [*faults, *rare]
        self._faults = [fault for fault in chosen if only is None or fault.__name__ in only]
        self._all = only is None

    async def run(self) -> None:
        """Cause faults until the period is over, then wait until all of them have ended."""
        context = self._context
        random, api, loop = context.random, context.api, asyncio.get_running_loop()
        interval = random.choice((1.0, 3.0, 10.0))
        chosen = random.sample(self._faults, random.randint(1, 8)) if self._all else self._faults
        trigger = random.choice(("", "phjobs", "pods"))
        running: list[asyncio.Task[None]] = []
        while chosen:
            await asyncio.sleep(random.expovariate(1 / interval))
            if trigger:
                await context.wait_for_change(trigger)
            if loop.time() > FAULT_PERIOD_SECONDS:
                break
            running.append(asyncio.ensure_future(random.choice(chosen)()))
        await asyncio.sleep(max(0.0, FAULT_PERIOD_SECONDS - loop.time()))
        await asyncio.gather(*running)
        api.latency = context.broker.conditions.latency = LOW_LATENCY_SECONDS
        end = loop.time()
        # Until then, senders still wait for answers that were slow or are lost.
        while any(sent_at <= end for sent_at in api.unanswered.values()):  # noqa: ASYNC110 - time is simulated
            await asyncio.sleep(0.1)
        await asyncio.sleep(MAX_DELAY_SECONDS)
        context.note("no more faults")
