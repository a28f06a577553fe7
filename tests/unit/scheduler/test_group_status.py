from tests.fakes.facts import START, a_group, a_job, a_pod, an_image, an_instance_type, at, later

from phjob_core.api import Phase, PodPhase
from phjob_core.gpus import GpuResources
from phjob_core.labels import label_value
from phjob_core.messages import ReportGroupStatus
from phjob_core.scheduling.engine import SchedulingEngine
from phjob_scheduler.group_status import GroupStatusReporter, reports_on_group

PHUSERS = label_value("phusers")


def an_engine(gpus: int = 2) -> SchedulingEngine:
    engine = SchedulingEngine("session")
    engine.on_catalog_synced(10**6, START)
    engine.on_group(a_group(group_quota={"gpu": gpus}, user_quota={"gpu": gpus}), START)
    for count in (1, 2):
        engine.catalog.instance_types[f"gpu-{count}"] = an_instance_type(f"gpu-{count}", count)
    engine.catalog.images["base-notebook"] = an_image()
    engine.start(START)
    return engine


def report_of(engine: SchedulingEngine) -> ReportGroupStatus:
    (report,) = reports_on_group(engine, PHUSERS)
    return report


def test_a_group_without_jobs_reads_zero() -> None:
    """An empty status would read as unknown."""
    report = report_of(an_engine())
    assert (report.pending, report.preparing, report.running) == (0, 0, 0)
    assert (report.used, report.limit, report.head, report.message) == ({}, {"gpu": 2}, "", "")


def test_it_has_the_default_limits_and_the_names_of_gpus_of_the_settings() -> None:
    """The command line cannot read the settings file, and counts with them, too."""
    gpus = GpuResources(["example.com/*"])
    engine = SchedulingEngine("session", default_limits={"ephemeral-storage": 10}, gpus=gpus)
    engine.on_group(a_group(), START)
    report = report_of(engine)
    assert report.default_limits == {"ephemeral-storage": 10}
    assert report.gpu_resource_names == ("example.com/*",)


def test_it_counts_the_jobs_by_phase_as_they_move() -> None:
    """A job counts in one phase at a time, and in none after it has finished or was deleted."""
    engine = an_engine()
    job = a_job(instance_type="gpu-2")
    engine.on_job(job, START)
    assert report_of(engine).pending == 1
    preparing = later(job, phase=Phase.PREPARING, fence="session#1", resources={"nvidia.com/gpu": 2})
    engine.on_job(preparing, START)
    assert (report_of(engine).pending, report_of(engine).preparing) == (0, 1)
    running = later(preparing, phase=Phase.RUNNING)
    engine.on_job(running, START)
    assert (report_of(engine).preparing, report_of(engine).running) == (0, 1)
    engine.on_job(later(running, phase=Phase.SUCCEEDED), START)
    assert report_of(engine).running == 0
    engine.on_job_gone(job.uid, START)
    assert report_of(engine).running == 0


def test_it_names_the_head_and_what_it_waits_for() -> None:
    """The head blocks its group, or is the first that waits for its user's quota."""
    engine = an_engine()
    engine.on_pod(a_pod(a_job("notebook", user="lin"), job_uid="", phase=PodPhase.RUNNING), START)
    engine.on_job(a_job("head", instance_type="gpu-2"), START)
    engine.on_job(a_job("behind", instance_type="gpu-1", user="pan", created=at(1)), START)
    report = report_of(engine)
    assert (report.head, report.message) == ("head", "group quota: gpu 1 of 2 used, needs 2")
    assert report.used["gpu"] == 1


def test_a_head_that_waits_for_its_users_quota_is_named_if_no_job_blocks_the_group() -> None:
    """With two users at their quota, it is the older job."""
    engine = an_engine(gpus=4)
    engine.on_group(a_group(group_quota={"gpu": 4}, user_quota={"gpu": 1}), START)
    for number, user in enumerate(("lin", "pan", "lin", "pan")):
        engine.on_job(a_job(f"job-{number}", instance_type="gpu-1", user=user, created=at(number)), START)
    report = report_of(engine)
    assert (report.head, report.message) == ("job-2", "user quota: gpu 1 of 1 used, needs 1")


