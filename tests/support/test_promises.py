"""The promises, on histories built by hand: each check has to find its violation.

Without these tests, a check that never finds anything would be unnoticed.
"""

import itertools
from datetime import UTC, datetime
from typing import Any

from tests.support import promises
from tests.support.history import WatchEvent

from phjob_core.labels import label_value

GROUP = "phusers"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class HistoryBuilder:
    """A builder of a history, revision by revision."""

    def __init__(self) -> None:
        self.events: list[WatchEvent] = []
        self._revisions = itertools.count(1)
        self._created: dict[str, int] = {}

    def job(
        self,
        name: str,
        phase: str,
        *,
        user: str = "bob",
        gpus: int = 2,
        fence: str = "1",
        pod: str = "",
        second: int = 0,
        requeued: int = 0,
        retried: int = 0,
    ) -> None:
        """Append a revision of a job.

        It names the pod of its own name, unless `pod` names another.
        """
        stamp = f"2026-01-01T00:00:{second:02d}Z"
        metadata = {"name": name, "uid": f"job-{name}", "creationTimestamp": stamp}
        spec = {"groupName": GROUP, "userName": user}
        resources = {"nvidia.com/gpu": str(gpus), "cpu": "500m"}
        pod_uid = f"pod-{pod or name}"
        status = {
            "phase": phase,
            "fence": fence,
            "podUID": pod_uid,
            "resources": resources,
            "requeued": requeued,
            "retried": retried,
        }
        self._append("PhJob", {"metadata": metadata, "spec": spec, "status": status})

    def pod(
        self,
        name: str,
        phase: str,
        *,
        user: str = "bob",
        gpus: int = 2,
        fence: str = "1",
        gone: bool = False,
        deleting: bool = False,
        gated: bool = False,
    ) -> None:
        """Append a revision of a job's pod. `x/2` is the second pod of job x."""
        job = name.partition("/")[0]
        metadata = {
            "name": job,
            "uid": f"pod-{name}",
            "labels": {"primehub.io/group": label_value(GROUP), "primehub.io/user": label_value(user)},
            "annotations": {"primehub.io/fence": fence},
            "ownerReferences": [{"kind": "PhJob", "uid": f"job-{job}", "controller": True}],
        }
        if deleting:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        container = {"resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
        spec: dict[str, Any] = {"containers": [container], "nodeName": "node-1"}
        if gated:
            spec = {"containers": [container], "schedulingGates": [{"name": "primehub.io/admitted"}]}
        self._append(
            "Pod",
            {"metadata": metadata, "spec": spec, "status": {"phase": phase}},
            gone=gone,
        )

    def _append(self, kind: str, item: dict[str, Any], *, gone: bool = False) -> None:
        self.events.append(WatchEvent(next(self._revisions), kind, gone, item, NOW))


def gpu_violations(history: HistoryBuilder, limit: int) -> list[str]:
    """Return the violations of a group quota of this many GPUs."""
    return promises.quota_violations(history.events, GROUP, group_quota={"gpu": limit})


def test_a_correct_history_has_no_violations() -> None:
    """A job goes from Pending to Succeeded, with a requeue on the way."""
    history = HistoryBuilder()
    for phase in ("Pending", "Preparing", "Pending", "Preparing", "Running", "Succeeded", "Succeeded"):
        history.job("a", phase)
    assert not promises.state_diagram_violations(history.events)
    assert not promises.order_violations(history.events, GROUP)


def test_a_transition_that_is_not_in_the_state_diagram_is_found() -> None:
    """It skips a phase, goes back, or follows the end."""
    for before, after in (("Pending", "Running"), ("Running", "Pending"), ("Failed", "Preparing")):
        history = HistoryBuilder()
        for phase in ("Pending", "Preparing", before, after):
            history.job("a", phase)
        assert promises.state_diagram_violations(history.events)


def test_only_a_counted_retry_leads_back_from_running() -> None:
    """Each one, and no later return (spec.md, L17)."""
    history = HistoryBuilder()
    for phase, retried in (("Pending", 0), ("Preparing", 0), ("Running", 0), ("Pending", 1)):
        history.job("a", phase, retried=retried)
    assert not promises.state_diagram_violations(history.events)
    for phase in ("Preparing", "Running", "Pending"):
        history.job("a", phase, retried=1)
    assert promises.state_diagram_violations(history.events)


def test_a_command_may_run_once_more_for_each_retry() -> None:
    """A further start is found."""
    history = HistoryBuilder()
    for number in (1, 2):
        history.pod(f"a/{number}", "Running")
        history.pod(f"a/{number}", "Failed")
        history.job("a", "Pending", retried=1)
    assert not promises.single_pod_violations(history.events)
    history.pod("a/3", "Running")
    assert promises.single_pod_violations(history.events)


def test_a_job_that_is_first_seen_admitted_is_found() -> None:
    """Every job begins Pending."""
    history = HistoryBuilder()
    history.job("a", "Preparing")
    assert promises.state_diagram_violations(history.events)


def test_two_live_pods_of_a_job_are_found() -> None:
    """A second pod after the first is allowed, if the first never started."""
    history = HistoryBuilder()
    history.pod("a/1", "Pending")
    history.pod("a/1", "Pending", gone=True)
    history.pod("a/2", "Running")
    history.pod("a/2", "Succeeded")
    assert not promises.single_pod_violations(history.events)
    history = HistoryBuilder()
    history.pod("a/1", "Pending")
    history.pod("a/2", "Pending")
    assert promises.single_pod_violations(history.events)


def test_a_command_that_runs_twice_is_found() -> None:
    """Even if the first pod is gone by then."""
    history = HistoryBuilder()
    history.pod("a/1", "Running")
    history.pod("a/1", "Running", gone=True)
    history.pod("a/2", "Running")
    assert promises.single_pod_violations(history.events)


def test_a_container_that_starts_while_its_pod_is_deleted_has_run() -> None:
    """Whatever the phase at its end, because the command may have had effects."""
    for end in ("Failed", "Succeeded"):
        history = HistoryBuilder()
        for phase in ("Running", end):
            history.pod("a/1", phase, deleting=True)
        history.pod("a/1", end, gone=True)
        history.pod("a/2", "Running")
        assert promises.single_pod_violations(history.events)


def test_a_job_that_overtakes_another_is_found() -> None:
    """The second job of a group is Preparing before the first."""
    history = HistoryBuilder()
    for name in ("z", "a"):
        history.job(name, "Pending")
    for name in ("z", "a"):
        history.job(name, "Preparing")
    assert not promises.order_violations(history.events, GROUP)
    history = HistoryBuilder()
    for name in ("z", "a"):
        history.job(name, "Pending")
    for name in ("a", "z"):
        history.job(name, "Preparing")
    assert promises.order_violations(history.events, GROUP)


def test_a_job_whose_pod_could_not_be_created_may_be_overtaken() -> None:
    """It is requeued (spec.md, Q10). After its first admission, its place no longer counts here."""
    history = HistoryBuilder()
    for name, requeued in (("a", 0), ("b", 0), ("a", 1)):
        history.job(name, "Pending", requeued=requeued)
    for name, requeued in (("b", 0), ("a", 1)):
        history.job(name, "Preparing", requeued=requeued)
    assert not promises.order_violations(history.events, GROUP)
    history = HistoryBuilder()
    for name in ("a", "b"):
        history.job(name, "Pending")
    for name in ("b", "a"):
        history.job(name, "Preparing")
    history.job("a", "Pending", requeued=1)
    assert promises.order_violations(history.events, GROUP)


def test_the_creation_time_counts_more_than_the_revision() -> None:
    """The clocks of API servers may differ (spec.md, Q1)."""
    history = HistoryBuilder()
    history.job("late", "Pending", second=1)
    history.job("early", "Pending", second=0)
    assert promises.creation_order(history.events, GROUP) == ["early", "late"]


def test_an_admitted_job_counts_once_with_and_without_its_pod() -> None:
    """It counts before its pod exists. Afterwards only the pod counts."""
    history = HistoryBuilder()
    history.job("a", "Pending")
    assert promises.peak_usage(history.events, GROUP, "gpu") == 0
    history.job("a", "Preparing")
    assert promises.peak_usage(history.events, GROUP, "gpu") == 2
    history.pod("a", "Pending")
    history.job("a", "Running")
    history.pod("a", "Running")
    assert promises.peak_usage(history.events, GROUP, "gpu") == 2
    assert gpu_violations(history, 1)
    assert not gpu_violations(history, 2)


def test_a_pod_counts_until_it_is_finished_whatever_the_phase_of_its_job() -> None:
    """The next job may be admitted once the pod has ended, and not before."""
    for ends_first, found in ((True, False), (False, True)):
        history = HistoryBuilder()
        history.job("a", "Preparing")
        history.pod("a", "Running")
        if ends_first:
            history.pod("a", "Succeeded")
        history.job("b", "Preparing")
        assert bool(gpu_violations(history, 2)) is found


def test_a_cancelled_jobs_pod_counts_until_it_is_gone() -> None:
    """Its container may still be stopping."""
    history = HistoryBuilder()
    history.job("a", "Preparing")
    history.pod("a", "Running")
    history.job("a", "Cancelled")
    history.job("b", "Preparing")
    assert gpu_violations(history, 2)


def test_a_pod_of_an_earlier_admission_frees_no_quota_of_the_next() -> None:
    """A job that is admitted again counts, although a finished pod of it was observed."""
    history = HistoryBuilder()
    history.job("a", "Preparing", fence="1", pod="a/1")
    history.pod("a/1", "Failed", fence="1")
    assert promises.peak_usage(history.events[1:], GROUP, "gpu") == 0
    history.job("a", "Preparing", fence="2", pod="a/2")
    history.job("b", "Preparing", fence="3")
    assert gpu_violations(history, 2)


def test_a_gated_pod_that_no_job_names_does_not_count() -> None:
    """It cannot start."""
    history = HistoryBuilder()
    history.pod("a", "Pending", gated=True)
    assert promises.peak_usage(history.events, GROUP, "gpu") == 0
    history.job("a", "Preparing")
    assert promises.peak_usage(history.events, GROUP, "gpu") == 2


def test_the_usage_of_each_user_is_measured_separately() -> None:
    """A user may exceed the user quota while the group is within its own."""
    history = HistoryBuilder()
    history.job("a", "Preparing", user="bob")
    history.job("b", "Preparing", user="lin")
    assert not promises.quota_violations(history.events, GROUP, user_quota={"gpu": 2}, group_quota={"gpu": 4})
    history.job("c", "Preparing", user="lin", gpus=1)
    assert promises.quota_violations(history.events, GROUP, user_quota={"gpu": 2}, group_quota={"gpu": 8})


def test_quantities_are_compared_as_amounts() -> None:
    """500m of CPU is half of 1."""
    history = HistoryBuilder()
    for name in ("a", "b"):
        history.job(name, "Preparing")
    assert not promises.quota_violations(history.events, GROUP, group_quota={"cpu": "1"})
    assert promises.quota_violations(history.events, GROUP, group_quota={"cpu": "999m"})
