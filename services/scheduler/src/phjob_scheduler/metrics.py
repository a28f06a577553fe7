"""The metrics of the scheduler: counters of events, and the state of each group when it is scraped."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from phjob_core.api import Phase
from phjob_core.quantities import base_units
from phjob_core.scheduling.engine import SchedulingEngine
from phjob_core.scheduling.usage import JOB, Usage, usages
from phjob_runtime.metrics import GroupLabels

_SUBMITTED = Counter("phjob_submitted", "Jobs first observed after the session's snapshot", ["group"])
_LABELS = GroupLabels(_SUBMITTED)
_COMMANDS = Counter("phjob_scheduler_commands", "Commands sent to pod-manager, by kind", ["kind"])
_UNOBSERVED = Counter(
    "phjob_scheduler_admissions_unobserved",
    "Admissions not observed within 60 s, nor an earlier one of their group",
)
_FOREIGN_ADMISSIONS = Gauge(
    "phjob_scheduler_foreign_admissions", "Jobs observed as admitted that this session has not admitted"
)
_UNFINISHED = (Phase.PENDING, Phase.PREPARING, Phase.RUNNING)


def job_submitted(group: str) -> None:
    """Count a job that is observed for the first time."""
    _SUBMITTED.labels(_LABELS.of(group)).inc()


def groups_changed(groups: Iterable[str]) -> None:
    """Set the group names of all PhGroups, because they may have changed."""
    _LABELS.set_groups(groups)


def command_sent(kind: str) -> None:
    """Count a command sent to pod-manager."""
    _COMMANDS.labels(kind).inc()


def admissions_unobserved(count: int) -> None:
    """Count admissions that were not observed in time."""
    _UNOBSERVED.inc(count)


def observe(engine: Callable[[], SchedulingEngine]) -> None:
    """Read the gauges from the engine of the current session at each scrape."""
    _FOREIGN_ADMISSIONS.set_function(lambda: engine().foreign_admissions)
    _GROUPS.engine = engine


class _Groups(Collector):
    """The metrics of each group, computed at each scrape."""

    def __init__(self) -> None:
        self.engine: Callable[[], SchedulingEngine] | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of all groups, for prometheus_client."""
        groups = usages(self.engine()) if self.engine else []
        yield _counts("phjob_jobs", "Unfinished jobs, by phase", "phase", _phases, groups)
        yield _counts("phjob_pending_jobs", "Pending jobs, by reason", "reason", _reasons, groups)
        yield _counts(
            "phjob_waiting_pods",
            "Gated pods that wait, such as notebooks, by reason",
            "reason",
            _pod_reasons,
            groups,
        )
        yield _timestamps(
            "phjob_oldest_pending_timestamp_seconds",
            "Unix time of the creation of the oldest pending job",
            {usage.group: usage.oldest for usage in groups},
        )
        yield _timestamps(
            "phjob_head_timestamp_seconds",
            "Unix time of the creation of the job that blocks its group's queue",
            {usage.group: usage.head for usage in groups},
        )
        yield _timestamps(
            "phjob_admissible_timestamp_seconds",
            "Unix time of the oldest command to admit a job that is not observed as admitted",
            {usage.group: usage.admissible_since for usage in groups},
        )
        yield _timestamps(
            "phjob_oldest_preparing_timestamp_seconds",
            "Unix time of the admission of the job that has been Preparing for longest",
            {usage.group: usage.preparing_since for usage in groups},
        )
        yield from _quotas(groups)


def _phases(usage: Usage) -> dict[str, int]:
    return {phase: usage.phases[phase] for phase in _UNFINISHED}


def _reasons(usage: Usage) -> dict[str, int]:
    return {str(reason): count for reason, count in usage.pending.items()}


def _pod_reasons(usage: Usage) -> dict[str, int]:
    return {str(reason): count for reason, count in usage.waiting_pods.items()}


def _counts(
    name: str, help_text: str, label: str, counts_of: Callable[[Usage], dict[str, int]], groups: list[Usage]
) -> Metric:
    """Return a gauge with the counts of each group, by the label."""
    family = GaugeMetricFamily(name, help_text, labels=["group", label])
    for usage in groups:
        for value, count in counts_of(usage).items():
            family.add_metric([usage.group, value], count)
    return family


def _timestamps(name: str, help_text: str, times: dict[str, datetime | None]) -> Metric:
    """Return a gauge with the Unix time of each group that has one."""
    family = GaugeMetricFamily(name, f"{help_text}; absent if there is none", labels=["group"])
    for group, time in times.items():
        if time:
            family.add_metric([group], time.timestamp())
    return family


def _quotas(groups: list[Usage]) -> Iterator[Metric]:
    """Yield the quotas of all groups and of their users, and their usage."""
    limit = GaugeMetricFamily(
        "phjob_quota_limit",
        "Quota of a group, or of each of its users, in cores, bytes or devices; absent if unlimited",
        labels=["group", "scope", "resource"],
    )
    used = GaugeMetricFamily(
        "phjob_quota_used",
        "Usage of a group in cores, bytes or devices, by holder: job, jupyter, reserved (no pod observed)",
        labels=["group", "kind", "resource"],
    )
    for usage in groups:
        for scope, quota in (("group", usage.group_quota), ("user", usage.user_quota)):
            for resource, amount in quota.items():
                limit.add_metric([usage.group, scope, resource], base_units(resource, amount))
        # Without the zeros, the usage of a quota that no pod uses would be absent.
        zeros = dict.fromkeys((*usage.group_quota, *usage.user_quota), 0)
        for kind, amounts in {JOB: {}, **usage.used}.items():
            for resource, amount in {**zeros, **amounts}.items():
                used.add_metric([usage.group, kind, resource], base_units(resource, amount))
    yield limit
    yield used


_GROUPS = _Groups()
REGISTRY.register(_GROUPS)
