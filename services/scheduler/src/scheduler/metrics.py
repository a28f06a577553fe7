"""The scheduler's own metrics: counters called by the name of what happened, and how each group stands."""

from collections.abc import Callable, Iterator
from datetime import datetime

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scheduler.admission import Admission
from scheduler.usage import JOB, Usage, usages
from shared.phjob import Phase
from shared.resources import base_units

_SUBMITTED = Counter("phjob_submitted", "Jobs seen for the first time since the session began", ["group"])
_ORDERS = Counter("phjob_scheduler_orders", "Orders given to pod-manager, by kind", ["kind"])
_UNSEEN = Counter("phjob_scheduler_admissions_unseen", "Admissions not seen to come true within a minute")
_UNEXPECTED = Gauge(
    "phjob_scheduler_admissions_unexpected",
    "Jobs seen Preparing that this session did not admit",
)
_UNFINISHED = (Phase.PENDING, Phase.PREPARING, Phase.RUNNING)


def submitted(group: str) -> None:
    """A new job came."""
    _SUBMITTED.labels(group).inc()


def ordered(kind: str) -> None:
    """An order was given."""
    _ORDERS.labels(kind).inc()


def unseen(count: int) -> None:
    """Admissions were ordered and not seen in time."""
    _UNSEEN.inc(count)


def observe(admission: Callable[[], Admission]) -> None:
    """Read these from the current session whenever they are scraped."""
    _UNEXPECTED.set_function(lambda: admission().unexpected)
    _GROUPS.admission = admission


class _Groups(Collector):
    """How each group stands, found out when it is scraped."""

    def __init__(self) -> None:
        self.admission: Callable[[], Admission] | None = None

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client."""
        groups = usages(self.admission()) if self.admission else []
        yield _counts("phjob_jobs", "Jobs that are not finished", "phase", _phases, groups)
        yield _counts("phjob_pending_jobs", "Jobs that wait, by why", "reason", _reasons, groups)
        yield _moments(
            "phjob_oldest_pending_timestamp_seconds",
            "When the job was created that waits longest",
            {usage.group: usage.oldest for usage in groups},
        )
        yield _moments(
            "phjob_head_timestamp_seconds",
            "When the job was created that its whole group waits behind",
            {usage.group: usage.head for usage in groups},
        )
        yield _moments(
            "phjob_admissible_timestamp_seconds",
            "Since when a job may go and is not seen to have gone",
            {usage.group: usage.admissible_since for usage in groups},
        )
        yield _moments(
            "phjob_oldest_preparing_timestamp_seconds",
            "When the job was admitted that is Preparing for longest",
            {usage.group: usage.preparing_since for usage in groups},
        )
        yield from _quotas(groups)


def _phases(usage: Usage) -> dict[str, int]:
    return {phase: usage.phases[phase] for phase in _UNFINISHED}


def _reasons(usage: Usage) -> dict[str, int]:
    return {str(reason): count for reason, count in usage.pending.items()}


def _counts(
    name: str, what: str, label: str, of: Callable[[Usage], dict[str, int]], groups: list[Usage]
) -> Metric:
    family = GaugeMetricFamily(name, what, labels=["group", label])
    for usage in groups:
        for value, count in of(usage).items():
            family.add_metric([usage.group, value], count)
    return family


def _moments(name: str, what: str, moments: dict[str, datetime | None]) -> Metric:
    family = GaugeMetricFamily(name, f"{what}; absent if there is none", labels=["group"])
    for group, moment in moments.items():
        if moment:
            family.add_metric([group], moment.timestamp())
    return family


def _quotas(groups: list[Usage]) -> Iterator[Metric]:
    limit = GaugeMetricFamily(
        "phjob_quota_limit",
        "Quota of a group, or of each of its users: cores, bytes, devices; absent: unlimited",
        labels=["group", "scope", "resource"],
    )
    used = GaugeMetricFamily(
        "phjob_quota_used",
        "What the scheduler counts in a group, by who holds it: job, jupyter, reserved (no pod seen yet)",
        labels=["group", "kind", "resource"],
    )
    for usage in groups:
        for scope, quota in (("group", usage.group_quota), ("user", usage.user_quota)):
            for resource, amount in quota.items():
                limit.add_metric([usage.group, scope, resource], base_units(resource, amount))
        nothing = dict.fromkeys(
            (*usage.group_quota, *usage.user_quota), 0
        )  # A quota that nobody uses is at 0.
        for kind, amounts in {JOB: {}, **usage.used}.items():
            for resource, amount in {**nothing, **amounts}.items():
                used.add_metric([usage.group, kind, resource], base_units(resource, amount))
    yield limit
    yield used


_GROUPS = _Groups()
REGISTRY.register(_GROUPS)
