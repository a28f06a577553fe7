"""The users of a run. Each submits a job, and may later cancel, delete or edit it, or reuse its name."""

import asyncio
from contextlib import suppress
from random import Random
from typing import Any

from tests.simulation.scenario import (
    FINALIZERS,
    INSTANCE_TYPES,
    NAMES,
    NEW_IMAGES,
    RETRIES,
    SUSPENSIONS,
    USERS,
    Scenario,
)
from tests.simulation.store import Object, Store
from tests.support.builders import a_job, an_image

SUBMISSION_PERIOD_SECONDS = 25.0
"""The time from the beginning in which users submit jobs."""
CANCEL_BELOW, DELETE_BELOW, EDIT_BELOW = 0.15, 0.25, 0.35
"""Cumulative probabilities: a number drawn for a job selects the first one that exceeds it."""
SUSPENSION_PROBABILITY = 0.4
RETRY_PROBABILITY = 0.6
RETRY_CAUSES = ("Disruption", "NodeLost", "Failure")
FOREIGN_FINALIZER = "backup.example.com/record"
"""A finalizer of another tool on a job."""
A_USER = "a user"


def image_of(job: str) -> str:
    """Return the name of the image that a user may create for a job."""
    return f"image-of-{job}"


class Users:
    """All users of a run."""

    def __init__(self, store: Store, random: Random, scenario: Scenario) -> None:
        self._store = store
        self._random = random
        self._scenario = scenario

    async def submit(self, number: int) -> None:
        """Submit one job, and maybe change or delete it later."""
        random = self._random
        name, job = f"job-{number}", self._draw_job(f"job-{number}")
        choice = random.random()
        draws = Random(f"{self._scenario.draws} {name}")  # noqa: S311 - the same seed is the same run
        suspends = SUSPENSIONS in self._scenario.third_parties and draws.random() < SUSPENSION_PROBABILITY
        if suspends and draws.random() < 0.5:
            job["spec"]["suspend"] = True
        if RETRIES in self._scenario.third_parties and draws.random() < RETRY_PROBABILITY:
            causes = [cause for cause in RETRY_CAUSES if draws.random() < 0.7] or list(RETRY_CAUSES)
            job["spec"]["retry"] = {"limit": draws.randint(0, 3), "on": causes}
        await asyncio.sleep(
            random.choice((random.uniform(0, SUBMISSION_PERIOD_SECONDS), random.choice((1.0, 5.0, 12.0))))
        )
        self._create(job)
        if suspends:
            await asyncio.gather(self._change(name, choice), self._suspend(name, draws))
        else:
            await self._change(name, choice)

    async def _change(self, name: str, choice: float) -> None:
        """Cancel, delete or edit a job, or leave it as it is."""
        random = self._random
        await self._wait_to_change(name)
        if choice < CANCEL_BELOW:
            self._edit(name, cancel=True)
        elif choice < DELETE_BELOW:
            await self._delete(name)
        elif choice < EDIT_BELOW:
            self._edit(name, activeDeadlineSeconds=random.randint(1, 30))

    async def _suspend(self, name: str, draws: Random) -> None:
        """Suspend a job once or twice, and resume it each time."""
        for _ in range(draws.choice((1, 1, 2))):
            await asyncio.sleep(draws.uniform(0, 5))
            self._edit(name, suspend=True)
            await asyncio.sleep(draws.choice((draws.uniform(0, 10), draws.uniform(60, 120))))
            self._edit(name, suspend=False)

    def _draw_job(self, name: str) -> dict[str, Any]:
        random = self._random
        fields: dict[str, Any] = {"requeueLimit": 4}
        if random.random() < self._scenario.stuck:
            fields |= {"start": "never", "requeueLimit": random.randint(0, 2)}
        else:
            fields |= {"run_for": random.choice((0.0, random.uniform(0.2, 3), random.uniform(1, 20)))}
            fields |= {"exit_code": random.choice((0, 0, 0, 1))}
        if random.random() < 0.15:
            fields["activeDeadlineSeconds"] = random.randint(1, 8)
        if random.random() < 0.4:
            fields["ttlSecondsAfterFinished"] = random.randint(1, 20)
        group = random.choice(self._scenario.groups).name
        kind = random.choice(list(INSTANCE_TYPES))
        return a_job(name, group=group, user=random.choice(USERS), instanceType=kind, **fields)

    def _create(self, job: Object) -> None:
        if FINALIZERS in self._scenario.third_parties and self._random.random() < 0.3:
            job = {**job, "metadata": {**job["metadata"], "finalizers": [FOREIGN_FINALIZER]}}
        image = image_of(job["metadata"]["name"])
        with self._store.acting_as(A_USER):
            if NEW_IMAGES in self._scenario.third_parties and self._random.random() < 0.4:
                job = {**job, "spec": {**job["spec"], "image": image}}
                if self._store.get("images", image) is None:
                    self._store.create("images", an_image(image))
            self._store.create("phjobs", job)

    def _edit(self, name: str, **spec: Any) -> None:
        with self._store.acting_as(A_USER):
            self._store.edit("phjobs", name, **spec)

    async def _delete(self, name: str) -> None:
        """Delete a job, and maybe submit another one with its name. A finalizer may delay the deletion."""
        random, store = self._random, self._store
        with store.acting_as(A_USER):
            store.delete("phjobs", name)
        await asyncio.sleep(random.uniform(0, 8))
        job = store.get("phjobs", name)
        if job and job["metadata"].get("finalizers"):
            with store.acting_as("a backup tool"):
                store.patch("phjobs", name, [{"op": "add", "path": "/metadata/finalizers", "value": []}])
        if NAMES in self._scenario.third_parties and store.get("phjobs", name) is None:
            self._create(self._draw_job(name))

    async def _wait_to_change(self, name: str) -> None:
        """Wait for some time, or until just after the job's admission."""
        delay = self._random.expovariate(1 / 8)
        if self._random.random() < 0.5:
            await asyncio.sleep(delay)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(delay + 60):
                while (job := self._store.get("phjobs", name)) and job["status"]["phase"] == "Pending":
                    await self._store.wait_for_change("phjobs")
            await asyncio.sleep(self._random.uniform(0, 0.3))
