import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.fakes.simulated_pod_manager import SimulatedPodManager, run_scenario
from tests.simulation.store import Object
from tests.support.builders import an_object

from phjob_core.errors import DeniedError, RejectedError
from phjob_pod_manager.dataset_secrets import MAX_NOTES, NOTE_SECONDS, DatasetSecrets, SecretRejectedError

SECRET = "phjob-dataset-db"


def run(scenario: Callable[[SimulatedPodManager, DatasetSecrets], Awaitable[None]]) -> None:
    async def main(pod_manager: SimulatedPodManager) -> None:
        secrets = DatasetSecrets(pod_manager.api, pod_manager.clock, pod_manager.retrier)
        await scenario(pod_manager, secrets)

    run_scenario(main)


def create(pod_manager: SimulatedPodManager, name: str = "db", **variables: Any) -> Object:
    """Create a dataset with these variables. Returns it as the server stored it."""
    return pod_manager.store.create(
        "datasets", an_object("Dataset", name, {"type": "env", "variables": variables})
    )


def change(pod_manager: SimulatedPodManager, **variables: Any) -> Object:
    """Change the variables of the dataset `db`. Returns it as the server stored it."""
    pod_manager.store.edit("datasets", "db", variables=variables)
    found = pod_manager.store.get("datasets", "db")
    assert found
    return found


def value(pod_manager: SimulatedPodManager) -> str | None:
    """Return the value of the variable `key` in the Secret; None if there is no Secret."""
    found = pod_manager.store.get("secrets", SECRET)
    return base64.b64decode(found["data"]["DB_KEY"]).decode() if found else None


def writes(pod_manager: SimulatedPodManager) -> int:
    return len(pod_manager.store.changes_of["secrets"])


def test_the_secret_follows_its_dataset() -> None:
    """It is created, and replaced when the dataset has changed. A usual job causes no write."""

    async def scenario(pod_manager: SimulatedPodManager, secrets: DatasetSecrets) -> None:
        dataset = create(pod_manager, key="1")
        for _ in range(3):
            await secrets.ensure(dataset)
        assert (value(pod_manager), writes(pod_manager)) == ("1", 1)
        await secrets.ensure(change(pod_manager, key="2"))
        assert (value(pod_manager), writes(pod_manager)) == ("2", 2)

    run(scenario)


def test_a_usual_job_needs_no_request() -> None:
    """The note lasts a minute."""

    async def scenario(pod_manager: SimulatedPodManager, secrets: DatasetSecrets) -> None:
        dataset = create(pod_manager, key="1")
        await secrets.ensure(dataset)
        pod_manager.api_faults.down = True
        await secrets.ensure(dataset)

    run(scenario)


def test_a_secret_that_somebody_deletes_or_changes_is_repaired() -> None:
    """At the latest when the note is over, which is before a job that waits for the Secret is requeued."""

    async def scenario(pod_manager: SimulatedPodManager, secrets: DatasetSecrets) -> None:
        dataset = create(pod_manager, key="1")
        await secrets.ensure(dataset)
        pod_manager.store.remove("secrets", SECRET)
        await asyncio.sleep(NOTE_SECONDS)
        await secrets.ensure(dataset)
        assert value(pod_manager) == "1"

    run(scenario)


def test_a_predecessors_secret_is_replaced_without_reading_it() -> None:
    """A new process has no notes, and no right to read."""

    async def scenario(pod_manager: SimulatedPodManager, secrets: DatasetSecrets) -> None:
        await secrets.ensure(create(pod_manager, key="1"))
        successor = DatasetSecrets(pod_manager.api, pod_manager.clock, pod_manager.retrier)
        await successor.ensure(change(pod_manager, key="2"))
        assert value(pod_manager) == "2"

    run(scenario)


def test_an_older_state_never_replaces_a_newer_one() -> None:
    """Two pods of one dataset may be created at the same time."""

    async def scenario(pod_manager: SimulatedPodManager, secrets: DatasetSecrets) -> None:
        old = create(pod_manager, key="1")
        new = change(pod_manager, key="2")
        await asyncio.gather(secrets.ensure(new), secrets.ensure(old))
        assert (value(pod_manager), writes(pod_manager)) == ("2", 1)

    run(scenario)


