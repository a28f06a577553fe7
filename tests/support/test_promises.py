"""The judges of histories, on histories told by hand: a judge that never finds anything proves nothing."""

import itertools
from datetime import UTC, datetime
from typing import Any

from tests.support import promises
from tests.support.history import Event

from shared.labels import label_value

GROUP = "phusers"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Story:
    """Tells a history, one revision after the other."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._revisions = itertools.count(1)
        self._created: dict[str, int] = {}

    def job(
        self, name: str, phase: str, *, user: str = "bob", gpus: int = 2, fence: str = "1", second: int = 0
    ) -> None:
        """A job is in a phase now."""
        stamp = f"2026-01-01T00:00:{second:02d}Z"
        metadata = {"name": name, "uid": f"job-{name}", "creationTimestamp": stamp}
        spec = {"groupName": GROUP, "userName": user}
        status = {"phase": phase, "fence": fence, "resources": {"nvidia.com/gpu": str(gpus), "cpu": "500m"}}
        self._tell("PhJob", {"metadata": metadata, "spec": spec, "status": status})

    def pod(  # what a pod is made of
        self,
        name: str,
        phase: str,
        *,
        user: str = "bob",
        gpus: int = 2,
        fence: str = "1",
        gone: bool = False,
        deleting: bool = False,
    ) -> None:
        """A job's pod is in a phase now; `x/2` is the second pod of job x."""
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
        self._tell(
            "Pod",
            {"metadata": metadata, "spec": {"containers": [container]}, "status": {"phase": phase}},
            gone=gone,
        )

    def _tell(self, kind: str, item: dict[str, Any], *, gone: bool = False) -> None:
        self.events.append(Event(next(self._revisions), kind, gone, item, NOW))


def over(story: Story, limit: int) -> list[str]:
    """Whether the story goes over a group's quota of so many GPUs."""
    return promises.over_quota(story.events, GROUP, group_quota={"gpu": limit})


def test_a_good_life_breaks_no_promise() -> None:
    """From Pending to Succeeded, and requeued on the way."""
    story = Story()
    for phase in ("Pending", "Preparing", "Pending", "Preparing", "Running", "Succeeded", "Succeeded"):
        story.job("a", phase)
    assert not promises.against_state_diagram(story.events)
    assert not promises.out_of_order(story.events, GROUP)


def test_a_move_that_the_state_diagram_does_not_know_is_found() -> None:
    """Skipped, backwards, or after the end."""
    for before, after in (("Pending", "Running"), ("Running", "Pending"), ("Failed", "Preparing")):
        story = Story()
        for phase in ("Pending", "Preparing", before, after):
            story.job("a", phase)
        assert promises.against_state_diagram(story.events)


def test_a_job_that_is_first_seen_admitted_is_found() -> None:
    """Every job begins Pending."""
    story = Story()
    story.job("a", "Preparing")
    assert promises.against_state_diagram(story.events)


def test_two_live_pods_of_a_job_are_found() -> None:
    """One after the other is allowed, as long as the first never started."""
    story = Story()
    story.pod("a/1", "Pending")
    story.pod("a/1", "Pending", gone=True)
    story.pod("a/2", "Running")
    story.pod("a/2", "Succeeded")
    assert not promises.against_one_pod_a_job(story.events)
    story = Story()
    story.pod("a/1", "Pending")
    story.pod("a/2", "Pending")
    assert promises.against_one_pod_a_job(story.events)


def test_a_command_that_runs_twice_is_found() -> None:
    """Also when the first pod was gone by then."""
    story = Story()
    story.pod("a/1", "Running")
    story.pod("a/1", "Running", gone=True)
    story.pod("a/2", "Running")
    assert promises.against_one_pod_a_job(story.events)


