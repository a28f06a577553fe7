"""The adversary: what goes wrong, when, and for how long; drawn from the seed.

Each fault is over after a while, and at the end all of them are: what is dead is started again, what is
stopped goes on, and the weather is fine.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

from tests.simulation.broker import IN_FLIGHT, SLOWEST, Broker, Moment
from tests.simulation.installation import Installation, Post
from tests.simulation.kube import LAG, ApiWeather
from tests.simulation.process import Process
from tests.simulation.store import Store

from shared.bus import HEARTBEAT
from shared.messages import Admit, Fence
from shared.topology import POD_MANAGER, SCHEDULER

UNTIL = 60.0
"""Seconds from the beginning after which no fault begins any more."""
FINE = 0.01
"""The latency when all is well, in seconds."""
PATIENCE = 30.0
"""Seconds that a fault waits for its moment, at most."""
HEARTBEATS = 2.0 * HEARTBEAT
"""Seconds after which the broker gives a silent client up, at the earliest."""

ADMIT, REQUEUE, CREATE = ("admit", "phjobs"), ("requeue", "phjobs"), ("create", "pods")
"""Kinds of writes that faults wait for."""

Note = Callable[[str], None]


class Adversary:
    """Breaks one installation and its neighbours."""

    def __init__(
        self,
        random: Random,
        installation: Installation,
        store: Store,
        api: ApiWeather,
        broker: Broker,
        note: Note,
    ) -> None:
        """`note` takes a line about each fault, for the trace."""
        self._random = random
        self._installation = installation
        self._store = store
        self._api = api
        self._broker = broker
        self._note = note
        self._busy: set[Post] = set()

    async def run(self) -> None:
        """Do so until the time is over, and end when everything is well again."""
        random, loop = self._random, asyncio.get_running_loop()
        faults: list[Callable[[], Awaitable[None]]] = [
            self._kill, self._kill, self._stop, self._stop_long, self._terminate, self._cut,
            self._cut_unnoticed, self._restart_broker,
            self._wipe_broker, self._purge, self._block, self._api_down, self._expire,
            self._flaky_api, self._flaky_api, self._slow_api, self._lagging_watches, self._duplicates,
            self._kill_while_it_writes, self._losses,
            self._strike_a_writer, self._strike_a_writer, self._strike_at_an_order, self._strike_at_an_order,
            self._one_watch_lags, self._expire_unseen, self._trouble_with_pods,
            self._delete_behind_a_fence, self._settle_behind_its_back,
            self._begin_a_session_amid_an_admission,
        ]  # fmt: skip
        pace = random.choice((1.0, 3.0, 10.0))
        chosen = random.sample(faults, random.randint(1, 8))
        aimed = random.choice(("", "phjobs", "pods"))
        running: list[asyncio.Task[None]] = []
        while True:
            await asyncio.sleep(random.expovariate(1 / pace))
            if aimed:
                await self._something_happens(aimed)
            if loop.time() > UNTIL:
                break
            running.append(asyncio.ensure_future(random.choice(chosen)()))
        await asyncio.gather(*running)
        self._api.latency = self._broker.weather.latency = FINE
        over = loop.time()
        while any(made <= over for made in self._api.under_way.values()):  # noqa: ASYNC110 - time is simulated
            await asyncio.sleep(0.1)  # Their senders still wait for what was slow or is lost.
        await asyncio.sleep(SLOWEST)
        self._note("no more faults")

    async def _something_happens(self, plural: str, *, at_once: bool = False) -> None:
        """Wait for a change: most of what can go wrong goes wrong right after one."""
        try:
            async with asyncio.timeout(10):
                await self._store.changed(plural)
        except TimeoutError:
            return
        if not at_once:
            await asyncio.sleep(self._random.choice((0, self._random.uniform(0, 0.2))))

    # --- processes ---

    async def _kill(self) -> None:
        if (post := self._victim()) is None:
            return
        self._note(f"kill -9 {post}")
        self._installation.kill(post)
        await self._start_again(post)

    async def _terminate(self) -> None:
        if (post := self._victim()) is None:
            return
        self._note(f"kill -TERM {post}")
        ended = asyncio.Event()
        self._installation.terminate(post, ended.set)
        await ended.wait()
        self._installation.cut(post)
        await self._start_again(post)

    async def _kill_while_it_writes(self) -> None:
        """Kill a pod-manager while it writes: that is done later, when nobody expects it."""
        posts = [post for post in self._installation.posts if post.service == POD_MANAGER]
        post = self._random.choice(posts)
        if post in self._busy or self._api.late:
            return
        self._busy.add(post)
        self._api.late = 0.7
        await self._something_happens("phjobs")
        await asyncio.sleep(self._random.uniform(0, 2))
        self._api.late = 0
        self._note(f"kill -9 {post} while it writes")
        self._installation.kill(post)
        await self._start_again(post)

    async def _start_again(self, post: Post) -> None:
        await asyncio.sleep(self._random.choice((0.2, self._random.uniform(0.2, 10))))
        self._note(f"start {post}")
        self._installation.start(post)
        self._busy.discard(post)

    async def _stop(self) -> None:
        await self._stop_one(self._random.uniform(0.5, 6))

    async def _stop_long(self) -> None:
        await self._stop_one(self._random.uniform(15, 50))

    async def _stop_one(self, seconds: float) -> None:
        if post := self._victim():
            await self._stop_for(post, seconds)

    async def _stop_for(self, post: Post, seconds: float) -> None:
        self._note(f"kill -STOP {post} for {seconds:.1f} s")
        self._installation.processes[post].stop()
        patience = HEARTBEATS + self._random.uniform(0, 10)
        if seconds > patience:
            await asyncio.sleep(patience)
            # It learns of it a little after it goes on: a zombie.
            zombie = self._random.uniform(0, 1)
            self._installation.cut(post, notice=zombie + seconds - patience)
            seconds -= patience
        await asyncio.sleep(seconds)
        self._note(f"kill -CONT {post}")
        self._installation.processes[post].go_on()
        self._busy.discard(post)

    def _victim(self) -> Post | None:
        """A process to which nothing is being done."""
        free = [post for post in self._installation.posts if post not in self._busy]
        if not free:
            return None
        post = self._random.choice(free)
        self._busy.add(post)
        return post

    # --- right at the moment ---

    async def _strike_a_writer(self) -> None:
        """Strike a pod-manager whose write is on its way: that is done later, amid others' writes."""
        random = self._random
        kind = random.choice((ADMIT, ADMIT, ("patch", "phjobs"), REQUEUE, CREATE, ("delete", "pods")))
        held = await self._api.writes.next(kind, PATIENCE)
        if held is None:
            return
        # At once, or when what it has acknowledged before is acknowledged.
        await asyncio.sleep(random.choice((0, random.uniform(0, 4 * self._broker.weather.latency))))
        struck = asyncio.ensure_future(self._strike(held.process, f"while it makes a {kind[0]} of {kind[1]}"))
        if kind[0] == "create":
            await asyncio.sleep(random.uniform(0, 0.1))  # Later still: ARCHITECTURE.md, Known limit.
        elif (
            then := random.choice(("later", "amid changes", "when there is a pod", "at a fence"))
        ) == "later":
            await asyncio.sleep(random.choice((random.uniform(0, 0.1), random.uniform(0, 15))))
        elif then == "amid changes":
            await self._some_changes()
        elif then == "when there is a pod":
            await self._has_pod(held.name)
        elif await self._broker.moments.next((Moment.RECEIVED, Fence), PATIENCE) and held.name:
            self._note(f"the user of {held.name} cancels it")
            self._store.edit("phjobs", held.name, cancel=True)
            await self._another_is_admitted(held.name)
        self._note(f"what {held.process.identity} has written arrives")
        held.let_go()
        await struck

    async def _settle_behind_its_back(self) -> None:
        """Let a successor settle the order that a pod-manager writes, but not yet the next one.

        Or let that be written when the next session has begun.
        """
        writes, random = self._api.writes, self._random
        if (admission := await writes.next(ADMIT, PATIENCE)) is None:
            return
        await asyncio.sleep(random.choice((0, random.uniform(0, 0.2))))
        post = self._installation.post_of(admission.process)
        if post and post not in self._busy:
            self._note(f"cut {post} from the broker while it admits {admission.name}")
            self._installation.cut(post, notice=random.uniform(5, 20))
            if random.random() < 0.5:
                await self._broker.moments.next((Moment.RECEIVED, Fence), PATIENCE)
                await asyncio.sleep(random.uniform(0, 2))
            elif settlement := await writes.next(("settle", "phjobs"), random.uniform(1, 20)):
                self._note(f"{settlement.process.identity} settles {settlement.name}, and does not know")
                settlement.let_go()
        admission.let_go()

    async def _begin_a_session_amid_an_admission(self) -> None:
        """Cut the scheduler off while its order is being written: the next session's fence comes first."""
        random = self._random
        if (held := await self._api.writes.next(ADMIT, PATIENCE)) is None:
            return
        self._note(f"cut the scheduler from the broker while {held.name} is admitted")
        for post in self._installation.posts:
            if post.service == SCHEDULER:
                self._installation.cut(post, notice=0)
        if await self._broker.moments.next((Moment.RECEIVED, Fence), PATIENCE):
            await asyncio.sleep(random.choice((0, random.uniform(0, 5))))
        held.let_go()

    async def _strike_at_an_order(self) -> None:
        """Strike a scheduler that has just ordered, or a pod-manager that was just given an order."""
        moment = self._random.choice((Moment.SENT, Moment.RECEIVED))
        process = await self._broker.moments.next(
            (moment, self._random.choice((Admit, Admit, Fence))), PATIENCE
        )
        if process:
            random = self._random
            await asyncio.sleep(random.choice((0, 0, random.uniform(0, 0.01), random.uniform(0, 0.2))))
            await self._strike(process, f"which has just {moment.name.lower()} an order")

    async def _strike(self, process: Process, when: str) -> None:
        """Kill it, cut it off, or stop it."""
        random, post = self._random, self._installation.post_of(process)
        if post is None or post in self._busy:
            return
        straggle = random.choice((0, random.uniform(0, IN_FLIGHT)))
        arrival = asyncio.ensure_future(self._arrive_amid_changes())
        match random.choice(("kill", "cut", "cut", "stop")):
            case "kill":
                self._busy.add(post)
                self._note(f"kill -9 {post} {when}")
                self._installation.kill(post, straggle=straggle)
                await self._start_again(post)
            case "cut":
                seconds = random.choice((random.uniform(0, 0.2), random.uniform(1, 20)))
                self._note(f"cut {post} from the broker {when}, noticed after {seconds:.1f} s")
                self._installation.cut(post, notice=seconds, straggle=straggle)
                await asyncio.sleep(seconds)
            case _:
                self._busy.add(post)
                await self._stop_for(post, random.choice((random.uniform(0.5, 6), random.uniform(15, 50))))
        await arrival

    async def _arrive_amid_changes(self) -> None:
        """Let what lost connections have sent come when nobody expects it any more: after some changes."""
        await self._some_changes()
        self._broker.hurry()

    async def _another_is_admitted(self, name: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while True:
                    await self._store.changed("phjobs")
                    job = self._store.of["phjobs"][-1].object
                    if job["status"].get("reason") == "Admitted" and job["metadata"]["name"] != name:
                        return

    async def _has_pod(self, name: str) -> None:
        """Wait until the object has a pod, or if it is not known which, until any pod changes."""
        await self._something_happens("pods", at_once=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while name and not self._store.get("pods", name):
                    await self._store.changed("pods")

    async def _some_changes(self) -> None:
        for _ in range(self._random.choice((1, 1, 1, 2, 3, 6))):
            await self._something_happens("phjobs", at_once=True)

    # --- the broker ---

    async def _cut(self) -> None:
        post = self._random.choice(self._installation.posts)
        self._note(f"cut {post} from the broker")
        self._installation.cut(post, notice=self._random.uniform(0, 0.2))

    async def _cut_unnoticed(self) -> None:
        post = self._random.choice(self._installation.posts)
        seconds = self._random.uniform(1, 20)
        self._note(f"cut {post} from the broker, noticed after {seconds:.1f} s")
        self._installation.cut(post, notice=seconds)
        await asyncio.sleep(seconds)

    async def _restart_broker(self) -> None:
        await self._broker_away(wiped=False)

    async def _wipe_broker(self) -> None:
        if not any(post.service == POD_MANAGER for post in self._busy):  # ARCHITECTURE.md, Known limit.
            await self._broker_away(wiped=True)

    async def _broker_away(self, *, wiped: bool) -> None:
        if self._broker.weather.down:
            return
        seconds = self._random.uniform(0.2, 12)
        self._note(f"broker {'wiped' if wiped else 'restarted'}, back after {seconds:.1f} s")
        self._broker.weather.down = True
        if wiped:
            self._api.hurry()  # ARCHITECTURE.md, Known limit.
        self._broker.restart(wiped=wiped)
        await asyncio.sleep(seconds)
        self._broker.weather.down = False

    async def _purge(self) -> None:
        queue = self._random.choice(list(self._broker.queues))
        self._note(f"purge {queue}")
        self._broker.purge(queue)

    async def _block(self) -> None:
        if self._broker.weather.blocked:
            return
        seconds = self._random.uniform(0.5, 12)
        self._note(f"broker takes no messages for {seconds:.1f} s")
        self._broker.weather.blocked = True
        await asyncio.sleep(seconds)
        self._broker.unblock()

    async def _losses(self) -> None:
        self._note("broker loses what the watcher tells")
        self._broker.weather.losses = 0.1
        await asyncio.sleep(self._random.uniform(1, 10))
        self._broker.weather.losses = 0

    async def _duplicates(self) -> None:
        self._note("broker duplicates messages")
        self._broker.weather.duplicates = 0.2
        await asyncio.sleep(self._random.uniform(1, 15))
        self._broker.weather.duplicates = 0

    # --- the API server ---

    async def _api_down(self) -> None:
        if self._api.down:
            return
        seconds = self._random.uniform(0.2, 15)
        self._note(f"API server away for {seconds:.1f} s")
        self._api.down = True
        self._api.cut()
        await asyncio.sleep(seconds)
        self._api.down = False

    async def _expire(self) -> None:
        self._note("watches cut, etcd compacted")
        self._api.cut()
        await asyncio.sleep(self._random.choice((0, self._random.uniform(0, 2))))
        self._store.compacted = self._store.revision

    async def _expire_unseen(self) -> None:
        """Let a pod come and go while the watches are behind, and nobody know it any more."""
        self._api.behind |= dict.fromkeys(("phjobs", "pods"), self._random.uniform(1, 8))
        await asyncio.sleep(self._random.uniform(0, 10))
        if await self._store.removed("pods", 20):
            self._note("watches cut, etcd compacted, right after a pod was gone")
            self._api.cut()
            self._store.compacted = self._store.revision
        self._api.behind.clear()

    async def _flaky_api(self) -> None:
        api, random = self._api, self._random
        self._note("API server flaky")
        api.unreached = random.choice((0, random.uniform(0, 0.3)))
        api.lost = random.choice((0, random.uniform(0, 0.3)))
        api.late = random.choice((0, random.uniform(0, 0.2)))
        api.error = random.choice((0, random.uniform(0, 0.3), 0.8))
        api.breaks = random.choice((0, 0.1))
        await asyncio.sleep(random.uniform(2, 15))
        api.unreached = api.lost = api.late = api.error = api.breaks = 0

    async def _trouble_with_pods(self) -> None:
        """Create pods or not, say 500, and tell of them late; strike one who requeues a job for it."""
        api, random = self._api, self._random
        done = random.choice((0, 0.5))
        held = None
        if done:
            held = await api.writes.next(CREATE, PATIENCE)
        else:
            await self._something_happens("phjobs")
        self._note("API server answers creations of pods with 500")
        api.trouble[CREATE] = done
        api.behind["pods"] = random.choice((0, random.uniform(5, 15)))
        if held:
            await asyncio.sleep(random.uniform(0, 0.1))  # Later still: ARCHITECTURE.md, Known limit.
            held.let_go()
        if random.random() < 0.5:
            await asyncio.sleep(random.uniform(5, 15))
        elif held := await api.writes.next(REQUEUE, PATIENCE):
            api.trouble.pop(CREATE, None)
            struck = asyncio.ensure_future(self._strike(held.process, f"while it requeues {held.name}"))
            await self._has_pod(held.name)
            self._note(f"what {held.process.identity} has written arrives")
            held.let_go()
            await struck
        api.trouble.pop(CREATE, None)
        api.behind.pop("pods", None)

    async def _delete_behind_a_fence(self) -> None:
        """Delete a job of which a new session will know nothing, while its pod is on its way."""
        api, random = self._api, self._random
        if (admission := await api.writes.next(ADMIT, PATIENCE)) is None:
            return
        admission.let_go()
        if post := self._installation.post_of(admission.process):
            self._note(f"cut {post} from the broker when {admission.name} is admitted")
            self._installation.cut(post, notice=0)
        if await self._broker.moments.next((Moment.RECEIVED, Fence), PATIENCE) is None:
            return
        held = await api.writes.next(CREATE, 5)
        if held is None or self._store.get("phjobs", held.name) is None:
            return
        self._note(f"the user of {held.name} deletes it while its pod is on its way")
        self._store.delete("phjobs", held.name)
        api.behind["pods"] = random.uniform(0.1, 5)
        connections = [one for one in self._broker.connections if one.process is held.process]
        for _ in range(random.randint(2, 20)):
            await asyncio.sleep(0.05)
            if not {*connections} & {*self._broker.connections}:
                break  # Later still: ARCHITECTURE.md, Known limit.
        held.let_go()
        await asyncio.sleep(random.uniform(0, 5))
        api.behind.pop("pods", None)

    async def _slow_api(self) -> None:
        self._note("API server slow")
        before, self._api.latency = self._api.latency, self._random.uniform(0.2, 5)
        await asyncio.sleep(self._random.uniform(2, 10))
        self._api.latency = min(before, 0.05)

    async def _lagging_watches(self) -> None:
        self._note("watches lag")
        self._api.lag = self._random.uniform(0.5, 6)
        await asyncio.sleep(self._random.uniform(2, 15))
        self._api.lag = LAG

    async def _one_watch_lags(self) -> None:
        """Let one kind be told later than the others, while answers that tell it sooner get lost."""
        plural, seconds = self._random.choice(("phjobs", "pods", "pods")), self._random.uniform(1, 10)
        self._note(f"the watch of {plural} is {seconds:.1f} s behind")
        self._api.behind[plural] = seconds
        for _ in range(self._random.randint(0, 3)):
            if held := await self._api.writes.next(CREATE, 10):
                held.let_go()
        await asyncio.sleep(self._random.uniform(5, 20))
        self._api.behind.pop(plural, None)
