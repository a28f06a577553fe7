"""The life of a service's process: start, start again, stop.

`run` connects to RabbitMQ and runs the service on that connection; when it breaks, all state is
dropped and it starts over, for the session protocol rebuilds it. A signal ends it in order.
"""

import asyncio
import gc
import os
import random
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import structlog
import uvloop

from shared import bus, health, log, metrics
from shared.consumer import Consumer
from shared.errors import RetryableError, SettingsError
from shared.settings import ServiceSettings

LONGEST_PAUSE = 2.0
"""Seconds between two tries to reach what is not reachable, at most."""

_log = structlog.get_logger()


class Service:
    """What a running service has of its process: its name, its readiness, its way out."""

    def __init__(self, name: str) -> None:
        self.name = name
        """Unique for each process."""
        self.connections = 0
        self.health = health.Health()
        self.stopping = asyncio.Event()

    @property
    def identity(self) -> str:
        """Unique for each connection to RabbitMQ: whatever is named after it, no later one names again."""
        return f"{self.name}.{self.connections}"

    async def follow(self, consumer: Consumer, failing: Callable[[], str] = lambda: "") -> None:
        """Run the consumer; the service is ready when it is, and nothing else is `failing`."""
        self.health.waiting_for = lambda: failing() if consumer.ready else "the watcher to tell it everything"
        await consumer.run()

    def stand_by(self) -> None:
        """Be ready: another replica does the work, and this one waits to take over."""
        self.health.waiting_for = lambda: ""

    async def pause(self, attempt: int, why: str) -> None:
        """Say what is missing and wait a little, longer each time, before trying again."""
        self.health.waiting_for = lambda: why
        seconds = min(0.25 * 2 ** min(attempt, 6), LONGEST_PAUSE) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        _log.warning("waiting", why=why, seconds=round(seconds, 1))
        await asyncio.sleep(seconds)


S = TypeVar("S", bound=ServiceSettings)
T = TypeVar("T")
Role = Callable[[Service, bus.Bus], Awaitable[None]]
"""A service's work on one connection to RabbitMQ, until it is cancelled or fails."""
Connect = Callable[[], AbstractAsyncContextManager[bus.Connection]]
"""Makes a new connection to RabbitMQ."""


def main(name: str, settings: ServiceSettings, role: Role) -> None:
    """Run the service until SIGTERM or SIGINT; the process's exit code is 0 then."""
    log.configure(name, settings.log_level)
    collect_garbage_seldom()
    uvloop.run(_main(name, settings, role))


def collect_garbage_seldom() -> None:
    """Let Python look for cycles less often: there are few, and to look through 100,000 jobs takes long.

    What is imported by now is never looked at again.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def load(settings: type[S]) -> S:
    """The settings of the environment; the settings file is read, too, to see whether it is good."""
    loaded = read(settings.load)
    read(loaded.file)
    return loaded


def read(settings: Callable[[], T]) -> T:
    """What is made of settings; a bad one is told in one line, and the process ends with code 2."""
    try:
        return settings()
    except SettingsError as error:
        sys.stderr.write(f"bad setting: {error}\n")
        sys.exit(2)


async def _main(name: str, settings: ServiceSettings, role: Role) -> None:
    service = Service(f"{name}@{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}")
    url, declare = str(settings.amqp_url), settings.amqp_declare

    def connect() -> AbstractAsyncContextManager[bus.Connection]:
        return bus.connect(url, service.name, settings.shards, declare=declare)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stopping.set)
    _log.info("starting", name=service.name)
    async with health.serve(service.health, settings.http_host, settings.http_port):
        work = asyncio.create_task(keep_running(service, connect, role))
        stop = asyncio.create_task(service.stopping.wait())
        await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
        service.health.waiting_for = lambda: "its end"
        work.cancel()
        stop.cancel()
        await asyncio.gather(work, stop, return_exceptions=True)
        if work.done() and not work.cancelled() and (error := work.exception()):
            _log.error("cannot_run", why=str(error))
            sys.exit(2)
    _log.info("stopped")


async def keep_running(service: Service, connect: Connect, role: Role) -> None:
    """Run the role on one connection after the other, until cancelled.

    Raises:
        SettingsError: it will never run with these settings.

    """
    attempt = 0
    while True:
        started = asyncio.get_running_loop().time()
        try:
            await _run_once(service, connect, role)
        except SettingsError:
            raise
        except Exception as failure:
            error = _first(failure)
            if not isinstance(error, RetryableError):
                _log.exception("service_failed")
            if asyncio.get_running_loop().time() - started > LONGEST_PAUSE:
                attempt = 0
            await service.pause(attempt, str(error))
            attempt += 1
        finally:
            metrics.broker_connected(False)  # noqa: FBT003


def _first(error: Exception) -> Exception:
    """The error itself, or the first of those that a task group gathered."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


async def _run_once(service: Service, connect: Connect, role: Role) -> None:
    """Run the role on a connection of its own, until either of the two fails."""
    service.connections += 1
    async with connect() as connection:
        metrics.broker_connected(True)  # noqa: FBT003
        service.health.stalled = lambda: connection.stalled
        work = asyncio.ensure_future(role(service, connection))
        try:
            await asyncio.wait((work, connection.broken), return_when=asyncio.FIRST_COMPLETED)
            if connection.broken.done():
                connection.broken.result()
            await work
        finally:
            service.health.stalled = lambda: ""
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
