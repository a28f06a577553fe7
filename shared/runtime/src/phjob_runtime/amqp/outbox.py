"""The outbox: the messages to all queues that RabbitMQ has not confirmed yet, in the order of sending. Pure.

A message waits as an object, and is encoded when it is published. A snapshot is sent in one piece, so 100,000
facts may wait. The watcher has them in memory anyway, but not their bodies.
"""

from collections import defaultdict, deque
from collections.abc import Callable

from phjob_core.stream import Envelope
from phjob_runtime.amqp import batching
from phjob_runtime.amqp.batching import Batch, Outgoing


class Outbox:
    """The messages of one connection that wait to be published, or are published and not confirmed."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, deque[Outgoing]] = defaultdict(deque)
        """The messages that are not published yet, by queue."""
        self._in_flight: defaultdict[str, dict[int, None]] = defaultdict(dict)
        """The position of the first message of each batch that is not confirmed, in order, by queue."""
        self._busy: set[str] = set()
        """The queues with a batch of the watcher in flight. The next batch to them waits."""
        self._sent = 0
        self._confirmed = 0
        self._callbacks: deque[tuple[int, Callable[[], None]]] = deque()

    def __len__(self) -> int:
        """Return the number of messages that are not confirmed."""
        return self._sent - self._confirmed

    def waiting(self, queue: str) -> int:
        """Return the number of messages to the queue that are not published yet."""
        return len(self._waiting[queue])

    def add(self, queue: str, envelope: Envelope) -> None:
        """Append a message."""
        self._sent += 1
        self._waiting[queue].append(Outgoing(self._sent, envelope))

    def queues(self) -> list[str]:
        """Return all queues that messages were sent to."""
        return list(self._waiting)

    def has_next(self, queue: str) -> bool:
        """Return whether a batch can be published to the queue now."""
        return bool(self._waiting[queue]) and queue not in self._busy

    def take(self, queue: str) -> Batch:
        """Remove the messages that are published next to the queue, as one. They are in flight then."""
        waiting = self._waiting[queue]
        if batching.is_batched(waiting):
            self._busy.add(queue)
        batch = batching.take_batch(waiting)
        self._in_flight[queue][batch.position] = None
        return batch

    def end(self, queue: str) -> None:
        """Let the next batch to the queue be published, because this one is no longer in flight."""
        self._busy.discard(queue)

    def confirm(self, queue: str, batch: Batch) -> None:
        """Remove a batch that RabbitMQ has confirmed. Calls back whoever waits for nothing more."""
        del self._in_flight[queue][batch.position]
        self._confirmed += batch.messages
        lowest = self._lowest_position() if self._callbacks else 0
        while self._callbacks and self._callbacks[0][0] < lowest:
            self._callbacks.popleft()[1]()

    def when_confirmed(self, done: Callable[[], None]) -> None:
        """Call `done` once everything sent up to now is confirmed."""
        if len(self):
            self._callbacks.append((self._sent, done))
        else:
            done()

    def _lowest_position(self) -> int:
        """Return the position of the oldest message that is not confirmed."""
        in_flight = (next(iter(positions)) for positions in self._in_flight.values() if positions)
        waiting = (messages[0].position for messages in self._waiting.values() if messages)
        return min((*in_flight, *waiting), default=self._sent + 1)
