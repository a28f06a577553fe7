"""The scenarios burst, lives, latency, contended and scale-out, on a stack.

`raw_api`, `history` and `core` have the other scenarios. `run` starts the stacks, and calls the scenarios.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any

from tests.benchmarks.bench import (
    RUN_TIMEOUT_SECONDS,
    Bench,
    Run,
    cpu_quantity,
    group_of,
    requests_per_second,
)
from tests.benchmarks.cpu_usage import CpuUsage, measured_cpu, peak_memory_mib
from tests.benchmarks.figures import (
    Figure,
    Result,
    decisions,
    first_observed,
    hops,
    inversions,
    nanoseconds,
    percentiles,
    raw_limit,
)
from tests.benchmarks.load import BatchLoad, ContendedLoad, RawLoad, ScaleOutLoad, SteadyLoad
from tests.benchmarks.raw_api import new_namespace, write_admissions
from tests.support.builders import a_notebook
from tests.support.cluster import SERVICES
from tests.support.waiting import eventually

from phjob_core.quantities import parse

PER_JOB = "ms of CPU a job"
HOPS = ("submit", "decide", "admit", "tell")
"""The parts of the time from a job's submission until its admission is observed (docs/performance.md)."""
RUN_SECONDS = 1.0
"""The time that each pod runs."""
SETTLE_SECONDS = 3.0
"""The time for the group status and pending reasons of earlier jobs to be written."""


def measure_burst(bench: Bench, load: BatchLoad, raw: RawLoad, limit: float) -> Result:
    """Measure jobs that are submitted at once and all fit, until all are Preparing and have pods.

    `limit`: the raw limit, as measured just before with the load `raw`. It is measured again afterwards,
    because a machine may become slower or faster in between.
    """
    run = bench.run(bench.new_batch("burst", load.groups, load.jobs), "Preparing")
    responses = write_admissions(bench.client, new_namespace(bench), "after", raw.objects, raw.connections)
    limit_after = raw_limit(*(requests_per_second(of_write) for of_write in responses))
    rates = [
        Figure("burst.rate", run.rate, "jobs/s"),
        Figure("burst.of-raw", 2 * run.rate / (limit + limit_after), "of raw.limit"),
        Figure("burst.limit-after", limit_after, "/s"),
    ]
    return Result("burst", [*rates, *_common_figures("burst", run)], run.cpu)


def measure_lives(bench: Bench, load: BatchLoad, name: str = "lives") -> Result:
    """Measure jobs that are submitted at once, until the last of them has succeeded."""
    run = bench.run(bench.new_batch(name, load.groups, load.jobs), "Succeeded")
    jobs, writes, cpu = len(run.responses), run.writes, run.cpu
    written = writes.accepted.total()
    figures = [
        Figure(f"{name}.rate", run.rate, "jobs/s"),
        *_common_figures(name, run),
        Figure(f"{name}.cpu-share", 100 * cpu.of(*SERVICES, "rabbitmq") / cpu.ours, "%"),
        Figure(f"{name}.writes", written / jobs, "a job"),
        Figure(f"{name}.writes.pod", writes.accepted["pods"] / jobs, "a job"),
        Figure(f"{name}.writes.status", writes.accepted["phjobs"] / jobs, "a job"),
        Figure(f"{name}.retries", 100 * writes.rejected / (written + writes.rejected), "%"),
        Figure(f"{name}.messages", run.traffic.messages / jobs, "a job"),
        Figure(f"{name}.deliveries", run.traffic.deliveries / jobs, "a job"),
        Figure(f"{name}.broker", run.traffic.kib / jobs, "KiB into RabbitMQ a job"),
    ]
    return Result(name, figures, cpu)


def _common_figures(name: str, run: Run) -> list[Figure]:
    jobs = len(run.responses)
    return [
        Figure(f"{name}.inversions", inversions(run.events), "jobs"),
        Figure(f"{name}.cpu.services", 1000 * run.cpu.of(*SERVICES) / jobs, PER_JOB),
        Figure(f"{name}.cpu.rabbitmq", 1000 * run.cpu.of("rabbitmq") / jobs, PER_JOB),
    ]


