"""RabbitMQ's exchanges, queues and bindings, and which service uses which, as data. Pure.

The services declare them when they connect. `definitions` writes RabbitMQ's definitions and permissions
from the same lists.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from phjob_core import messages
from phjob_core.kinds import KIND_OF
from phjob_core.labels import label_value
from phjob_core.messages import Message

WATCHER = "watcher"
SCHEDULER = "scheduler"
JANITOR = "janitor"
POD_MANAGER = "pod-manager"

SERVICES = (WATCHER, SCHEDULER, JANITOR, POD_MANAGER)
OPERATOR = "operator"
"""The person who handles dead letters: the fifth of RabbitMQ's users."""

RECIPIENTS: dict[str, tuple[str, ...]] = {
    WATCHER: (SCHEDULER, JANITOR, POD_MANAGER),
    SCHEDULER: (WATCHER, SCHEDULER, POD_MANAGER),
    JANITOR: (WATCHER, JANITOR, POD_MANAGER),
    POD_MANAGER: (WATCHER, SCHEDULER, POD_MANAGER),
}
"""The services to whose queues each service publishes.

A service publishes to its own queue to find out whether it is the active replica.
"""

SENDS: dict[str, frozenset[type[Message]]] = {
    WATCHER: frozenset(
        {
            *KIND_OF, messages.SnapshotBegin, messages.SnapshotEnd, messages.CatalogSynced,
            messages.HistoryPage, messages.Heartbeat,
        }
    ),
    SCHEDULER: frozenset(
        {
            messages.Admit, messages.Reject, messages.SetPendingReason, messages.ReportGroupStatus,
            messages.AdmitPod, messages.ExplainPod,
            messages.Fence, messages.SnapshotEnd, messages.CatalogRequest, messages.Heartbeat,
        }
    ),
    JANITOR: frozenset(
        {
            messages.Requeue, messages.TimeOut, messages.FailNodeLost, messages.Reclaim, messages.DeleteJob,
            messages.SnapshotRequest, messages.HistoryRequest, messages.Heartbeat,
        }
    ),
    POD_MANAGER: frozenset({messages.SnapshotRequest, messages.SessionRequest, messages.Heartbeat}),
}  # fmt: skip
"""The kinds of messages that each service sends. A receiver accepts no other from it (spec.md, E6)."""

REQUESTS_FOR: dict[str, tuple[str, ...]] = {
    SCHEDULER: (SCHEDULER,),
    JANITOR: (JANITOR,),
    POD_MANAGER: (POD_MANAGER, SCHEDULER),
}
"""The services to whose queues each service may request an answer of the watcher.

pod-manager requests the snapshot for a scheduler's session, once all earlier writes have ended.
"""

DEAD_LETTER_QUEUE = "phjob.dead"
"""The name of the dead-letter queue, and of its exchange."""
MAX_DEAD_LETTERS = 10_000
"""The number of messages in the dead-letter queue. RabbitMQ drops the oldest to make room.

So the queue cannot fill the disk. If RabbitMQ rejected new ones instead, their services would wait.
"""
DEAD_LETTER_ARGUMENTS: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-max-length": MAX_DEAD_LETTERS,
    "x-max-length-bytes": 64 * 2**20,
    "x-overflow": "drop-head",
    # Inspecting the queue counts as a delivery. With RabbitMQ 4's default limit, the 20th inspection would
    # drop the message.
    "x-delivery-limit": 1_000_000_000,
}

DELIVERY_LIMIT = 20
"""The number of deliveries after which RabbitMQ dead-letters a message. Each crash of a consumer is one."""
MAX_QUEUE_MESSAGES = 250_000
"""The number of messages in a queue without a consumer. RabbitMQ rejects more.

A rejected message leaves a gap in its stream, so the consumer will request a snapshot. The limit is greater
than the largest snapshot, and small enough for a consumer to read a full queue within a minute.
"""
MAX_QUEUE_BYTES = 128 * 2**20
"""The same limit in bytes, because one message of RabbitMQ may be a batch."""


@dataclass(frozen=True)
class Queue:
    """A quorum queue of one service and shard, bound to that service's exchange."""

    name: str
    exchange: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shard:
    """A fixed part of all groups."""

    index: int
    """Its number, from 0."""
    count: int
    """The number of all shards."""


def queue_of(service: str, shard: int = 0) -> str:
    """Return the queue that a service's shard consumes. The watcher has no shards."""
    return service if service == WATCHER else f"{service}.{shard}"


def service_of(queue: str) -> str:
    """Return the service that consumes a queue."""
    return queue.partition(".")[0]


def exchange_of(queue: str) -> str:
    """Return the direct exchange of a queue. The routing key is the queue's name."""
    return f"phjob.{service_of(queue)}"


def shard_of(group_label: str, shards: int) -> int:
    """Return the index of a group's shard, by its label value, which pods have, too."""
    return zlib.crc32(group_label.encode()) % shards


def shard_of_group(group: str, shards: int) -> int:
    """Return the index of a group's shard, by its name."""
    return shard_of(label_value(group), shards)


def queues(shards: int) -> Iterator[Queue]:
    """Yield every queue of an installation, except the dead-letter queue."""
    arguments = {
        "x-queue-type": "quorum",
        "x-single-active-consumer": True,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD_LETTER_QUEUE,
        "x-dead-letter-strategy": "at-least-once",
        "x-max-length": MAX_QUEUE_MESSAGES,
        "x-max-length-bytes": MAX_QUEUE_BYTES,
        "x-overflow": "reject-publish",
    }
    names = [WATCHER]
    for service in SERVICES[1:]:
        names += [queue_of(service, shard) for shard in range(shards)]
    for name in names:
        yield Queue(name, exchange_of(name), dict(arguments))
