"""RabbitMQ's exchanges, queues and bindings, and who may use them, as data.

The services declare them when they connect, and RabbitMQ's definitions for an installation
(`definitions`) are made from the same lists. What travels through them is `messages`.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from shared.labels import label_value

WATCHER = "watcher"
SCHEDULER = "scheduler"
JANITOR = "janitor"
POD_MANAGER = "pod-manager"

SERVICES = (WATCHER, SCHEDULER, JANITOR, POD_MANAGER)

WRITES: dict[str, tuple[str, ...]] = {
    WATCHER: (SCHEDULER, JANITOR, POD_MANAGER),
    SCHEDULER: (WATCHER, SCHEDULER, POD_MANAGER),
    JANITOR: (WATCHER, JANITOR, POD_MANAGER),
    POD_MANAGER: (WATCHER, SCHEDULER, POD_MANAGER),
}
"""To whose queues each service writes. To its own: a replica that asks whether it is the active one."""

DEAD = "phjob.dead"
"""Exchange and queue of what nobody could handle."""
DEAD_LIMIT = 10_000
"""Messages in `phjob.dead`; past that the oldest are dropped, so that it can neither fill the disk nor
refuse one, for which its service would wait."""
DEAD_ARGUMENTS: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-max-length": DEAD_LIMIT,
    "x-max-length-bytes": 64 * 2**20,
    "x-overflow": "drop-head",
    # To look into it is a delivery: RabbitMQ 4 would drop a message at the twentieth.
    "x-delivery-limit": 1_000_000_000,
}

DELIVERY_LIMIT = 20
"""How often a message is delivered before it goes to `phjob.dead`; each crash of a consumer is one."""
QUEUE_LIMIT = 250_000
"""Messages in a queue that nobody reads; past that RabbitMQ refuses more.

A refused message is a gap in its stream, and whoever reads the queue asks for a snapshot when he comes to
it. Greater than the largest snapshot, which has to fit in; small enough to be read through in a minute.
"""
QUEUE_BYTES = 128 * 2**20
"""The same in bytes: several messages may travel as one (`bus`)."""


@dataclass(frozen=True)
class Queue:
    """A quorum queue of one service and shard, fed by that service's exchange."""

    name: str
    exchange: str
    arguments: dict[str, Any] = field(default_factory=dict)


def queue_of(service: str, shard: int = 0) -> str:
    """The queue that a service's shard reads. The watcher has no shards."""
    return service if service == WATCHER else f"{service}.{shard}"


def exchange_of(queue: str) -> str:
    """The direct exchange through which a queue is written; the routing key is its name."""
    return f"phjob.{queue.partition('.')[0]}"


def shard_of(group_label: str, shards: int) -> int:
    """The shard of a group, by its label value: pods carry nothing else of it."""
    return zlib.crc32(group_label.encode()) % shards


def shard_of_group(group: str, shards: int) -> int:
    """The shard of a group, by its name."""
    return shard_of(label_value(group), shards)


def queues(shards: int) -> Iterator[Queue]:
    """Every queue of an installation with that many shards."""
    arguments = {
        "x-queue-type": "quorum",
        "x-single-active-consumer": True,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD,
        "x-dead-letter-strategy": "at-least-once",
        "x-max-length": QUEUE_LIMIT,
        "x-max-length-bytes": QUEUE_BYTES,
        "x-overflow": "reject-publish",
    }
    names = [WATCHER]
    for service in SERVICES[1:]:
        names += [queue_of(service, shard) for shard in range(shards)]
    for name in names:
        yield Queue(name, exchange_of(name), dict(arguments))
