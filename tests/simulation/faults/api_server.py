"""Faults of the API server: outages, slow or failing requests, late watches, and foreign answers."""

import asyncio

from tests.simulation.broker import Moment
from tests.simulation.faults.context import CREATE, MAX_WAIT_SECONDS, REQUEUE, UNGATE, FaultContext
from tests.simulation.foreign_answers import INTERMEDIARY_ANSWERS, STARTING_ANSWERS, ForeignAnswers
from tests.simulation.kube import USUAL_WATCH_LAG_SECONDS, PendingRequest

from phjob_core.messages import Fence
from phjob_runtime.amqp.topology import POD_MANAGER, WATCHER


class ApiFaults:
    """The faults of the API server, each as a coroutine that also ends it."""

    def __init__(self, context: FaultContext) -> None:
        self._context = context

    async def shut_down(self) -> None:
        """Stop the server, and start it again."""
        if self._context.api.down:
            return
        seconds = self._context.random.uniform(0.2, 15)
        self._context.note(f"API server down for {seconds:.1f} s")
        self._context.api.down = True
        self._context.api.cut()
        await asyncio.sleep(seconds)
        self._context.api.down = False

    async def expire_watches(self) -> None:
        """Break all watches, and compact etcd, so that they cannot resume."""
        self._context.note("watches cut, etcd compacted")
        self._context.api.cut()
        await asyncio.sleep(self._context.random.choice((0, self._context.random.uniform(0, 2))))
        self._context.store.compacted_revision = self._context.store.revision

    async def expire_watches_after_pod_end(self) -> None:
        """Expire the watches right after a pod's end, before they have reported it."""
        self._context.api.watch_lag_of |= dict.fromkeys(
            ("phjobs", "pods"), self._context.random.uniform(1, 8)
        )
        await asyncio.sleep(self._context.random.uniform(0, 10))
        if await self._context.store.wait_for_removal("pods", 20):
            self._context.note("watches cut, etcd compacted, right after the removal of a pod")
            self._context.api.cut()
            self._context.store.compacted_revision = self._context.store.revision
        self._context.api.watch_lag_of.clear()

    async def fail_requests(self) -> None:
        """Let some requests and watches fail for a while, each in its own way."""
        api, random = self._context.api, self._context.random
        self._context.note("some requests and watches fail")
        api.unreached = random.choice((0, random.uniform(0, 0.3)))
        api.lost = random.choice((0, random.uniform(0, 0.3)))
        api.late = random.choice((0, random.uniform(0, 0.2)))
        api.error = random.choice((0, random.uniform(0, 0.3), 0.8))
        api.watch_break = random.choice((0, 0.1))
        await asyncio.sleep(random.uniform(2, 15))
        api.unreached = api.lost = api.late = api.error = api.watch_break = 0

    async def fail_pod_creations(self) -> None:
        """Answer creations of pods with 500, carried out or not, and report them late.

        Maybe disrupt the pod-manager that requeues a job because of that.
        """
        api, random = self._context.api, self._context.random
        share_done = random.choice((0, 0.5))
        creation = None
        if share_done:
            creation = await api.write_interceptor.wait_for(CREATE, MAX_WAIT_SECONDS)
        else:
            await self._context.wait_for_change("phjobs")
        self._context.note("API server answers creations of pods with 500")
        api.failing_writes[CREATE] = share_done
        api.watch_lag_of["pods"] = random.choice((0, random.uniform(5, 15)))
        if creation:
            await asyncio.sleep(random.choice((random.uniform(0, 0.1), random.uniform(0, 20))))
            creation.release()
        if random.random() < 0.5:
            await asyncio.sleep(random.uniform(5, 15))
        elif requeue := await api.write_interceptor.wait_for(REQUEUE, MAX_WAIT_SECONDS):
            api.failing_writes.pop(CREATE, None)
            disruption = asyncio.ensure_future(
                self._context.disrupt(requeue.process, f"while it requeues {requeue.name}")
            )
            await self._context.wait_for_pod(requeue.name)
            self._context.note(f"the write of {requeue.process.identity} arrives")
            requeue.release()
            await disruption
        api.failing_writes.pop(CREATE, None)
        api.watch_lag_of.pop("pods", None)

    async def delete_job_before_snapshot(self) -> None:
        """Delete a job whose pod loses its gate only after a new session's snapshot.

        The snapshot has neither the job nor the pod without a gate.
        """
        api, random = self._context.api, self._context.random
        removal = await api.write_interceptor.wait_for(UNGATE, MAX_WAIT_SECONDS)
        if removal is None:
            return
        if slot := self._context.installation.slot_of(removal.process):
            self._context.note(f"cut {slot} from the broker while it removes a gate")
            self._context.installation.cut(slot, notice=random.choice((0, random.uniform(0, 10))))
        if self._context.store.get("phjobs", removal.name):
            self._context.note(f"the user of {removal.name} deletes it while its pod's gate is removed")
            self._context.store.delete("phjobs", removal.name)
        api.watch_lag_of["pods"] = random.uniform(0.1, 5)
        await self._context.broker.message_interceptor.wait_for((Moment.RECEIVED, Fence), MAX_WAIT_SECONDS)
        await asyncio.sleep(random.uniform(0, 3))
        removal.release()
        await asyncio.sleep(random.uniform(0, 5))
        api.watch_lag_of.pop("pods", None)

    async def delay_creation(self) -> None:
        """Delay the creation of a pod by up to 15 minutes. Its sender may be dead by then."""
        random = self._context.random
        creation = await self._context.api.write_interceptor.wait_for(CREATE, MAX_WAIT_SECONDS)
        if creation is None:
            return
        if random.random() < 0.5:
            await self._context.disrupt(creation.process, f"while it creates {creation.name}")
        delay = random.choice((random.uniform(0, 5), random.uniform(5, 60), random.uniform(60, 900)))
        self._context.note(f"the creation of {creation.name} arrives {delay:.0f} s late")
        self._context.api.delayed_creations += 1
        asyncio.get_running_loop().call_later(delay, self._release_creation, creation)

    def _release_creation(self, creation: PendingRequest) -> None:
        self._context.api.delayed_creations -= 1
        self._context.note(f"the creation of {creation.name} arrives")
        creation.release()

    async def answer_as_starting_server(self) -> None:
        """Answer 401 and 403 for a while, as a server that has just started; maybe to one service only."""
        await self._answer_with(STARTING_ANSWERS)

    async def answer_as_intermediary(self) -> None:
        """Answer as proxies, quotas and webhooks do, for a while."""
        await self._answer_with(INTERMEDIARY_ANSWERS)

    async def _answer_with(self, kinds: tuple[str, ...]) -> None:
        random, foreign_answers = self._context.random, self._context.api.foreign_answers
        service = random.choice(("", POD_MANAGER, POD_MANAGER, WATCHER))
        share = random.choice((0.1, 0.5)) if kinds is STARTING_ANSWERS else 0.1
        if kinds is STARTING_ANSWERS and random.random() < 0.3:
            share = 1.0
        self._context.note(
            f"{share:.0%} of the requests of {service or 'all'} are answered with {', '.join(kinds)}"
        )
        foreign_answers[service] = ForeignAnswers(share, kinds)
        await asyncio.sleep(random.uniform(0.5, 8))
        foreign_answers.pop(service, None)

    async def delay_watches_of_one_process(self) -> None:
        """Delay the watches of one process, as if its API server were behind the others."""
        random = self._context.random
        process = self._context.installation.processes[random.choice(self._context.installation.slots)]
        seconds = random.uniform(1, 30)
        self._context.note(f"the watches of {process.identity} are {seconds:.1f} s behind")
        self._context.api.watch_lag_of[process.identity] = seconds
        await asyncio.sleep(random.uniform(5, 30))
        self._context.api.watch_lag_of.pop(process.identity, None)

    async def slow_down(self) -> None:
        """Answer all requests slowly for a while."""
        self._context.note("API server slow")
        before, self._context.api.latency = self._context.api.latency, self._context.random.uniform(0.2, 5)
        await asyncio.sleep(self._context.random.uniform(2, 10))
        self._context.api.latency = min(before, 0.05)

    async def delay_watches(self) -> None:
        """Delay all watches for a while."""
        self._context.note("watches lag")
        self._context.api.watch_lag = self._context.random.uniform(0.5, 6)
        await asyncio.sleep(self._context.random.uniform(2, 15))
        self._context.api.watch_lag = USUAL_WATCH_LAG_SECONDS

    async def delay_watches_of_one_kind(self) -> None:
        """Delay the watches of one kind, and lose the answers to some creations of pods.

        Without an answer, pod-manager learns of the pod only from the late watch.
        """
        plural, seconds = (
            self._context.random.choice(("phjobs", "pods", "pods")),
            self._context.random.uniform(1, 10),
        )
        self._context.note(f"the watch of {plural} is {seconds:.1f} s behind")
        self._context.api.watch_lag_of[plural] = seconds
        for _ in range(self._context.random.randint(0, 3)):
            if creation := await self._context.api.write_interceptor.wait_for(CREATE, 10):
                creation.release()
        await asyncio.sleep(self._context.random.uniform(5, 20))
        self._context.api.watch_lag_of.pop(plural, None)
