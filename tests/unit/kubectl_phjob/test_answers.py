from datetime import timedelta
from typing import Any

from tests.unit.facts import START, a_group, a_job, a_pod, an_image, an_instance_type, at, later

from kubectl_phjob.answers import Answer, Cause, why
from kubectl_phjob.look import Facts, Look
from shared.messages import GroupSeen, JobSeen, PodSeen
from shared.phjob import Phase, PodPhase

NOW = at(100)


def running(name: str, gpus: int, user: str = "bob", **fields: Any) -> tuple[JobSeen, PodSeen]:
    limits = {"cpu": 1000, "nvidia.com/gpu": gpus}
    job = a_job(
        name, user=user, phase=Phase.RUNNING, resources=limits, preparing_time=START, start_time=START,
        fence="s#1", node="node-1", **fields,
    )  # fmt: skip
    return job, a_pod(job, limits=limits, phase=PodPhase.RUNNING, start_time=START)


def notebook(gpus: int, user: str = "lin") -> PodSeen:
    pod = a_pod(a_job("jupyter-lin", user=user), job_uid="", limits={"nvidia.com/gpu": gpus})
    return pod.model_copy(update={"phase": PodPhase.RUNNING, "start_time": START})


def ended(name: str, seconds: int) -> JobSeen:
    return a_job(
        name, phase=Phase.SUCCEEDED, preparing_time=START, start_time=START, finish_time=at(seconds)
    )  # fmt: skip


def a_look(*seen: JobSeen | PodSeen, group: GroupSeen | None = None) -> Look:
    group = group or a_group(group_quota={"gpu": 4}, user_quota={"gpu": 4})
    return Look(
        Facts(
            "phusers",
            group,
            [fact for fact in seen if isinstance(fact, JobSeen)],
            [fact for fact in seen if isinstance(fact, PodSeen)],
            [group],
            [an_instance_type(f"gpu-{gpus}", gpus) for gpus in (1, 2, 4)],
            [an_image()],
        ),
        NOW,
    )


def answer(look: Look, name: str, pod_says: str = "") -> Answer:
    (job,) = (job for job in look.facts.jobs if job.name == name)
    return why(look, job, pod_says)


def test_a_job_with_room_goes_now() -> None:
    """It is the first in a free queue."""
    told = answer(a_look(a_job(created=at(99))), "job-1")
    assert (told.cause, told.place, told.waiting) == (Cause.NEXT, 1, 1)
    assert told.estimate
    assert told.estimate.p90 == NOW


def test_a_job_with_room_that_has_not_gone_for_long_shows_that_nobody_works() -> None:
    """Else a user would wait for a scheduler that is not there."""
    assert answer(a_look(a_job(created=START)), "job-1").cause is Cause.NOT_ADMITTED


def test_the_head_is_short_of_group_quota_and_sees_who_holds_it() -> None:
    """With what of it, since when, and until when at most."""
    job, pod = running("long", 2, user="lin", active_deadline_seconds=600)
    told = answer(a_look(job, pod, a_job(instance_type="gpu-4")), "job-1")
    assert told.cause is Cause.GROUP_QUOTA
    assert told.why == "group quota: gpu 2 of 4 used, needs 4"
    (held,) = told.held
    assert (held.name, held.user, held.latest, held.notebook) == ("long", "lin", at(600), False)
    assert told.lacks == ("gpu",)


def test_a_user_at_his_limit_sees_his_own_jobs_only() -> None:
    """The others' do not matter to it."""
    group = a_group(group_quota={"gpu": 8}, user_quota={"gpu": 2})
    others = running("of-lin", 2, user="lin")
    told = answer(a_look(*running("mine", 2), *others, a_job(), group=group), "job-1")
    assert (told.cause, told.why) == (Cause.USER_QUOTA, "user quota: gpu 2 of 2 used, needs 1")
    assert [held.name for held in told.held] == ["mine"]


def test_a_notebook_that_holds_what_is_lacking_is_the_cause() -> None:
    """No job's end would help, and nobody knows when it ends."""
    told = answer(a_look(notebook(3), a_job(instance_type="gpu-2")), "job-1")
    assert told.cause is Cause.NOTEBOOKS
    assert told.why == "group quota: gpu 3 of 4 used, needs 2; notebooks hold it"
    assert "jupyter-lin" in told.next_step
    assert told.estimate
    assert told.estimate.p50 is None


def test_a_notebook_that_is_not_enough_is_not_the_cause() -> None:
    """Jobs hold too much, even without it."""
    told = answer(a_look(*running("long", 3, user="pan"), notebook(1), a_job(instance_type="gpu-2")), "job-1")
    assert told.cause is Cause.GROUP_QUOTA
    assert {held.name for held in told.held} == {"long", "jupyter-lin"}