def test_a_group_without_an_object_has_no_report() -> None:
    """There is no status to write it to."""
    engine = an_engine()
    engine.on_job(a_job(group="other"), START)
    assert reports_on_group(engine, label_value("other")) == []
    engine.on_group_gone("phusers", START)
    assert reports_on_group(engine, PHUSERS) == []


def test_many_changes_give_one_report_every_five_seconds_with_the_latest_state() -> None:
    """So a busy group costs few writes, and the first change is still reported after one second."""
    engine, reporter = an_engine(), GroupStatusReporter()
    reports: list[ReportGroupStatus] = []
    for step in range(120):
        now = at(step * 0.1)
        engine.on_job(a_job(f"job-{step}", instance_type="gpu-2", created=now), now)
        reporter.schedule(PHUSERS, now)
        reports += reporter.due_reports(now, lambda label: reports_on_group(engine, label))
    assert [report.pending for report in reports] == [11, 61, 111]
    assert [report.place for report in reports] == sorted({report.place for report in reports})
    assert reporter.next_report() == at(16)


def test_an_unchanged_status_is_not_reported_again() -> None:
    """A change of the group need not change its status."""
    engine, reporter = an_engine(), GroupStatusReporter()
    for second in range(0, 10, 2):
        reporter.schedule(PHUSERS, at(second))
    assert len(list(reporter.due_reports(at(20), lambda label: reports_on_group(engine, label)))) == 1
    reporter.schedule(PHUSERS, at(30))
    assert list(reporter.due_reports(at(31), lambda label: reports_on_group(engine, label))) == []
    assert reporter.next_report() is None


def test_a_new_group_without_jobs_is_reported() -> None:
    """It reads zero one second after its creation."""
    engine = an_engine()
    engine.dirty_groups.clear()
    engine.on_group(a_group("new"), START)
    assert engine.dirty_groups == {label_value("new")}


def test_a_group_that_cannot_be_used_says_why_and_what_to_do() -> None:
    """Its jobs say the same, and an administrator looks at the group (spec.md, A6)."""
    engine = an_engine()
    engine.on_group(a_group(invalid="spec.users is missing", users=()), START)
    assert report_of(engine).message == "unusable: spec.users is missing"


def test_a_refused_group_has_no_jobs_and_names_the_older_one() -> None:
    """Nothing else changes for the older one (spec.md, A13)."""
    engine = an_engine()
    engine.on_group(a_group(created=START, group_quota={"gpu": 2}), START)
    engine.on_job(a_job(instance_type="gpu-2"), START)
    before = report_of(engine)
    engine.on_group(a_group("second", group="phusers", created=at(1)), START)
    first, second = reports_on_group(engine, PHUSERS)
    assert first == before
    assert (second.name, second.uid, second.pending, second.limit) == ("second", "uid-second", 0, {})
    assert second.message.startswith("refused: the older PhGroup 'phusers' has the same group name")


def test_only_the_report_that_changed_is_sent_again() -> None:
    """Two PhGroups of one name have a status each."""
    engine, reporter = an_engine(), GroupStatusReporter()
    engine.on_group(a_group("second", group="phusers", created=at(1)), START)

    def sent(second: float) -> list[tuple[str, int]]:
        reporter.schedule(PHUSERS, at(second))
        due = reporter.due_reports(at(second + 1), lambda label: reports_on_group(engine, label))
        return [(report.name, report.pending) for report in due]

    assert sent(0) == [("phusers", 0), ("second", 0)]
    engine.on_job(a_job(), at(10))
    assert sent(10) == [("phusers", 1)]
    reporter.forget(PHUSERS)
    assert sent(20) == [("phusers", 1), ("second", 0)]