def test_a_container_that_starts_while_its_pod_is_deleted_counts_if_it_succeeds() -> None:
    """Else the deletion has ended it."""
    found = {}
    for end in ("Failed", "Succeeded"):
        story = Story()
        for phase in ("Running", end):
            story.pod("a/1", phase, deleting=True)
        story.pod("a/1", end, gone=True)
        story.pod("a/2", "Running")
        found[end] = bool(promises.against_one_pod_a_job(story.events))
    assert found == {"Failed": False, "Succeeded": True}


def test_a_job_that_overtakes_is_found() -> None:
    """The second of a group is Preparing before the first."""
    story = Story()
    for name in ("z", "a"):
        story.job(name, "Pending")
    for name in ("z", "a"):
        story.job(name, "Preparing")
    assert not promises.out_of_order(story.events, GROUP)
    story = Story()
    for name in ("z", "a"):
        story.job(name, "Pending")
    for name in ("a", "z"):
        story.job(name, "Preparing")
    assert promises.out_of_order(story.events, GROUP)


def test_the_time_of_creation_comes_before_the_revision() -> None:
    """As the contract has it; clocks of API servers may differ."""
    story = Story()
    story.job("late", "Pending", second=1)
    story.job("early", "Pending", second=0)
    assert promises.created(story.events, GROUP) == ["early", "late"]


def test_an_admission_counts_before_its_pod_is_there_and_once_with_it() -> None:
    """Job and pod are never counted both."""
    story = Story()
    story.job("a", "Pending")
    assert promises.most_used(story.events, GROUP, "gpu") == 0
    story.job("a", "Preparing")
    assert promises.most_used(story.events, GROUP, "gpu") == 2
    story.pod("a", "Pending")
    story.job("a", "Running")
    story.pod("a", "Running")
    assert promises.most_used(story.events, GROUP, "gpu") == 2
    assert over(story, 1)
    assert not over(story, 2)


def test_a_pod_counts_until_it_is_finished_whatever_its_job_says() -> None:
    """The next job may come when the pod has ended, not before."""
    for ends_first, found in ((True, False), (False, True)):
        story = Story()
        story.job("a", "Preparing")
        story.pod("a", "Running")
        if ends_first:
            story.pod("a", "Succeeded")
        story.job("b", "Preparing")
        assert bool(over(story, 2)) is found


def test_a_cancelled_jobs_pod_counts_until_it_is_gone() -> None:
    """It may still be ending."""
    story = Story()
    story.job("a", "Preparing")
    story.pod("a", "Running")
    story.job("a", "Cancelled")
    story.job("b", "Preparing")
    assert over(story, 2)


def test_a_pod_of_an_earlier_admission_frees_nothing_of_the_next() -> None:
    """A job that is admitted anew counts, though a finished pod of it was seen."""
    story = Story()
    story.job("a", "Preparing", fence="1")
    story.pod("a/1", "Failed", fence="1")
    assert promises.most_used(story.events[1:], GROUP, "gpu") == 0
    story.job("a", "Preparing", fence="2")
    story.job("b", "Preparing", fence="3")
    assert over(story, 2)


def test_one_users_usage_is_measured_apart_from_the_others() -> None:
    """Over a user's quota, though within the group's."""
    story = Story()
    story.job("a", "Preparing", user="bob")
    story.job("b", "Preparing", user="lin")
    assert not promises.over_quota(story.events, GROUP, user_quota={"gpu": 2}, group_quota={"gpu": 4})
    story.job("c", "Preparing", user="lin", gpus=1)
    assert promises.over_quota(story.events, GROUP, user_quota={"gpu": 2}, group_quota={"gpu": 8})


def test_quantities_are_compared_as_amounts() -> None:
    """500m of CPU is half of 1."""
    story = Story()
    for name in ("a", "b"):
        story.job(name, "Preparing")
    assert not promises.over_quota(story.events, GROUP, group_quota={"cpu": "1"})
    assert promises.over_quota(story.events, GROUP, group_quota={"cpu": "999m"})
