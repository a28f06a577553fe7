import pytest
from tests.fakes.facts import a_group
from tests.fakes.simulated_pod_manager import SimulatedPodManager, an_admit, run_scenario
from tests.support.builders import an_object

from phjob_core.api import API_VERSION, Object
from phjob_core.errors import DeniedError, RejectedError
from phjob_core.lifecycle import Event
from phjob_core.messages import DatasetGrant
from phjob_pod_manager.pod_creator import AdmissionOverError, PodCreationError


def uid(pod: Object | None) -> str:
    assert pod
    return str(pod["metadata"]["uid"])


def failure_of_creation(error: RejectedError) -> Event:
    """Return the event that the API server's rejection of a pod is for its job."""

    async def scenario(pod_manager: SimulatedPodManager) -> Event:
        def reject(plural: str, body: Object) -> Object:
            raise error

        pod_manager.store.create = reject  # type: ignore[method-assign]
        with pytest.raises(PodCreationError) as failure:
            await pod_manager.pods.create(an_admit())
        return failure.value.event

    return run_scenario(scenario)


def test_a_pod_of_the_same_admission_is_used_again() -> None:
    """The answer to the first attempt may have been lost."""

    async def scenario(pod_manager: SimulatedPodManager) -> None:
        _, first = await pod_manager.pods.create(an_admit())
        _, second = await pod_manager.pods.create(an_admit())
        assert first.uid == second.uid

    run_scenario(scenario)


def test_a_pod_of_an_earlier_admission_is_replaced() -> None:
    """No job names it."""

    async def scenario(pod_manager: SimulatedPodManager) -> None:
        _, first = await pod_manager.pods.create(an_admit(number=1))
        _, second = await pod_manager.pods.create(an_admit(number=2))
        assert first.uid != second.uid
        assert uid(pod_manager.pod()) == second.uid

    run_scenario(scenario)


def test_the_pod_of_a_successors_admission_stays() -> None:
    """This command is over, so the pod is none of its business."""

    async def scenario(pod_manager: SimulatedPodManager) -> None:
        pod_manager.store.patch(
            "phjobs", "job-1", [{"op": "add", "path": "/status/fence", "value": "successor!1"}]
        )
        _, theirs = await pod_manager.pods.create(an_admit(fence="successor!1", number=2))
        with pytest.raises(AdmissionOverError):
            await pod_manager.pods.create(an_admit())
        assert uid(pod_manager.pod()) == theirs.uid

    run_scenario(scenario)


def test_a_job_that_was_cancelled_or_deleted_gets_no_pod() -> None:
    """The command is older than that (spec.md, Q7)."""

    async def cancelled(pod_manager: SimulatedPodManager) -> None:
        pod_manager.store.edit("phjobs", "job-1", cancel=True)
        with pytest.raises(AdmissionOverError):
            await pod_manager.pods.create(an_admit())

    async def deleted(pod_manager: SimulatedPodManager) -> None:
        pod_manager.store.remove("phjobs", "job-1")
        with pytest.raises(AdmissionOverError) as error:
            await pod_manager.pods.create(an_admit())
        assert error.value.job is None

    run_scenario(cancelled)
    run_scenario(deleted)


def test_the_name_of_another_workloads_pod_is_a_permanent_failure() -> None:
    """Waiting does not help (spec.md, Q10)."""

    async def scenario(pod_manager: SimulatedPodManager) -> None:
        owner = {"apiVersion": API_VERSION, "kind": "PhJob", "name": "other", "uid": "o", "controller": True}
        pod = {"metadata": {"name": "job-1", "ownerReferences": [owner]}, "spec": {"containers": []}}
        pod_manager.store.create("pods", pod)
        with pytest.raises(PodCreationError, match="the name of pod 'job-1' is taken by another") as error:
            await pod_manager.pods.create(an_admit())
        assert error.value.event is Event.POD_INVALID

    run_scenario(scenario)