def test_a_job_behind_the_head_sees_it_and_all_before() -> None:
    """In their order."""
    look = a_look(
        *running("long", 2, user="lin"),
        a_job("head", instance_type="gpu-4", created=at(1)),
        a_job("second", user="pan", created=at(2)),
        a_job("third", user="lin", created=at(3)),
    )
    told = answer(look, "third")
    assert told.cause is Cause.BEHIND_HEAD
    assert told.why == "it waits behind head: group quota: gpu 2 of 4 used, needs 4"
    assert (told.place, told.waiting) == (3, 3)
    assert list(told.ahead) == ["head (bob, gpu 4)", "second (pan, gpu 1)"]


def test_a_job_behind_one_of_its_own_user_sees_that() -> None:
    """Though another's job stands between, which it does not wait for."""
    group = a_group(group_quota={"gpu": 8}, user_quota={"gpu": 2})
    look = a_look(
        *running("mine", 2),
        *running("of-pan", 2, user="pan"),
        a_job("first", created=at(1)),
        a_job("other", user="pan", created=at(2)),
        a_job("second", created=at(3)),
        group=group,
    )
    told = answer(look, "second")
    assert (told.cause, list(told.ahead)) == (Cause.BEHIND_OWN, ["first (bob, gpu 1)"])
    assert told.place == 3


def test_a_job_in_backoff_says_why_it_was_sent_back_and_until_when() -> None:
    """It keeps its place."""
    job = a_job(requeued=2, requeue_after=at(130), message="the pod did not start within 180 s")
    told = answer(a_look(job), "job-1")
    assert told.cause is Cause.BACKOFF
    assert told.why == (
        "it was sent back 2 times and rests until 00:02:10 UTC: the pod did not start within 180 s"
    )
    assert told.place == 1
    assert told.estimate
    assert told.estimate.p90 == at(130)


def test_what_can_never_run_is_told_in_the_schedulers_own_words() -> None:
    """Too large, or naming what is not there."""
    group = a_group(group_quota={"gpu": 2})
    told = answer(a_look(a_job(instance_type="gpu-4"), group=group), "job-1")
    assert (told.cause, told.place) == (Cause.IMPOSSIBLE, None)
    assert told.why == "OverQuota: instance type 'gpu-4' needs gpu 4, but the group quota is 2"
    unknown = answer(a_look(a_job(image="nope")), "job-1")
    assert unknown.why == "InvalidSpec: image 'nope' does not exist"


def test_a_job_whose_pod_does_not_start_says_what_its_pod_says() -> None:
    """And what to do depends on that."""
    job, _ = running("job-1", 1)
    preparing = later(job, phase=Phase.PREPARING, start_time=None)
    says = "its image can't be had: ErrImagePull: not found"
    told = answer(a_look(preparing), "job-1", says)
    assert (told.cause, told.why) == (Cause.STARTING, says)
    assert "url" in told.next_step
    assert "cluster" in answer(a_look(preparing), "job-1", "no node can take it: ...").next_step


def test_a_job_on_a_lost_node_says_so_while_it_runs() -> None:
    """Its status has the words."""
    words = "Node node-1 which was running pod job-1 is unresponsive"
    job, pod = running("job-1", 1, reason="NodeLost", message=words)
    told = answer(a_look(job, pod), "job-1")
    assert (told.cause, told.why) == (Cause.NODE_LOST, words)


def test_an_ended_job_says_how_it_ended() -> None:
    """And where to go from there."""
    told = answer(a_look(a_job(phase=Phase.FAILED, reason="Error", message="exit code 1 (Error)")), "job-1")
    assert (told.cause, told.why) == (Cause.FINISHED, "Error: exit code 1 (Error)")
    assert "retry" in told.next_step


def test_an_estimate_comes_from_the_jobs_that_ended_lately() -> None:
    """Each held its part for 200 s, so half of that is over."""
    seen = [ended(f"old-{n}", 200) for n in range(5)]
    told = answer(a_look(*seen, *running("long", 4), a_job()), "job-1")
    assert told.estimate
    assert told.estimate.p50 == NOW + timedelta(seconds=100)


def test_a_group_that_does_not_exist_is_told_like_any_other_reason() -> None:
    """There is no queue to look at."""
    look = Look(Facts("gone", None, [a_job(group="gone")], ()), NOW)
    assert answer(look, "job-1").why == "InvalidSpec: group 'gone' does not exist"
