"""The page about GitOps: its table, and its health check for Argo CD, on the statuses that PhJob writes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaRuntime
from tests.fakes.facts import a_job, a_pod, at
from tests.simulation.store import Store
from tests.support import builders
from tests.support.kstatus import kstatus

from phjob_core.api import Phase, PodPhase
from phjob_core.lifecycle import Event, Transition, transition
from phjob_core.messages import Admit, SetPendingReason
from phjob_core.projection import project_job
from phjob_core.steps import ApplyEvent
from phjob_pod_manager import status_patches

PAGE = (Path(__file__).parents[2] / "docs" / "gitops.md").read_text()
ROWS = dict(re.findall(r"^\| ([^|]+?) \| `.*?\| (\w+ \| \w+) \|$", PAGE, re.MULTILINE))
"""The last two columns of the table, by its first one."""
NOW = at(60)


class Job:
    """A PhJob in the simulated store, which is written by pod-manager's own patches."""

    def __init__(self) -> None:
        self._store = Store(lambda: 60.0)
        self._store.create("phjobs", builders.a_job("train"))

    @property
    def object(self) -> dict[str, Any]:
        found = self._store.get("phjobs", "train")
        assert found is not None
        return {**found}

    def suspend(self) -> None:
        """Write the reason `Suspended`."""
        seen = project_job(self.object)
        command = SetPendingReason(
            uid=seen.uid, name=seen.name, group=seen.group, fence=seen.fence, reason="Suspended", message="m",
            revision=1, created=seen.created, generation=seen.generation,
        )  # fmt: skip
        self._store.patch("phjobs", "train", status_patches.set_pending_reason(command, NOW))

    def admit(self) -> None:
        """Write Preparing."""
        seen = project_job(self.object)
        command = Admit(
            uid=seen.uid, name=seen.name, group=seen.group, fence=seen.fence, token="s#1", resources={},
            revision=1,
        )  # fmt: skip
        observed = status_patches.Observed.of(seen)
        self._store.patch("phjobs", "train", status_patches.admit(command, "pod-1", NOW, observed))

    def apply(self, event: Event) -> None:
        """Write the transition of an event."""
        seen = project_job(self.object)
        change = transition(seen.phase, event)
        assert isinstance(change, Transition)
        pod = a_pod(a_job(), phase=PodPhase.RUNNING)
        patch = status_patches.apply_event(seen, ApplyEvent(event, "why"), change, pod, NOW)
        self._store.patch("phjobs", "train", patch)

    def edit(self) -> None:
        """Change a field of the spec, as a user does."""
        self._store.edit("phjobs", "train", displayName="other")


def waiting(job: Job) -> None:
    assert job.object["status"]["phase"] == Phase.PENDING


def preparing(job: Job) -> None:
    job.admit()


def running(job: Job) -> None:
    job.admit()
    job.apply(Event.POD_RUNNING)


def requeued(job: Job) -> None:
    job.admit()
    job.apply(Event.START_TIMEOUT)


def suspended(job: Job) -> None:
    job.suspend()


def succeeded(job: Job) -> None:
    running(job)
    job.edit()  # The services may not have observed it yet.
    job.apply(Event.POD_SUCCEEDED)


def failed(job: Job) -> None:
    running(job)
    job.edit()
    job.apply(Event.POD_FAILED)


def cancelled(job: Job) -> None:
    job.apply(Event.CANCELLED)


CASES = [
    (waiting, "waits, starts or runs"),
    (preparing, "waits, starts or runs"),
    (running, "waits, starts or runs"),
    (requeued, "waits, starts or runs"),
    (suspended, "is suspended"),
    (succeeded, "Succeeded"),
    (failed, "Failed or Cancelled"),
    (cancelled, "Failed or Cancelled"),
]


def argo_health(item: dict[str, Any]) -> str:
    """Return the status that the page's health check returns for an object."""
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (script,) = yaml.safe_load(block)["data"].values()
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(item, recursive=True)
    return str(lua.execute(script)["status"])


@pytest.mark.parametrize(("go_through", "row"), CASES, ids=[case.__name__ for case, _ in CASES])
def test_flux_and_argo_cd_read_a_job_as_the_page_says(go_through: Callable[[Job], None], row: str) -> None:
    """The statuses are those of pod-manager's own writes (spec.md, A16)."""
    job = Job()
    go_through(job)
    assert f"{kstatus(job.object)} | {argo_health(job.object)}" == ROWS[row]


def test_the_table_of_the_page_has_a_case_for_each_row() -> None:
    """Otherwise a row would be untested."""
    assert {row for _, row in CASES} == set(ROWS)


def test_a_finished_job_that_is_edited_is_in_progress_for_kstatus() -> None:
    """The page warns of it, because no service watches such a job."""
    job = Job()
    succeeded(job)
    job.edit()
    assert kstatus(job.object) == "InProgress"
    assert argo_health(job.object) == "Healthy"
