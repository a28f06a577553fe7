from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.fakes.facts import START, a_group, a_job, at

from phjob_core.api import Phase, Reason
from phjob_core.messages import FailNodeLost, GroupSeen, JobSeen, Reclaim, Requeue, TimeOut
from phjob_janitor.deadlines import Deadline, PhaseObservation, next_deadline
from phjob_runtime.settings import JobSubmission

SETTINGS = JobSubmission(
    preparingTimeoutSeconds=180, defaultActiveDeadlineSeconds=1000, defaultTTLSecondsAfterFinished=2000
)

LATER = at(10_000)


def deadline(
    job: JobSeen,
    group: GroupSeen | None,
    lost_since: datetime | None,
    settings: JobSubmission,
    observation: PhaseObservation | None = None,
    now: datetime = LATER,
) -> Deadline | None:
    """Return the deadline of a job that a snapshot reported long after all of its times."""
    observation = observation or PhaseObservation(LATER, is_entry=False)
    return next_deadline(job, group, lost_since, settings, observation, now)


def test_the_janitors_own_observation_of_a_phase_counts() -> None:
    """Other clocks may be wrong: a node's by an hour, in either direction (spec.md, L15)."""
    for wrong in (at(-3600), at(3600)):
        observation = PhaseObservation(at(2), is_entry=True)
        running = a_job(phase=Phase.RUNNING, preparing_time=START, start_time=wrong)
        due = deadline(running, a_group(default_active_deadline_seconds=30), None, SETTINGS, observation)
        assert due is not None
        assert due.at == at(32)
        preparing = a_job(phase=Phase.PREPARING, preparing_time=wrong, fence="s#1")
        due = deadline(preparing, None, None, SETTINGS, observation)
        assert due is not None
        assert due.at == at(182)


def test_a_container_can_neither_start_nor_end_before_its_admission() -> None:
    """A new janitor knows only the times in the status, and a node's clock may be wrong."""
    slow = a_job(phase=Phase.RUNNING, preparing_time=START, start_time=at(-3600))
    due = deadline(slow, a_group(default_active_deadline_seconds=30), None, SETTINGS)
    assert due is not None
    assert due.at == at(30)
    ended = a_job(phase=Phase.FAILED, preparing_time=START, start_time=at(-3600), finish_time=at(-3500))
    due = deadline(ended, None, None, SETTINGS)
    assert due is not None
    assert due.at == at(2000)


@pytest.mark.parametrize(
    ("phase", "seconds"), [(Phase.PREPARING, 180), (Phase.RUNNING, 1000), (Phase.SUCCEEDED, 2000)]
)
def test_a_job_whose_times_nobody_has_written_is_limited_from_its_observation(
    phase: Phase, seconds: int
) -> None:
    """PrimeHub wrote no `preparingTime`. Such a job would hold its resources forever (spec.md, E9)."""
    due = deadline(a_job(phase=phase), None, None, SETTINGS)
    assert due is not None
    assert due.at == LATER + timedelta(seconds=seconds)


def test_a_pending_job_has_no_deadline() -> None:
    """It may wait forever."""
    assert deadline(a_job(), None, None, SETTINGS) is None


def test_a_pod_that_does_not_start_in_time_is_requeued() -> None:
    """With the token of its admission, so that a later admission is not affected (spec.md, Q5)."""
    job = a_job(phase=Phase.PREPARING, preparing_time=START, fence="s#1")
    due = deadline(job, None, None, SETTINGS)
    assert due is not None
    assert due.at == at(180)
    assert due.command == Requeue(
        uid=job.uid,
        name=job.name,
        group=job.group,
        fence="s#1",
        message="the pod did not start within 180 s",
        message_if_pulling=(
            "its image was not pulled within 1800 s (jobSubmission.pullTimeoutSeconds): use a smaller image, "
            "pull it to the nodes ahead of time, or raise that value"
        ),
    )


def requeue_of(group: GroupSeen | None, now: datetime, settings: JobSubmission = SETTINGS) -> Requeue:
    """Return the command for a job that was admitted at START."""
    job = a_job(phase=Phase.PREPARING, preparing_time=START, fence="s#1")
    due = deadline(job, group, None, settings, now=now)
    assert due is not None
    assert isinstance(due.command, Requeue)
    return due.command


