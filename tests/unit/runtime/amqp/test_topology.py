from phjob_core.kinds import KIND_OF
from phjob_core.labels import label_value
from phjob_core.messages import MESSAGES, Admit
from phjob_runtime.amqp import topology


def test_every_shard_of_a_service_has_a_queue_of_its_own() -> None:
    """The watcher has no shards, so it has one queue."""
    assert [queue.name for queue in topology.queues(2)] == [
        "watcher",
        "scheduler.0", "scheduler.1",
        "janitor.0", "janitor.1",
        "pod-manager.0", "pod-manager.1",
    ]  # fmt: skip


def test_every_queue_of_a_service_is_bound_to_the_services_exchange() -> None:
    """RabbitMQ's permissions name exchanges, so one exchange is one recipient."""
    assert {queue.name: queue.exchange for queue in topology.queues(1)} == {
        "watcher": "phjob.watcher",
        "scheduler.0": "phjob.scheduler",
        "janitor.0": "phjob.janitor",
        "pod-manager.0": "phjob.pod-manager",
    }


def test_every_queue_has_one_active_consumer_and_rejects_what_does_not_fit() -> None:
    """The session protocol relies on both."""
    for queue in topology.queues(1):
        assert queue.arguments["x-single-active-consumer"] is True
        assert queue.arguments["x-overflow"] == "reject-publish"
        assert queue.arguments["x-dead-letter-exchange"] == topology.DEAD_LETTER_QUEUE


def test_each_service_publishes_to_the_watcher_or_is_the_watcher() -> None:
    """Every consumer requests its snapshots there."""
    for service in topology.SERVICES:
        assert (topology.WATCHER in topology.RECIPIENTS[service]) == (service != topology.WATCHER)


def test_every_kind_of_message_has_a_sender() -> None:
    """A kind without one would be dead-lettered wherever it is sent."""
    assert set(MESSAGES) == {kind for kinds in topology.SENDS.values() for kind in kinds}


def test_only_the_watcher_publishes_facts_and_only_the_scheduler_admits() -> None:
    """A receiver accepts nothing else, whoever has a service's login (spec.md, E6)."""
    assert [service for service, kinds in topology.SENDS.items() if kinds & set(KIND_OF)] == ["watcher"]
    assert [service for service, kinds in topology.SENDS.items() if Admit in kinds] == ["scheduler"]


def test_a_service_requests_answers_only_to_queues_that_the_watcher_writes_to() -> None:
    """And only pod-manager requests them for another service."""
    for service, answered in topology.REQUESTS_FOR.items():
        assert set(answered) <= set(topology.RECIPIENTS["watcher"])
        assert answered == (service,) or service == "pod-manager"


def test_a_job_and_its_pods_are_in_the_same_shard() -> None:
    """A job has its group's name, and a pod only the label value."""
    for group in ("phusers", "Group A", "a" * 80):
        assert topology.shard_of_group(group, 7) == topology.shard_of(label_value(group), 7)


def test_the_shard_of_a_group_never_changes() -> None:
    """Services of different releases must agree on it."""
    assert [topology.shard_of_group(group, 4) for group in ("phusers", "vision", "speech")] == [
        2, 1, 3,
    ]  # fmt: skip
