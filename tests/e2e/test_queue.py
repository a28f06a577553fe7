"""The queue on the running services: quotas and their edits, notebooks in the pool, what a job is told."""

import pytest
from tests.support import promises
from tests.support.hub import Hub
from tests.support.scene import FOREVER, Scene, settled
from tests.support.waiting import eventually


@pytest.fixture
def scene(hub: Hub) -> Scene:
    """A group with a quota of 4 GPUs, and none for its users."""
    return Scene(hub, "phusers", {"groupQuota": {"gpu": 4}}).make()


def running(hub: Hub, scene: Scene, name: str, *, gpus: int, user: str = "bob") -> str:
    """Submit a job that runs for ever; its name, once it does."""
    job = scene.submit(name, gpus=gpus, user=user, run_for=FOREVER)
    hub.reaches(job, "Running")
    return job


def test_a_quota_that_is_absent_is_no_limit(hub: Hub) -> None:
    """Twenty jobs of four GPUs each hold them all at a time."""
    scene = Scene(hub, "unlimited").make()
    names = hub.kubectl_create(*(scene.job(f"job-{n}", gpus=4, run_for=FOREVER) for n in range(20)))
    for name in names:
        hub.reaches(name, "Running")
    assert promises.most_used(hub.history.complete(), scene.group, "gpu") == 80
    assert not promises.out_of_order(hub.history.complete(), scene.group)


def test_a_resource_that_the_quota_does_not_name_is_no_limit(hub: Hub) -> None:
    """CPU and memory go without one here; a group quota of no GPU refuses only jobs with GPUs."""
    scene = Scene(hub, "cpu-only", {"groupQuota": {"gpu": 0}}).make()
    with_gpu = scene.submit("with", gpus=1)
    hub.reaches(scene.submit("without"), "Succeeded")
    assert hub.reaches(with_gpu, "Failed")["reason"] == "OverQuota"


def test_cpu_and_memory_are_counted_as_exactly_as_gpus(hub: Hub) -> None:
    """Two jobs of half a core fill a quota of one; memory of 256M is 256Mi."""
    scene = Scene(hub, "small", {"groupQuota": {"cpu": "1", "memory": "1G"}}).make()
    names = [running(hub, scene, f"job-{n}", gpus=0) for n in range(2)]
    waiting = scene.submit("waiting")
    hub.says(waiting, "GroupQuota", "group quota: cpu 1 of 1 used, needs 500m")
    scene.change(groupQuota={"cpu": "4", "memory": "512M"})
    hub.says(waiting, "GroupQuota", "group quota: memory 512Mi of 512Mi used, needs 256Mi")
    hub.cancel(names[0])
    hub.reaches(waiting, "Succeeded")


def test_a_raised_quota_lets_go_who_waits(hub: Hub, scene: Scene) -> None:
    """Nobody has to end for it."""
    running(hub, scene, "first", gpus=4)
    second, third = scene.submit("second", gpus=4), scene.submit("third", gpus=4)
    hub.says(second, "GroupQuota", "gpu 4 of 4 used, needs 4")
    scene.change(groupQuota={"gpu": 8})
    hub.reaches(second, "Succeeded")
    hub.reaches(third, "Succeeded")
    assert not promises.over_quota(hub.history.complete(), scene.group, group_quota={"gpu": 8})
    assert not promises.out_of_order(hub.history.complete(), scene.group)


def test_a_user_quota_that_is_taken_away_lets_go_who_is_parked(hub: Hub, scene: Scene) -> None:
    """An edit of the group reaches also the users that nobody looks at."""
    scene.change(userQuota={"gpu": 2})
    running(hub, scene, "first", gpus=2)
    parked = scene.submit("parked", gpus=2)
    hub.says(parked, "UserQuota", "gpu 2 of 2 used, needs 2")
    scene.change(userQuota=None)
    hub.reaches(parked, "Succeeded")


def test_a_cut_quota_takes_nothing_away_and_fails_who_can_never_go(hub: Hub, scene: Scene) -> None:
    """What runs goes on; what waits is measured by the new quota."""
    first = running(hub, scene, "first", gpus=2)
    large, small = scene.submit("large", gpus=4), scene.submit("small", gpus=2)
    hub.says(large, "GroupQuota", "gpu 2 of 4 used, needs 4")
    scene.change(groupQuota={"gpu": 3})
    assert hub.reaches(large, "Failed")["reason"] == "OverQuota"
    hub.says(small, "GroupQuota", "group quota: gpu 2 of 3 used, needs 2")
    scene.change(groupQuota={"gpu": 1})
    assert hub.reaches(small, "Failed")["reason"] == "OverQuota"
    settled(hub)
    assert hub.job(first).phase == "Running"


def test_a_quota_below_what_is_used_lets_nobody_go_until_enough_has_ended(hub: Hub, scene: Scene) -> None:
    """More is used than allowed, through no admission of ours."""
    first, second = running(hub, scene, "first", gpus=2), running(hub, scene, "second", gpus=2)
    scene.change(groupQuota={"gpu": 2})
    waiting = scene.submit("waiting", gpus=1, run_for=FOREVER)
    hub.says(waiting, "GroupQuota", "group quota: gpu 4 of 2 used, needs 1")
    hub.cancel(first)
    hub.pod_is_gone(first)
    settled(hub)
    assert hub.job(waiting).phase == "Pending"
    hub.cancel(second)
    hub.reaches(waiting, "Running")