def test_a_pod_whose_image_is_still_being_pulled_is_spared_until_the_pull_timeout() -> None:
    """The janitor decides that by its own observation, so that no clock ends it early (spec.md, Q5)."""
    assert requeue_of(None, at(181)).spares_pulling
    assert requeue_of(None, at(1799)).spares_pulling
    assert not requeue_of(None, at(1800)).spares_pulling


@pytest.mark.parametrize(
    ("of_group", "seconds", "pull_seconds", "name"),
    [
        (None, 180, 1800, "jobSubmission.pullTimeoutSeconds"),
        (900, 900, 1800, "jobSubmission.pullTimeoutSeconds"),
        (3600, 3600, 3600, "preparingTimeoutSeconds of its group"),
    ],
)
def test_a_group_may_have_its_own_time_to_start(
    of_group: int | None, seconds: int, pull_seconds: int, name: str
) -> None:
    """A pull never has less time than any other start (spec.md, Q5)."""
    job = a_job(phase=Phase.PREPARING, preparing_time=START, fence="s#1")
    group = a_group(preparing_timeout_seconds=of_group)
    due = deadline(job, group, None, SETTINGS)
    assert due is not None
    assert due.at == at(seconds)
    command = requeue_of(group, at(pull_seconds - 1))
    assert command.spares_pulling
    assert command.message == f"the pod did not start within {seconds} s"
    assert command.message_if_pulling.startswith(
        f"its image was not pulled within {pull_seconds} s ({name}):"
    )
    assert not requeue_of(group, at(pull_seconds)).spares_pulling


def test_a_short_pull_timeout_shortens_no_other_time() -> None:
    """The longer of the two counts."""
    settings = JobSubmission(preparingTimeoutSeconds=60, pullTimeoutSeconds=10)
    command = requeue_of(None, at(60), settings)
    assert not command.spares_pulling
    assert "within 60 s (jobSubmission.preparingTimeoutSeconds)" in command.message_if_pulling


def test_a_time_in_the_future_counts_from_its_observation() -> None:
    """Another program wrote it, or a clock was ahead."""
    end = datetime.max.replace(tzinfo=UTC)
    for job in (
        a_job(phase=Phase.PREPARING, preparing_time=end, fence="s#1"),
        a_job(phase=Phase.RUNNING, start_time=end),
        a_job(phase=Phase.FAILED, finish_time=end),
    ):
        due = deadline(job, None, None, SETTINGS)
        assert due is not None
        assert LATER < due.at <= LATER + timedelta(seconds=2000)


@pytest.mark.parametrize(
    ("own", "group", "seconds"),
    [(10, 20, 10), (None, 20, 20), (None, None, 1000), (0, 20, None), (None, 0, None)],
)
def test_a_run_is_limited_by_the_job_otherwise_its_group_otherwise_the_settings(
    own: int | None, group: int | None, seconds: int | None
) -> None:
    """0 means unlimited (spec.md, L8)."""
    job = a_job(phase=Phase.RUNNING, start_time=START, active_deadline_seconds=own)
    due = deadline(job, a_group(default_active_deadline_seconds=group), None, SETTINGS)
    assert (due and due.at) == (seconds and at(seconds))
    assert due is None or isinstance(due.command, TimeOut)


@pytest.mark.parametrize(
    ("own", "of_group", "of_settings", "seconds", "text"),
    [
        (100, 0, 0, 100, "it ran longer than its deadline of 100 s"),
        (100, 60, 30, 30, "the cap of jobSubmission.maxActiveDeadlineSeconds"),
        (100, 30, 60, 30, "the cap of its group (maxActiveDeadlineSeconds)"),
        (0, 0, 30, 30, "the cap of jobSubmission.maxActiveDeadlineSeconds"),
        (None, 0, 30, 30, "the cap of jobSubmission.maxActiveDeadlineSeconds"),
        (30, 60, 30, 30, "it ran longer than its deadline of 30 s"),
    ],
)
def test_the_smallest_of_the_deadline_and_its_caps_counts_and_the_message_says_which(
    own: int | None, of_group: int, of_settings: int, seconds: int, text: str
) -> None:
    """A job that asks for no limit has that of the cap; a cap of 0 is none (spec.md, L8)."""
    settings = SETTINGS.model_copy(update={"max_active_deadline_seconds": of_settings})
    job = a_job(phase=Phase.RUNNING, start_time=START, active_deadline_seconds=own)
    due = deadline(job, a_group(max_active_deadline_seconds=of_group), None, settings)
    assert due is not None
    assert due.at == at(seconds)
    assert isinstance(due.command, TimeOut)
    assert due.command.message.startswith(f"it ran longer than its deadline of {seconds} s")
    assert due.command.message.endswith(text)


