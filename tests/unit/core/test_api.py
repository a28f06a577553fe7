from pathlib import Path
from typing import Any

import pytest
import yaml

from phjob_core.api import API_VERSION, Phase, PodPhase, Reason

CRD = yaml.safe_load((Path(__file__).parents[3] / "k8s/chart/crds/phjob.yaml").read_text())


def versions() -> list[dict[str, Any]]:
    versions: list[dict[str, Any]] = CRD["spec"]["versions"]
    return versions


def status_field(name: str) -> dict[str, Any]:
    (version,) = versions()
    properties = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    field: dict[str, Any] = properties[name]
    return field


def test_the_phases_are_those_of_the_crd() -> None:
    """The API server would reject any other."""
    assert set(status_field("phase")["enum"]) == {str(phase) for phase in Phase}


def test_the_version_is_that_of_the_crd() -> None:
    """The services watch it."""
    assert [f"{CRD['spec']['group']}/{version['name']}" for version in versions()] == [API_VERSION]


def test_the_default_status_is_that_of_the_crd() -> None:
    """A new job is Pending and Queued without a write (spec.md, A5)."""
    assert status_field("phase")["default"] == Phase.PENDING
    assert status_field("reason")["default"] == Reason.QUEUED


@pytest.mark.parametrize("phase", Phase)
def test_a_phase_is_waiting_admitted_or_final(phase: Phase) -> None:
    """An admitted job is charged, and a final one never changes again."""
    assert [phase is Phase.PENDING, phase.admitted, phase.final].count(True) == 1


def test_a_pod_is_finished_when_kubernetes_runs_it_no_longer() -> None:
    """A pod whose state is unknown may still run."""
    assert {phase for phase in PodPhase if phase.finished} == {PodPhase.SUCCEEDED, PodPhase.FAILED}
