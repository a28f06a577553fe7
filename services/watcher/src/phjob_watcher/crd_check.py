"""The wait until the cluster has PhJob's CRDs (spec.md, E8)."""

import structlog

from phjob_core import crds
from phjob_core.backoff import Backoff
from phjob_core.errors import NotAuthorizedError
from phjob_kube.port import Kube
from phjob_runtime.clock import Clock
from phjob_runtime.readiness import Readiness
from phjob_runtime.retry import retry_delay

CHECK_BACKOFF = Backoff(first=1.0, longest=30.0, jitter=0.2)
"""The delay before the CRDs are read again. An operator has to correct them."""

_log = structlog.get_logger()


async def wait_until_usable(kube: Kube, clock: Clock, readiness: Readiness) -> None:
    """Return as soon as PhJob can work with all CRDs of the cluster.

    Until then, the service is not ready, and says why. Without the right to read the CRDs it goes on,
    because it needs them for nothing else.

    Raises:
        UnreachableError: the API server does not answer.

    """
    failures = 0
    while problem := await _find_problem(kube):
        failures += 1
        readiness.set_waiting(f"the custom resources: {problem}")
        _log.error("crds_unusable", error=problem)
        await clock.sleep(retry_delay(CHECK_BACKOFF, failures))


async def _find_problem(kube: Kube) -> str:
    """Return why PhJob cannot work with a CRD, with the remedy; empty if it can with all."""
    for plural in crds.REQUIREMENTS:
        try:
            crd = await kube.get(crds.CRDS, crds.crd_name(plural))
        except NotAuthorizedError as error:
            _log.warning("crds_not_checked", error=str(error))
            return ""
        if problem := crds.problem(plural, crd):
            return problem
    return ""
