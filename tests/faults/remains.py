"""What the services and the broker hold when nothing is left to do (I6)."""

from tests.faults.plant import Plant
from tests.faults.workload import HELD_BY_JUPYTER, Workload
from tests.support.hub import SERVICES
from tests.support.metrics import samples
from tests.support.waiting import eventually

from shared import topology


def nothing_is_held(plant: Plant, replicas: int, work: Workload) -> None:
    """Wait until all of it is let go: messages, queues, connections, counted jobs and quota."""

    def held() -> list[str]:
        return _held(plant, replicas, work)

    eventually(lambda: not held(), "nothing is held", instead=held)


def _held(plant: Plant, replicas: int, work: Workload) -> list[str]:
    ours = {queue.name for queue in topology.queues(1)} | {topology.DEAD}
    found = []
    queues = {queue["name"]: queue for queue in plant.management().queues()}
    if set(queues) != ours:
        found.append(f"queues {set(queues) ^ ours}")
    found += [f"{q['messages']} messages in {name}" for name, q in queues.items() if q.get("messages")]
    connections = len(plant.management().connections())
    if connections > replicas * len(SERVICES):
        found.append(f"{connections} connections")
    groups = {scene.group for scene in work.scenes}
    for name in ("scheduler", "scheduler-2")[:replicas]:
        if plant.part(name).pid is None:
            continue
        jobs = samples(plant.site.state, name, "phjob_jobs")
        found += [f"{name}: {count} jobs {key}" for key, count in jobs.items() if count and key[0] in groups]
        for (group, kind, resource), amount in samples(plant.site.state, name, "phjob_quota_used").items():
            expected = HELD_BY_JUPYTER if kind == "jupyter" and resource == "nvidia.com/gpu" else 0
            if group in groups and resource == "nvidia.com/gpu" and amount != expected:
                found.append(f"{name}: {amount} {resource} of {group} by {kind}")
    return found