def measure_latency(bench: Bench, load: SteadyLoad, name: str = "latency") -> Result:
    """Measure the time from a submission to Preparing, and its parts, while jobs arrive at a steady rate."""
    requests = bench.new_batch(name, 1, ceil(load.rate * load.seconds))
    log_sizes = {service: bench.log_size(service) for service in ("scheduler", "pod-manager")}
    run = bench.run(requests, "Succeeded", rate=load.rate)
    sent = {job: response.sent for job, response in run.responses.items()}
    preparing = run.first_observed("PhJob", "Preparing")
    moments = [
        sent,
        {job: response.answered for job, response in run.responses.items()},
        _logged_at(bench, "scheduler", "command_sent", log_sizes["scheduler"]),
        _logged_at(bench, "pod-manager", "job_admitted", log_sizes["pod-manager"]),
        preparing,
    ]
    (to_preparing,) = hops([sent, preparing])
    figures = [*percentiles(name, to_preparing), Figure(f"{name}.inversions", inversions(run.events), "jobs")]
    for hop, milliseconds in zip(HOPS, hops(moments), strict=True):
        figures += percentiles(f"{name}.{hop}", milliseconds)
    (to_pod,) = hops([sent, run.first_observed("Pod")])
    return Result(name, [*figures, *percentiles(f"{name}.pod", to_pod)], run.cpu)


def _logged_at(bench: Bench, service: str, event: str, since: int) -> dict[str, int]:
    """Return when the service logged the event about each job, after so many bytes of its log."""
    entries = (entry for entry in bench.log(service, since) if entry["event"] == event)
    return {entry["job"]: nanoseconds(datetime.fromisoformat(entry["timestamp"])) for entry in entries}


@dataclass(frozen=True)
class Round:
    """Some admissions of a full group."""

    decisions: list[float]
    """The milliseconds of each admission."""
    cpu: CpuUsage
    """The CPU time after the quota was used up. From then on, each admission needs the end of a pod."""
    inversions: int


def measure_contended(bench: Bench, load: ContendedLoad) -> Result:
    """Measure the time and the CPU time of admissions to a full group in which many jobs wait."""
    figures, cpu, cost = list[Figure](), CpuUsage(), dict[int, float]()
    for pending, rounds in _run_rounds(bench, load).items():
        cpu = rounds[-1].cpu
        admissions = sum(len(one.decisions) for one in rounds)
        cost[pending] = 1000 * sum(one.cpu.of(*SERVICES) for one in rounds) / admissions
        figures += [
            *percentiles(f"contended.{pending}", [ms for one in rounds for ms in one.decisions]),
            Figure(f"contended.{pending}.cpu.services", cost[pending], "ms of CPU an admission"),
            Figure(f"contended.{pending}.inversions", sum(one.inversions for one in rounds), "jobs"),
        ]
    most, fewest = max(load.pending), min(load.pending)
    values = {figure.name: figure.value for figure in figures}
    total_inversions = sum(values[f"contended.{n}.inversions"] for n in load.pending)
    summary = [
        Figure("contended.p50", values[f"contended.{most}.p50"], "ms"),
        Figure("contended.cpu-ratio", cost[most] / cost[fewest], f"x of {fewest} pending"),
        Figure("contended.inversions", total_inversions, "jobs"),
    ]
    return Result("contended", [*summary, *figures], cpu)