def test_the_secret_of_a_dataset_that_was_created_again_has_the_new_owner() -> None:
    """Otherwise Kubernetes would delete it with the old dataset."""

    async def scenario(pod_manager: SimulatedPodManager, secrets: DatasetSecrets) -> None:
        await secrets.ensure(create(pod_manager, key="1"))
        pod_manager.store.remove("datasets", "db")
        again = create(pod_manager, key="1")
        await secrets.ensure(again)
        found = pod_manager.store.get("secrets", SECRET)
        assert found
        assert found["metadata"]["ownerReferences"][0]["uid"] == again["metadata"]["uid"]

    run(scenario)


def test_a_foreign_secret_of_that_name_is_never_changed() -> None:
    """The API server keeps the type of a Secret, and ours has a type of its own."""

    async def scenario(pod_manager: SimulatedPodManager, secrets: DatasetSecrets) -> None:
        foreign = pod_manager.store.create(
            "secrets", {"metadata": {"name": SECRET}, "type": "Opaque", "data": {"a": "b"}}
        )
        with pytest.raises(SecretRejectedError, match=f"'{SECRET}', which dataset 'db' needs, exists"):
            await secrets.ensure(create(pod_manager, key="1"))
        assert pod_manager.store.get("secrets", SECRET) == foreign

    run(scenario)


TOO_LONG = RejectedError(422, "Invalid", "data: Too long: may not be more than 1048576 bytes")
BY_WEBHOOK = 'admission webhook "policy" denied the request: no'


@pytest.mark.parametrize(
    ("verb", "error"),
    [
        ("replace", TOO_LONG),
        ("create", TOO_LONG),
        # These statuses would otherwise mean that there is no such Secret, and that there is one.
        ("replace", DeniedError(404, "", BY_WEBHOOK)),
        ("create", DeniedError(409, "", BY_WEBHOOK)),
    ],
)
def test_a_rejected_secret_is_named_with_the_api_servers_words(verb: str, error: RejectedError) -> None:
    """For example if its values have more than 1 MiB."""

    async def scenario(pod_manager: SimulatedPodManager, secrets: DatasetSecrets) -> None:
        dataset = create(pod_manager, key="1")

        def reject(*_: Any) -> Object:
            raise error

        setattr(pod_manager.store, verb, reject)
        with pytest.raises(
            SecretRejectedError, match=f"'{SECRET}' of dataset 'db' cannot be written: {error}"
        ):
            await secrets.ensure(dataset)

    run(scenario)


def test_a_secret_that_others_create_and_delete_all_the_time_is_given_up() -> None:
    """The job is requeued instead of blocking its group."""

    async def scenario(pod_manager: SimulatedPodManager, secrets: DatasetSecrets) -> None:
        dataset = create(pod_manager, key="1")

        def taken(plural: str, body: Object) -> Object:
            raise RejectedError(409, "AlreadyExists", "secret already exists")

        pod_manager.store.create = taken  # type: ignore[method-assign]
        with pytest.raises(SecretRejectedError, match="created and deleted by others"):
            await secrets.ensure(dataset)

    run(scenario)


def test_the_number_of_notes_has_a_bound() -> None:
    """The oldest is forgotten, which costs one more write."""

    async def scenario(pod_manager: SimulatedPodManager, secrets: DatasetSecrets) -> None:
        datasets = [create(pod_manager, f"db-{number}", key="1") for number in range(MAX_NOTES + 1)]
        for dataset in datasets:
            await secrets.ensure(dataset)
        replaced: list[str] = []
        replace = pod_manager.store.replace

        def record(plural: str, name: str, body: Object) -> Object:
            replaced.append(name)
            return replace(plural, name, body)

        pod_manager.store.replace = record  # type: ignore[method-assign]
        await secrets.ensure(datasets[-1])
        assert replaced == []
        await secrets.ensure(datasets[0])
        assert replaced == ["phjob-dataset-db-0"]

    run(scenario)


def test_other_datasets_need_no_secret() -> None:
    """They are volumes."""

    async def scenario(pod_manager: SimulatedPodManager, secrets: DatasetSecrets) -> None:
        await secrets.ensure(
            pod_manager.store.create(
                "datasets", an_object("Dataset", "db", {"type": "pv", "volumeName": "v"})
            )
        )
        assert writes(pod_manager) == 0

    run(scenario)
