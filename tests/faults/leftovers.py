"""Everything that services and broker must have released after the last job: messages, quota and others."""

from tests.faults.breakable_stack import BreakableStack
from tests.faults.workload import NOTEBOOK_GPUS, Workload
from tests.support.cluster import SERVICES
from tests.support.metrics import samples
from tests.support.waiting import eventually

from phjob_runtime.amqp import topology


def wait_until_nothing_is_left(target: BreakableStack, replicas: int, workload: Workload) -> None:
    """Wait until no message, queue, connection, counted job or charge is left."""

    def leftovers() -> list[str]:
        return _leftovers(target, replicas, workload)

    eventually(lambda: not leftovers(), "nothing is left", diagnostics=leftovers)


def _leftovers(target: BreakableStack, replicas: int, workload: Workload) -> list[str]:
    """Return a description of each leftover, and the reasons of the dead letters."""
    expected_queues = {queue.name for queue in topology.queues(1)} | {topology.DEAD_LETTER_QUEUE}
    found = []
    management = target.management()
    queues = {queue["name"]: queue for queue in management.queues()}
    if set(queues) != expected_queues:
        found.append(f"queues {set(queues) ^ expected_queues}")
    found += [f"{q['messages']} messages in {name}" for name, q in queues.items() if q.get("messages")]
    if queues.get(topology.DEAD_LETTER_QUEUE, {}).get("messages"):
        letters = management.peek(topology.DEAD_LETTER_QUEUE)
        found += sorted({letter["properties"]["headers"]["reason"] for letter in letters})
    connections = len(management.connections())
    if connections > replicas * len(SERVICES):
        found.append(f"{connections} connections")
    groups = {group.name for group in workload.groups}
    for name in ("scheduler", "scheduler-2")[:replicas]:
        if target.component(name).pid is None:
            continue
        jobs = samples(target.site.state, name, "phjob_jobs")
        found += [f"{name}: {count} jobs {key}" for key, count in jobs.items() if count and key[0] in groups]
        for (group, kind, resource), amount in samples(target.site.state, name, "phjob_quota_used").items():
            expected = NOTEBOOK_GPUS if kind == "jupyter" and resource == "nvidia.com/gpu" else 0
            if group in groups and resource == "nvidia.com/gpu" and amount != expected:
                found.append(f"{name}: {amount} {resource} of {group} by {kind}")
    return found
