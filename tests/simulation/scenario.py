"""The scenario of a run: its groups, the number of its jobs, and the third parties that interfere.

All of it is drawn from the seed.
"""

from dataclasses import dataclass, field, replace
from random import Random

USERS = ("ann", "bob", "lin")
GPU = "nvidia.com/gpu"
INSTANCE_TYPES = {f"gpu-{gpus}": gpus for gpus in (1, 2, 3)}
"""The GPUs of each instance type, by its name."""

DELETE_PODS, COLLECT_PODS, DRAIN, REMOVE_NODES = "delete pods", "collect pods", "drain nodes", "remove nodes"
LOSE_NODES, SLOW_NODES, LABELS = "lose nodes", "slow nodes", "edit labels"
QUOTAS, CATALOG, RECREATE = "edit quotas", "edit the catalog", "recreate the catalog"
NAMES, FINALIZERS, NOTEBOOKS = "reuse names", "hold records", "notebooks"
NEW_IMAGES = "make an image for a job"
ORPHANS = "delete jobs without their pods"
SIDECARS = "inject sidecars"
GATED_NOTEBOOKS = "notebooks that wait"
SUSPENSIONS = "suspend and resume jobs"
RETRIES = "permit retries"
"""Only in worlds of their own (`run.WORLDS`)."""
NODE_CLOCKS, SERVICE_CLOCKS = "wrong node clocks", "service clocks are set"

THIRD_PARTIES = (
    DELETE_PODS, COLLECT_PODS, DRAIN, REMOVE_NODES, LOSE_NODES, SLOW_NODES, LABELS,
    QUOTAS, CATALOG, RECREATE, NAMES, FINALIZERS, NOTEBOOKS, NODE_CLOCKS, SERVICE_CLOCKS, NEW_IMAGES,
)  # fmt: skip
"""The third parties that a run may have. `third_parties` and `users` have what they do."""
LATER_THIRD_PARTIES = (SUSPENSIONS, RETRIES)
"""Those that are drawn apart from the others, so that every seed without them is the same run as before."""
THIRD_PARTY_PROBABILITY = 0.2
"""The probability of each third party in a run."""


@dataclass(frozen=True)
class Group:
    """A group and its quotas."""

    name: str
    group_quota: dict[str, int]
    user_quota: dict[str, int] = field(default_factory=dict)
    notebook: int = 0
    """The GPUs of a Jupyter server that runs when the simulation begins."""
    max_pending_per_user: int = 0
    """The limit of pending jobs of each user; 0: none."""


@dataclass(frozen=True)
class Scenario:
    """The cluster and the users of one run."""

    groups: tuple[Group, ...]
    jobs: int
    stuck: float
    """The probability that a job's pod never starts."""
    third_parties: frozenset[str]
    deadline: int
    """jobSubmission.defaultActiveDeadlineSeconds; 0: none."""
    node_grace: int
    """jobSubmission.nodeLostGraceSeconds; 0: none."""
    draws: str = ""
    """The seed of further generators. More draws from that of the run would make each seed another run."""


def draw(random: Random, only: frozenset[str] | None = None) -> Scenario:
    """Draw a scenario.

    Its groups are one without user quotas, then maybe one with them, then maybe one that shares its pool with
    Jupyter. `only`: exactly these third parties interfere, instead of drawn ones.
    """
    groups = [
        Group("fifo", {"gpu": random.randint(3, 5)}),
        Group("users", {"gpu": random.randint(3, 6)}, {"gpu": 3}),
        Group("shared", {"gpu": 4}, notebook=random.randint(1, 2)),
    ]
    # A generator of its own: with more draws from `random`, every seed would be another run.
    drawn_limits = f"{groups[0].group_quota} {groups[1].group_quota} {groups[2].notebook}"
    limits = Random(drawn_limits)  # noqa: S311 - the same seed is the same run
    limited = [replace(group, max_pending_per_user=limits.choice((0, 1, 2))) for group in groups]
    chosen = tuple(limited[: random.randint(1, 3)])
    jobs, stuck = random.randint(4, 14), random.choice((0.1, 0.5))
    drawn = (
        frozenset(name for name in THIRD_PARTIES if random.random() < THIRD_PARTY_PROBABILITY)
        if only is None
        else only
    )
    deadline, grace = random.choice((60, 60, 0)), random.choice((0, 0, 10))
    draws = f"{drawn_limits} {jobs} {stuck} {sorted(drawn)} {deadline} {grace}"
    if only is None:
        later = Random(draws)  # noqa: S311 - the same seed is the same run
        drawn |= {name for name in LATER_THIRD_PARTIES if later.random() < THIRD_PARTY_PROBABILITY}
    return Scenario(chosen, jobs, stuck, drawn, deadline, grace, draws)