@pytest.mark.parametrize(
    ("own", "cap", "seconds", "message"),
    [
        (0, 60, 60, "its pod was deleted after 60 s, the cap of jobSubmission.maxTTLSecondsAfterFinished"),
        (None, 60, 60, "its pod was deleted after 60 s, the cap of jobSubmission.maxTTLSecondsAfterFinished"),
        (50, 60, 50, ""),
        (50, 0, 50, ""),
    ],
)
def test_the_smaller_of_the_ttl_and_its_cap_counts(
    own: int | None, cap: int, seconds: int, message: str
) -> None:
    """The message says so if it is the cap (spec.md, L10)."""
    settings = SETTINGS.model_copy(update={"max_ttl_seconds_after_finished": cap})
    job = a_job(phase=Phase.SUCCEEDED, finish_time=START, ttl_seconds_after_finished=own)
    due = deadline(job, None, None, settings)
    assert due is not None
    assert isinstance(due.command, Reclaim)
    assert (due.at, due.command.message) == (at(seconds), message)


@pytest.mark.parametrize(("own", "seconds"), [(5, 5), (None, 2000), (0, None)])
@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED])
def test_a_finished_jobs_pod_is_kept_for_its_ttl(phase: Phase, own: int | None, seconds: int | None) -> None:
    """0 means forever (spec.md, L10)."""
    job = a_job(phase=phase, finish_time=START, ttl_seconds_after_finished=own)
    due = deadline(job, None, None, SETTINGS)
    assert (due and due.at) == (seconds and at(seconds))
    assert due is None or isinstance(due.command, Reclaim)


@pytest.mark.parametrize("own", [60, None])
def test_a_command_names_the_spec_that_it_was_decided_on(own: int | None) -> None:
    """So that a later edit makes it invalid, and no other edit does (spec.md, L8)."""
    running = a_job(phase=Phase.RUNNING, start_time=START, active_deadline_seconds=own)
    run = deadline(running, None, None, SETTINGS)
    assert run is not None
    assert isinstance(run.command, TimeOut)
    assert run.command.decided_on == {"activeDeadlineSeconds": own}
    failed = a_job(phase=Phase.FAILED, finish_time=START, ttl_seconds_after_finished=own)
    end = deadline(failed, None, None, SETTINGS)
    assert end is not None
    assert isinstance(end.command, Reclaim)
    assert end.command.decided_on == {"ttlSecondsAfterFinished": own}


def a_lost_job(phase: Phase, **fields: Any) -> JobSeen:
    return a_job(phase=phase, reason=Reason.NODE_LOST, node="node-1", **fields)


def test_a_job_on_a_lost_node_waits_forever_by_default() -> None:
    """Its pod may still run, so it is not requeued (spec.md, L12)."""
    assert deadline(a_lost_job(Phase.PREPARING, preparing_time=START), None, at(10), SETTINGS) is None
    running = a_lost_job(Phase.RUNNING, start_time=START, active_deadline_seconds=0)
    assert deadline(running, None, at(10), SETTINGS) is None


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.RUNNING])
def test_a_job_on_a_lost_node_fails_after_the_grace_period(phase: Phase) -> None:
    """The period starts when the node stopped responding. An earlier deadline still applies."""
    settings = SETTINGS.model_copy(update={"node_lost_grace_seconds": 60})
    job = a_lost_job(phase, start_time=START, preparing_time=START)
    due = deadline(job, None, at(10), settings)
    assert due is not None
    assert (due.at, type(due.command)) == (at(70), FailNodeLost)
    assert deadline(job.model_copy(update={"reason": Reason.STARTED}), None, None, settings) is not None
    hasty = job.model_copy(update={"active_deadline_seconds": 5})
    if phase is Phase.RUNNING:
        due = deadline(hasty, None, at(10), settings)
        assert due is not None
        assert (due.at, type(due.command)) == (at(5), TimeOut)
