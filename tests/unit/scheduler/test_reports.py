from tests.unit.facts import START, a_group, a_job, a_pod, an_image, an_instance_type, at, later

from scheduler.admission import Admission
from scheduler.reports import Reports, report
from shared.labels import label_value
from shared.messages import ReportGroup
from shared.phjob import Phase, PodPhase

PHUSERS = label_value("phusers")


def a_mind(gpus: int = 2) -> Admission:
    mind = Admission("session")
    mind.catalog_listed(10**6, START)
    mind.group_seen(a_group(group_quota={"gpu": gpus}, user_quota={"gpu": gpus}), START)
    for count in (1, 2):
        mind.catalog.instance_types[f"gpu-{count}"] = an_instance_type(f"gpu-{count}", count)
    mind.catalog.images["base-notebook"] = an_image()
    mind.start(START)
    return mind


def report_of(mind: Admission) -> ReportGroup:
    told = report(mind, PHUSERS)
    assert told
    return told


def test_a_group_without_jobs_reads_zero() -> None:
    """So that nobody takes it for unknown."""
    told = report_of(a_mind())
    assert (told.pending, told.preparing, told.running) == (0, 0, 0)
    assert (told.used, told.limit, told.head, told.message) == ({}, {"gpu": 2}, "", "")


def test_it_counts_the_jobs_by_phase_as_they_move() -> None:
    """A job counts in one phase at a time, and in none once it is finished or deleted."""
    mind = a_mind()
    job = a_job(instance_type="gpu-2")
    mind.job_seen(job, START)
    assert report_of(mind).pending == 1
    preparing = later(job, phase=Phase.PREPARING, fence="session#1", resources={"nvidia.com/gpu": 2})
    mind.job_seen(preparing, START)
    assert (report_of(mind).pending, report_of(mind).preparing) == (0, 1)
    running = later(preparing, phase=Phase.RUNNING)
    mind.job_seen(running, START)
    assert (report_of(mind).preparing, report_of(mind).running) == (0, 1)
    mind.job_seen(later(running, phase=Phase.SUCCEEDED), START)
    assert report_of(mind).running == 0
    mind.job_gone(job.uid, job.group, START)
    assert report_of(mind).running == 0


def test_it_names_the_head_and_what_it_waits_for() -> None:
    """The job that blocks the group, else the first of those that wait for their users' quota."""
    mind = a_mind()
    mind.pod_seen(a_pod(a_job("notebook", user="lin"), job_uid="", phase=PodPhase.RUNNING), START)
    mind.job_seen(a_job("head", instance_type="gpu-2"), START)
    mind.job_seen(a_job("behind", instance_type="gpu-1", user="pan", created=at(1)), START)
    told = report_of(mind)
    assert (told.head, told.message) == ("head", "group quota: gpu 1 of 2 used, needs 2")
    assert told.used["gpu"] == 1


def test_a_head_that_waits_for_its_users_quota_is_named_where_nobody_blocks() -> None:
    """Two users at their limit: the older job."""
    mind = a_mind(gpus=4)
    mind.group_seen(a_group(group_quota={"gpu": 4}, user_quota={"gpu": 1}), START)
    for number, user in enumerate(("lin", "pan", "lin", "pan")):
        mind.job_seen(a_job(f"job-{number}", instance_type="gpu-1", user=user, created=at(number)), START)
    told = report_of(mind)
    assert (told.head, told.message) == ("job-2", "user quota: gpu 1 of 1 used, needs 1")


def test_a_group_that_has_no_object_is_not_told_of() -> None:
    """There is nowhere to write it."""
    mind = a_mind()
    mind.job_seen(a_job(group="other"), START)
    assert report(mind, label_value("other")) is None
    mind.group_gone("phusers", "phusers", START)
    assert report(mind, PHUSERS) is None


def test_many_changes_are_told_once_a_second_and_the_last_counts() -> None:
    """At most one write a second and group."""
    mind, reports = a_mind(), Reports()
    told: list[ReportGroup] = []
    for step in range(50):
        now = at(step * 0.1)
        mind.job_seen(a_job(f"job-{step}", instance_type="gpu-2", created=now), now)
        reports.watch(mind.touched, now)
        told += reports.tell(now, lambda label: report(mind, label))
    assert len(told) == 4
    assert told[-1].pending == 44
    assert [report.place for report in told] == sorted({report.place for report in told})
    assert reports.due() == at(5.4)


def test_what_has_not_changed_is_not_told_again() -> None:
    """Touched, and yet as it was."""
    mind, reports = a_mind(), Reports()
    for second in range(0, 10, 2):
        reports.watch([PHUSERS], at(second))
    assert len(list(reports.tell(at(20), lambda label: report(mind, label)))) == 1
    reports.watch([PHUSERS], at(30))
    assert list(reports.tell(at(31), lambda label: report(mind, label))) == []
    assert reports.due() is None


def test_a_group_that_is_new_is_told_of_though_it_has_no_job() -> None:
    """It reads zero from its first second on."""
    mind = a_mind()
    mind.touched.clear()
    mind.group_seen(a_group("new"), START)
    assert mind.touched == {label_value("new")}