def test_a_notebook_counts_in_the_groups_pool(hub: Hub, scene: Scene) -> None:
    """It blocks a job; its deletion lets it go."""
    notebook = scene.notebook("jupyter", gpus=3, user="pan")
    eventually(lambda: hub.pod(notebook), "the notebook is there")
    job = scene.submit("job", gpus=2)
    hub.says(job, "GroupQuota", "group quota: gpu 3 of 4 used, needs 2")
    hub.api.delete("Pod", notebook)
    hub.reaches(job, "Succeeded")
    assert not promises.over_quota(hub.history.complete(), scene.group, group_quota={"gpu": 4})


def test_a_notebook_counts_for_its_user_whatever_his_name(hub: Hub, scene: Scene) -> None:
    """JupyterHub escapes names in labels; ours must come to the same."""
    scene.change(userQuota={"gpu": 2})
    user = "Päivi.O'Brien@example.com"
    notebook = scene.notebook("jupyter", gpus=1, user=user)
    eventually(lambda: hub.pod(notebook), "the notebook is there")
    job, other = scene.submit("job", gpus=2, user=user), scene.submit("other", gpus=2, user="lin")
    hub.says(job, "UserQuota", "user quota: gpu 1 of 2 used, needs 2")
    hub.reaches(other, "Succeeded")
    hub.api.delete("Pod", notebook)
    hub.reaches(job, "Succeeded")


def test_a_notebook_that_has_ended_holds_nothing(hub: Hub, scene: Scene) -> None:
    """A finished pod is not in use, though it is there."""
    notebook = scene.notebook("jupyter", gpus=4)
    eventually(lambda: hub.pod(notebook), "the notebook is there")
    job = scene.submit("job", gpus=1)
    hub.says(job, "GroupQuota")
    hub.api.merge("Pod", notebook, {"status": {"phase": "Succeeded"}}, subresource="status")
    hub.reaches(job, "Succeeded")


def test_a_finished_jobs_pod_holds_nothing(hub: Hub, scene: Scene) -> None:
    """It stays for its log, for days; the next job doesn't wait for that."""
    first = scene.submit("first", gpus=4)
    second = scene.submit("second", gpus=4)
    hub.reaches(second, "Succeeded")
    assert hub.pod(first) is not None


def test_a_job_that_fits_does_not_overtake_the_head(hub: Hub, scene: Scene) -> None:
    """First in, first out: the head alone is told why, the others are queued."""
    first = running(hub, scene, "first", gpus=2)
    head, behind = scene.submit("head", gpus=4, user="pan"), scene.submit("behind", gpus=1, user="lin")
    hub.says(head, "GroupQuota", "group quota: gpu 2 of 4 used, needs 4")
    settled(hub)
    assert hub.job(behind).phase == "Pending"
    assert hub.status(behind)["reason"] == "Queued"
    hub.cancel(first)
    hub.reaches(behind, "Succeeded")
    assert promises.entered_preparing(hub.history.complete(), scene.group) == [first, head, behind]


def test_a_job_short_of_both_quotas_counts_as_short_of_its_users(hub: Hub, scene: Scene) -> None:
    """It blocks nobody else (seed, Example 2, job B)."""
    scene.change(userQuota={"gpu": 2})
    running(hub, scene, "bobs", gpus=2, user="bob")
    running(hub, scene, "pans", gpus=1, user="pan")
    both = scene.submit("both", gpus=2, user="bob")
    hub.says(both, "UserQuota", "user quota: gpu 2 of 2 used, needs 2")
    hub.reaches(scene.submit("lins", gpus=1, user="lin"), "Succeeded")


def test_a_parked_users_later_jobs_wait_behind_his_first(hub: Hub, scene: Scene) -> None:
    """A user's own jobs keep their order, also the small ones."""
    scene.change(userQuota={"gpu": 2})
    first = running(hub, scene, "first", gpus=1, user="bob")
    large, small = scene.submit("large", gpus=2), scene.submit("small", gpus=1)
    hub.says(large, "UserQuota", "user quota: gpu 1 of 2 used, needs 2")
    settled(hub)
    assert hub.job(small).phase == "Pending"
    hub.cancel(first)
    hub.reaches(small, "Succeeded")
    assert not promises.out_of_order(hub.history.complete(), scene.group)


def test_what_a_waiting_job_is_told_follows_what_is_used(hub: Hub, scene: Scene) -> None:
    """The numbers are those of now, once they have changed."""
    first, second = running(hub, scene, "first", gpus=2), running(hub, scene, "second", gpus=2)
    waiting = scene.submit("waiting", gpus=4)
    hub.says(waiting, "GroupQuota", "group quota: gpu 4 of 4 used, needs 4")
    hub.cancel(first)
    hub.says(waiting, "GroupQuota", "group quota: gpu 2 of 4 used, needs 4")
    hub.cancel(second)
    assert hub.reaches(waiting, "Succeeded")["message"] == "exit code 0"


def test_groups_do_not_disturb_each_other(hub: Hub, scene: Scene) -> None:
    """The same user has a quota in each group."""
    running(hub, scene, "first", gpus=4, user="bob")
    waiting = scene.submit("waiting", gpus=4, user="bob")
    other = Scene(hub, "other", {"userQuota": {"gpu": 4}, "groupQuota": {"gpu": 4}}).make()
    hub.reaches(other.submit("elsewhere", gpus=4, user="bob"), "Succeeded")
    assert hub.job(waiting).phase == "Pending"
