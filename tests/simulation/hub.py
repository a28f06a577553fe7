"""JupyterHub in a run: users start Jupyter servers, whose pods wait for PhJob to remove their gate.

A user waits for a server, or gives up and stops it. The hub deletes the pod of a stopped server.
"""

import asyncio
from random import Random

from tests.simulation.nodes import is_gated
from tests.simulation.scenario import GPU, USERS, Scenario
from tests.simulation.store import Object, Store
from tests.support.builders import a_gated_notebook

MAX_SERVERS = 4
MAX_START_SECONDS = 50
"""The maximum time from the beginning of a run to the start of a server."""
MAX_RUN_SECONDS = 15
JUPYTERHUB = "JupyterHub"


class Hub:
    """All Jupyter servers of a run."""

    def __init__(self, store: Store, scenario: Scenario) -> None:
        self._store = store
        self._scenario = scenario
        self._random = Random(f"{scenario.draws} hub")  # noqa: S311 - the same seed is the same run

    async def run(self) -> None:
        """Run a few servers, each to its end."""
        servers = range(1, self._random.randint(1, MAX_SERVERS) + 1)
        await asyncio.gather(*map(self._run_server, servers))

    async def _run_server(self, number: int) -> None:
        random, store = self._random, self._store
        group, user = random.choice(self._scenario.groups), random.choice(USERS)
        gpus, patience = random.choice((1, 1, 2)), random.choice((None, None, random.uniform(0.2, 20)))
        run_for = random.uniform(1, MAX_RUN_SECONDS)
        await asyncio.sleep(random.uniform(0, MAX_START_SECONDS))
        name = f"jupyter-{user}--{number}"
        manifest = a_gated_notebook(name, group=group.name, user=user, **{GPU: str(gpus)})
        with store.acting_as(JUPYTERHUB):
            uid = store.create("pods", manifest)["metadata"]["uid"]
        if await self._wait_for_admission(name, uid, patience):
            await asyncio.sleep(random.uniform(0.05, 1))
            if self._pod(name, uid):
                store.bind(name, "node-1")
            await asyncio.sleep(run_for)
        with store.acting_as(JUPYTERHUB):
            if self._pod(name, uid):
                store.remove("pods", name)

    async def _wait_for_admission(self, name: str, uid: str, patience: float | None) -> bool:
        """Wait until the pod has lost its gate. Returns whether it has.

        `patience`: how long its user waits, in seconds; None: forever.
        """
        try:
            async with asyncio.timeout(patience):
                while (pod := self._pod(name, uid)) and is_gated(pod):
                    await self._store.wait_for_change("pods")
        except TimeoutError:
            return False
        return pod is not None

    def _pod(self, name: str, uid: str) -> Object | None:
        pod = self._store.get("pods", name)
        return pod if pod and pod["metadata"]["uid"] == uid else None
