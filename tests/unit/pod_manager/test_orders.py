"""Which orders are written, on the simulated API server and clock."""

import asyncio
from contextlib import suppress
from random import Random

from tests.simulation.kube import ApiWeather, SimulatedKube
from tests.simulation.loop import SimulatedLoop
from tests.simulation.process import Process, ProcessClock
from tests.simulation.store import Store
from tests.support.builders import a_job

from pod_manager.events import Events
from pod_manager.jobs import Jobs
from pod_manager.logs import Logs
from pod_manager.orders import Orders
from pod_manager.pods import Pods
from pod_manager.writes import Writer
from shared.messages import Admit, Fence, Message
from shared.session import Envelope, Stream
from shared.settings import JobSubmission

SESSION = "scheduler/1"


def in_store(*messages: Message, settled: str = "") -> dict[str, str]:
    """The phase of each of two jobs after a pod-manager got the messages; one may be settled before."""
    loop = SimulatedLoop()
    store = Store(loop.time)
    for name in ("job-1", "job-2"):
        store.create("phjobs", a_job(name))
    if settled:
        store.patch("phjobs", settled, [{"op": "add", "path": "/status/fence", "value": "successor!1"}])
    try:
        loop.run_until_complete(_obey(store, messages))
    finally:
        loop.close()
    return {job["metadata"]["name"]: job["status"]["phase"] for job in store.all("phjobs")}


async def _obey(store: Store, messages: tuple[Message, ...]) -> None:
    process = Process("pod-manager", "pod-manager-1")
    weather = ApiWeather(Random(1))  # noqa: S311 - it is to be repeated
    clock, api = ProcessClock(process), SimulatedKube(store, weather, process)
    writer = Writer(clock)
    pods, logs = Pods(api, clock, writer, JobSubmission()), Logs(api, clock, None, 0)
    jobs = Jobs(api, clock, writer, pods, logs, Events(api, clock))
    orders = Orders(api, clock, writer, jobs, Stream("pod-manager", "1", lambda *_: None), 0)
    acknowledged: list[int] = []
    for number, message in enumerate(messages):
        envelope = Envelope("scheduler", SESSION, number, message)
        orders.receive(envelope, lambda _="", number=number: acknowledged.append(number))
    with suppress(TimeoutError):
        async with asyncio.timeout(60):
            await orders.run()
    assert sorted(acknowledged) == list(range(len(messages)))
    await orders.close()


def admit(name: str, number: int) -> Admit:
    """An order for one of the two jobs, as they were created."""
    uid = {"job-1": "phjobs-1", "job-2": "phjobs-2"}[name]
    return Admit(
        uid=uid, name=name, group="phusers", fence="", token=f"{SESSION}#{number}", revision=1, resources={}
    )


FENCE = Fence(session=SESSION, queue="scheduler.0")


def test_orders_of_the_session_are_written() -> None:
    """Both, in their order."""
    phases = in_store(FENCE, admit("job-1", 1), admit("job-2", 2))
    assert phases == {"job-1": "Preparing", "job-2": "Preparing"}


def test_an_order_behind_one_that_a_successor_has_settled_is_not_written() -> None:
    """Who slept and wakes up with orders in hand would let the second job go before the first."""
    phases = in_store(FENCE, admit("job-1", 1), admit("job-2", 2), settled="job-1")
    assert phases == {"job-1": "Pending", "job-2": "Pending"}


def test_an_order_behind_one_for_a_job_that_is_gone_is_written() -> None:
    """That one was refused for a reason of its own."""
    gone = admit("job-1", 1).model_copy(update={"name": "job-0", "uid": "phjobs-0"})
    assert in_store(FENCE, gone, admit("job-2", 2)) == {"job-1": "Pending", "job-2": "Preparing"}
