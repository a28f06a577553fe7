"""The wait for PhJob's CRDs."""

from pathlib import Path
from typing import Any

import yaml
from tests.fakes.clock import ManualClock

from phjob_core.crds import CRDS
from phjob_core.errors import NotAuthorizedError
from phjob_core.resource import Resource
from phjob_runtime.readiness import Readiness
from phjob_watcher.crd_check import wait_until_usable

FILES = sorted((Path(__file__).parents[3] / "k8s" / "chart" / "crds").iterdir())
OURS = {crd["metadata"]["name"]: crd for crd in (yaml.safe_load(file.read_text()) for file in FILES)}


class CrdKube:
    """The port to an API server that has these CRDs."""

    def __init__(self, crds: dict[str, Any]) -> None:
        self.crds = crds
        self.error: Exception | None = None
        self.reads = 0

    async def get(self, resource: Resource, name: str) -> Any:
        assert resource == CRDS
        self.reads += 1
        if self.error:
            raise self.error
        return self.crds.get(name)


class RepairingClock(ManualClock):
    """A clock during whose third pause an operator repairs the cluster. It notes the reasons before each."""

    def __init__(self, kube: CrdKube, readiness: Readiness) -> None:
        super().__init__()
        self._kube, self._readiness = kube, readiness
        self.reasons: list[str] = []
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.reasons.append(self._readiness.reason)
        self.pauses.append(seconds)
        if len(self.pauses) == 3:
            self._kube.crds = OURS
        await super().sleep(0)


async def test_the_definitions_of_the_chart_are_read_once() -> None:
    """The service goes on at once."""
    kube, readiness = CrdKube(OURS), Readiness()
    clock = RepairingClock(kube, readiness)
    await wait_until_usable(kube, clock, readiness)  # type: ignore[arg-type]
    assert (kube.reads, clock.pauses) == (len(OURS), [])


async def test_the_service_waits_for_an_operator_and_says_what_for() -> None:
    """With growing pauses. /readyz has the name of the CRD and the remedy (spec.md, E8)."""
    foreign = {**OURS, "phjobs.primehub.io": yaml.safe_load(FILES[0].read_text())}
    kube, readiness = CrdKube(foreign), Readiness()
    clock = RepairingClock(kube, readiness)
    await wait_until_usable(kube, clock, readiness)  # type: ignore[arg-type]
    assert len(clock.reasons) == 3
    for reason in clock.reasons:
        assert reason.startswith(
            "the custom resources: the custom resource phjobs.primehub.io in the cluster"
        )
        assert "kubectl apply --server-side --force-conflicts -f k8s/chart/crds" in reason
    first, second, third = clock.pauses
    assert 0 < first < second < third < 30


async def test_without_the_right_to_read_them_the_service_goes_on() -> None:
    """An operator who grants rights by hand may not have granted it. It protects only from a mistake."""
    kube = CrdKube({})
    kube.error = NotAuthorizedError("forbidden", 403)
    await wait_until_usable(kube, ManualClock(), Readiness())  # type: ignore[arg-type]
    assert kube.reads == 1