def test_the_secret_of_a_dataset_is_there_before_the_pod_that_refers_to_it() -> None:
    """Otherwise the container could not be created."""

    async def scenario(pod_manager: SimulatedPodManager) -> None:
        dataset = an_object("Dataset", "db", {"type": "env", "variables": {"password": "x"}})
        pod_manager.store.create("datasets", dataset)
        pod_manager.observe_group(a_group(datasets=(DatasetGrant(name="db"),)))
        await pod_manager.pods.create(an_admit())
        kinds = [change.plural for change in pod_manager.store.changes[-2:]]
        assert kinds == ["secrets", "pods"]
        assert pod_manager.store.get("secrets", "phjob-dataset-db") is not None

    run_scenario(scenario)


def test_a_secret_that_is_not_phjobs_is_kept_and_the_job_is_requeued() -> None:
    """The message names it, and the remedy."""

    async def scenario(pod_manager: SimulatedPodManager) -> None:
        foreign = {"metadata": {"name": "phjob-dataset-db"}, "type": "Opaque", "data": {"a": "b"}}
        kept = pod_manager.store.create("secrets", foreign)
        dataset = an_object("Dataset", "db", {"type": "env", "variables": {"password": "x"}})
        pod_manager.store.create("datasets", dataset)
        pod_manager.observe_group(a_group(datasets=(DatasetGrant(name="db"),)))
        with pytest.raises(PodCreationError, match="is not PhJob's: an operator has to delete") as failure:
            await pod_manager.pods.create(an_admit())
        assert failure.value.event is Event.POD_CREATION_REJECTED
        assert pod_manager.store.get("secrets", "phjob-dataset-db") == kept
        assert pod_manager.pod() is None

    run_scenario(scenario)


def test_a_rejection_by_pod_security_names_the_profile_of_the_group() -> None:
    """The setting, or the PhGroup's own (spec.md, P10)."""
    error = RejectedError(403, "Forbidden", 'violates PodSecurity "restricted:latest": runAsNonRoot != true')

    async def scenario(pod_manager: SimulatedPodManager) -> None:
        def reject(plural: str, body: Object) -> Object:
            raise error

        pod_manager.store.create = reject  # type: ignore[method-assign]
        with pytest.raises(PodCreationError, match="the security profile 'baseline'"):
            await pod_manager.pods.create(an_admit())
        pod_manager.observe_group(a_group(security_profile="sudo"))
        with pytest.raises(PodCreationError, match="the security profile 'sudo'"):
            await pod_manager.pods.create(an_admit())

    run_scenario(scenario)


def test_an_invalid_pod_fails_its_job_and_a_policy_does_not() -> None:
    """An operator may change the policy (spec.md, Q5, Q10)."""
    invalid = RejectedError(
        422, "Invalid", 'Pod "job-1" is invalid: spec.containers[0].image: Required value'
    )
    assert failure_of_creation(invalid) is Event.POD_INVALID
    for status in (400, 401, 403, 404, 409, 410, 422, 429, 500):
        denial = DeniedError(status, "", 'admission webhook "policy" denied the request: no')
        assert failure_of_creation(denial) is Event.POD_CREATION_REJECTED
    quota = RejectedError(403, "Forbidden", "exceeded quota: compute")
    assert failure_of_creation(quota) is Event.POD_CREATION_REJECTED


def test_a_pod_that_the_cluster_makes_larger_than_its_reservation_is_deleted() -> None:
    """RuntimeClass overhead and injected containers use the group's quota, too (spec.md, Q13)."""

    async def scenario(pod_manager: SimulatedPodManager) -> None:
        create = pod_manager.store.create

        def add(plural: str, body: Object) -> Object:
            spec = {**body["spec"], "overhead": {"cpu": "250m", "memory": "120Mi"}}
            return create(plural, {**body, "spec": spec} if plural == "pods" else body)

        pod_manager.store.create = add  # type: ignore[method-assign]
        with pytest.raises(PodCreationError) as failure:
            await pod_manager.pods.create(an_admit())
        overhead = {"cpu": 250, "memory": 120 * 2**20}
        assert (failure.value.event, failure.value.overhead) == (Event.POD_NOT_CREATABLE_YET, overhead)
        assert "the cluster adds cpu 250m, memory 120Mi to the pod" in str(failure.value)
        assert pod_manager.pod() is None
        _, pod = await pod_manager.pods.create(an_admit(number=2, overhead=overhead))
        assert pod.limits == {"cpu": 750, "memory": (256 + 120) * 2**20}

    run_scenario(scenario)
