"""Faults of RabbitMQ, and of the connections to it."""

import asyncio

from tests.simulation.faults.context import FaultContext

from phjob_runtime.amqp.topology import POD_MANAGER


class BrokerFaults:
    """The faults of the broker, each as a coroutine that also ends it."""

    def __init__(self, context: FaultContext) -> None:
        self._context = context

    async def cut(self) -> None:
        """Cut a process from the broker, which it notices at once."""
        slot = self._context.random.choice(self._context.installation.slots)
        self._context.note(f"cut {slot} from the broker")
        self._context.installation.cut(slot, notice=self._context.random.uniform(0, 0.2))

    async def cut_without_notice(self) -> None:
        """Cut a process from the broker, which it notices only after a while."""
        slot = self._context.random.choice(self._context.installation.slots)
        seconds = self._context.random.uniform(1, 20)
        self._context.note(f"cut {slot} from the broker, noticed after {seconds:.1f} s")
        self._context.installation.cut(slot, notice=seconds)
        await asyncio.sleep(seconds)

    async def restart(self) -> None:
        """Stop the broker, and start it again with its data."""
        await self._shut_down(wiped=False)

    async def wipe(self) -> None:
        """Stop the broker, and start it again without its data."""
        if not self._is_pod_manager_disrupted():  # design/consistency.md, Known limits.
            await self._shut_down(wiped=True)

    async def _shut_down(self, *, wiped: bool) -> None:
        if self._context.broker.conditions.down:
            return
        seconds = self._context.random.uniform(0.2, 12)
        self._context.note(f"broker {'wiped' if wiped else 'restarted'}, back after {seconds:.1f} s")
        self._context.broker.conditions.down = True
        if wiped:
            self._context.api.deliver_pending()  # design/consistency.md, Known limits.
        self._context.broker.restart(wiped=wiped)
        await asyncio.sleep(seconds)
        self._context.broker.conditions.down = False

    async def purge(self) -> None:
        """Lose the messages of one queue."""
        queue = self._context.random.choice(list(self._context.broker.queues))
        if queue.startswith(POD_MANAGER):
            if self._is_pod_manager_disrupted():
                return  # design/consistency.md, Known limits.
            self._context.api.deliver_pending()
        self._context.note(f"purge {queue}")
        self._context.broker.purge(queue)

    async def block(self) -> None:
        """Accept no messages for a while."""
        if self._context.broker.conditions.blocked:
            return
        seconds = self._context.random.uniform(0.5, 12)
        self._context.note(f"broker accepts no messages for {seconds:.1f} s")
        self._context.broker.conditions.blocked = True
        await asyncio.sleep(seconds)
        self._context.broker.unblock()

    async def lose_messages(self) -> None:
        """Lose some of the watcher's messages for a while."""
        self._context.note("broker loses messages of the watcher")
        self._context.broker.conditions.loss = 0.1
        await asyncio.sleep(self._context.random.uniform(1, 10))
        self._context.broker.conditions.loss = 0

    async def duplicate_messages(self) -> None:
        """Duplicate some messages for a while."""
        self._context.note("broker duplicates messages")
        self._context.broker.conditions.duplication = 0.2
        await asyncio.sleep(self._context.random.uniform(1, 15))
        self._context.broker.conditions.duplication = 0

    async def switch_consumer(self) -> None:
        """Make another replica the active consumer, although no connection breaks.

        RabbitMQ does so after a partition between its nodes.
        """
        queue = self._context.random.choice(list(self._context.broker.queues.values()))
        if self._context.broker.switch_consumer(queue):
            self._context.note(f"another replica becomes the active consumer of {queue.name}")

    def _is_pod_manager_disrupted(self) -> bool:
        return any(slot.service == POD_MANAGER for slot in self._context.disrupted)
