"""The life of a service: reconnecting, its readiness meanwhile, and bad settings."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from phjob_core.errors import RejectedError, RetryableError, SettingsError
from phjob_runtime import service as runtime
from phjob_runtime.amqp.port import Bus, Connection
from phjob_runtime.service import Service, exit_on_bad_setting, run_with_reconnect


class FakeConnection:
    """A connection that the test can break."""

    def __init__(self) -> None:
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stall_reason = ""
        self.is_closed = False


class Broker:
    """The connections of one service, one after the other."""

    def __init__(self) -> None:
        self.connections: list[FakeConnection] = []
        self.service = Service("janitor@host-1")
        self._connected = asyncio.Event()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        connection = FakeConnection()
        self.connections.append(connection)
        self._connected.set()
        try:
            yield connection  # type: ignore[misc]
        finally:
            connection.is_closed = True

    async def has_connected(self, number: int) -> None:
        """Wait until the service has had so many connections."""
        while len(self.connections) < number:
            self._connected.clear()
            await self._connected.wait()


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The failures in a row at each wait. No wait takes any time."""
    failures: list[int] = []

    def no_delay(_: object, count: int) -> float:
        failures.append(count)
        return 0.0

    monkeypatch.setattr(runtime, "retry_delay", no_delay)
    return failures


async def run(broker: Broker, role: runtime.Role, connections: int) -> None:
    """Run the role until it has had so many connections, or has ended."""
    running = asyncio.create_task(run_with_reconnect(broker.service, broker.connect, role))
    enough = asyncio.create_task(broker.has_connected(connections))
    await asyncio.wait((running, enough), timeout=10, return_when=asyncio.FIRST_COMPLETED)
    enough.cancel()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    if not running.cancelled():
        running.result()


async def test_a_role_that_fails_starts_again_on_a_new_connection(delays: list[int]) -> None:
    """With a new identity, because sessions are named after it."""
    broker = Broker()
    identities: list[str] = []

    async def role(service: Service, _: Bus) -> None:
        identities.append(service.identity)
        raise RetryableError("the API server does not answer")

    await run(broker, role, 4)
    assert identities[:3] == ["janitor@host-1.1", "janitor@host-1.2", "janitor@host-1.3"]
    assert delays[:3] == [1, 2, 3]
    assert all(connection.is_closed for connection in broker.connections[:3])


async def test_a_broken_connection_ends_its_role(delays: list[int]) -> None:
    """The role would work with the state of a stream that is over."""
    broker = Broker()
    ended: list[int] = []

    async def role(_: Service, __: Bus) -> None:
        number = len(broker.connections)
        if number == 1:
            broker.connections[0].broken.set_exception(RetryableError("the connection was lost"))
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    await run(broker, role, 2)
    assert ended[0] == 1
    assert delays == [1]


async def test_an_unexpected_error_starts_the_role_again_too(delays: list[int]) -> None:
    """An error in one handler must not end a service for good."""
    broker = Broker()

    async def role(_: Service, __: Bus) -> None:
        raise ExceptionGroup("", [RejectedError(403, "Forbidden", "no"), ZeroDivisionError()])

    await run(broker, role, 3)
    assert delays[:2] == [1, 2]


async def test_a_bad_setting_ends_the_service(delays: list[int]) -> None:
    """No reconnection would make it better (spec.md, S6)."""
    broker = Broker()

    async def role(_: Service, __: Bus) -> None:
        raise SettingsError("KUBECONFIG: no such file")

    with pytest.raises(SettingsError):
        await run(broker, role, 2)
    assert len(broker.connections) == 1
    assert delays == []


async def test_readyz_gives_the_error_until_the_next_attempt(delays: list[int]) -> None:
    """Operators see why a service is not ready (docs/operate.md, Troubleshoot)."""
    broker = Broker()
    await broker.service.back_off(1, "RabbitMQ is not reachable")
    assert broker.service.readiness.reason == "the next attempt: RabbitMQ is not reachable"
    assert delays == [1]


async def test_a_stalled_connection_makes_a_service_unready_only_while_it_lasts() -> None:
    """A service that works on the next connection is ready again."""
    broker = Broker()
    reasons: list[str] = []
    done = asyncio.Event()

    async def role(service: Service, _: Bus) -> None:
        service.mark_standby()
        reasons.append(service.readiness.reason)
        broker.connections[-1].stall_reason = "RabbitMQ to accept messages: 5 unconfirmed"
        await asyncio.sleep(0)
        reasons.append(service.readiness.reason)
        done.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(run_with_reconnect(broker.service, broker.connect, role))
    await asyncio.wait_for(done.wait(), 10)
    assert reasons == ["", "RabbitMQ to accept messages: 5 unconfirmed"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert broker.service.readiness.reason == ""


def test_a_bad_setting_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 2 (spec.md, S6)."""

    def read() -> None:
        raise SettingsError("environment: HTTP_PORT: too large")

    with pytest.raises(SystemExit) as exit_:
        exit_on_bad_setting(read)
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "bad setting: environment: HTTP_PORT: too large\n"
    assert exit_on_bad_setting(lambda: 7) == 7