def _run_rounds(bench: Bench, load: ContendedLoad) -> dict[int, list[Round]]:
    """Run rounds for each number of waiting jobs. Returns them by that number.

    The rounds of each number are spread over the whole time. Otherwise a machine that becomes slower would
    affect only some of the numbers.
    """
    admissions = {pending: min(load.admissions, pending * 4 // 5) for pending in load.pending}
    counts = {pending: ceil(load.admissions / admissions[pending]) for pending in load.pending}
    schedule = sorted(
        ((turn + 0.5) / counts[pending], pending) for pending in counts for turn in range(counts[pending])
    )
    rounds: dict[int, list[Round]] = {pending: [] for pending in load.pending}
    for _, pending in schedule:
        rounds[pending].append(_run_round(bench, load.room, pending, admissions[pending]))
    return rounds


def _run_round(bench: Bench, room: int, pending: int, admissions: int) -> Round:
    """Measure so many admissions while jobs wait.

    Notebooks use up the quota until all jobs wait. Then they are deleted within `RUN_SECONDS`, so that pods
    end as evenly as the jobs' pods will.
    """
    requests = bench.new_batch("contended", 1, pending, groupQuota={"cpu": cpu_quantity(room)})
    group = group_of(requests[0])
    notebooks = [f"{group}-notebook-{number}" for number in range(room)]
    for name in notebooks:
        bench.api.create(a_notebook(name, group=group, user="user-0", cpu=cpu_quantity(1)))
    wait_for_usage(bench, group, cpu_quantity(room))
    with (
        bench.client.watching(f"{group}-0", "Preparing", jobs=room) as first,
        bench.client.watching(f"{group}-0", "Preparing", jobs=admissions) as recording,
    ):
        bench.client.send(requests)
        _wait_for_group_status(
            bench, group, lambda status: status["pending"] == pending, f"all jobs of {group} wait"
        )
        time.sleep(SETTLE_SECONDS)
        for name in notebooks:
            bench.api.delete("Pod", name, gracePeriodSeconds="0")
            time.sleep(RUN_SECONDS / room)
        first.wait(RUN_TIMEOUT_SECONDS)
        with measured_cpu(bench.pids()) as cpu:
            recording.wait(RUN_TIMEOUT_SECONDS)
        events = recording.events()
    ends = first_observed(events, "Pod", "Succeeded").values()
    admitted = first_observed(events, "PhJob", "Preparing").values()
    return Round(decisions(ends, admitted, room), cpu, inversions(events, all_waited=True))


def wait_for_usage(bench: Bench, group: str, cpu: str) -> None:
    """Wait until the group's notebooks are counted, and use so much CPU."""
    _wait_for_group_status(
        bench,
        group,
        lambda status: parse("cpu", status.get("used", {}).get("cpu", "0")) == parse("cpu", cpu),
        f"the notebooks of {group} are counted",
    )


def _wait_for_group_status(
    bench: Bench, group: str, is_expected: Callable[[dict[str, Any]], bool], what: str
) -> None:
    def found() -> bool:
        phgroup = bench.api.get("PhGroup", group)
        return bool(phgroup and is_expected(phgroup.get("status", {})))

    eventually(found, what, within=RUN_TIMEOUT_SECONDS)


def measure_scale_out(bench: Bench, load: ScaleOutLoad) -> Result:
    """Measure lives with more shards, and with more replicas."""
    figures = list[Figure]()
    cpu = CpuUsage()
    variants = [(f"shards-{n}", n, _shards(n)) for n in load.shards]
    variants += [(f"replicas-{n}", n, {}) for n in load.replicas]
    for name, replicas, env in variants:
        bench.up(replicas=replicas, env=env)
        time.sleep(SETTLE_SECONDS)
        result = measure_lives(bench, load, f"scale-out.{name}")
        memory = sum(peak_memory_mib(pid) for pid in bench.pids(*SERVICES).values())
        figures += [*result.figures, Figure(f"scale-out.{name}.memory", memory, "MiB")]
        cpu = result.cpu
    return Result("scale-out", figures, cpu)


def _shards(count: int) -> dict[str, dict[str, str]]:
    """Return the environment variables that make each replica a shard of its own."""
    return {
        f"{service}-{number}" if number > 1 else service: {"SHARDS": str(count), "SHARD": str(number - 1)}
        for service in SERVICES
        for number in range(1, count + 1)
    }
