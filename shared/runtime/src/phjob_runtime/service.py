"""The life of a service's process: start, reconnect, stop.

`main` connects to RabbitMQ and runs the service on that connection. When the connection breaks, the service
discards all state and starts again, because the session protocol rebuilds the state. A signal stops the
process in order.
"""

import asyncio
import gc
import os
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import structlog
import uvloop

from phjob_core.backoff import Backoff
from phjob_core.errors import RetryableError, SettingsError, UnreachableError
from phjob_runtime import log, metrics, readiness
from phjob_runtime.amqp import bus
from phjob_runtime.amqp.port import Bus, Connection
from phjob_runtime.consumer import Consumer
from phjob_runtime.retry import retry_delay
from phjob_runtime.settings import ServiceSettings

RECONNECT_BACKOFF = Backoff(first=0.25, longest=2.0, jitter=0.2)
"""The delay before the next attempt to connect."""

_log = structlog.get_logger()


class Service:
    """The identity of a running service, its readiness, and the request to stop it."""

    def __init__(self, name: str) -> None:
        self.name = name
        """A unique name of the process."""
        self.connections = 0
        """The number of connections to RabbitMQ up to now."""
        self.readiness = readiness.Readiness()
        self.stopping = asyncio.Event()

    @property
    def identity(self) -> str:
        """A unique name of the connection.

        Sessions are named after it, so no later one has an old name.
        """
        return f"{self.name}.{self.connections}"

    async def run_consumer(self, consumer: Consumer, failing: readiness.Check = lambda: "") -> None:
        """Run the consumer.

        The service is ready while the consumer is and `failing` returns no reason.
        """
        self.readiness.set_check(lambda: failing() if consumer.is_ready else "a snapshot from the watcher")
        await consumer.run()

    def mark_standby(self) -> None:
        """Make the service ready, because it waits to take over from another replica."""
        self.readiness.set_ready()

    async def back_off(self, failures: int, reason: str) -> None:
        """Wait before the next attempt, after this number of failures in a row."""
        self.readiness.set_waiting(f"the next attempt: {reason}")
        seconds = retry_delay(RECONNECT_BACKOFF, failures)
        _log.warning("retry_scheduled", reason=reason, seconds=round(seconds, 1))
        await asyncio.sleep(seconds)


S = TypeVar("S", bound=ServiceSettings)
T = TypeVar("T")
Role = Callable[[Service, Bus], Awaitable[None]]
"""A service's work on one connection to RabbitMQ, until it is cancelled or fails."""
Connect = Callable[[], AbstractAsyncContextManager[Connection]]
"""Opens a new connection to RabbitMQ."""


def main(name: str, settings: ServiceSettings, role: Role) -> None:
    """Run the service until SIGTERM or SIGINT, which end the process with exit code 0."""
    log.configure(name, settings.log_level)
    tune_gc()
    exit_on_bad_setting(lambda: uvloop.run(_main(name, settings, role)))


def tune_gc() -> None:
    """Run the cyclic garbage collector less often, and never on imported modules.

    A full collection over 100,000 jobs is slow, and finds little.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def load_settings(settings: type[S]) -> S:
    """Return the environment's settings, after checking the settings file as well."""
    loaded = exit_on_bad_setting(settings.load)
    exit_on_bad_setting(loaded.file)
    return loaded


def exit_on_bad_setting(read: Callable[[], T]) -> T:
    """Return what `read` returns, or print a `SettingsError` and exit with code 2."""
    try:
        return read()
    except SettingsError as error:
        sys.stderr.write(f"bad setting: {error}\n")
        sys.exit(2)


async def _main(name: str, settings: ServiceSettings, role: Role) -> None:
    service = Service(f"{name}@{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}")

    def connect() -> AbstractAsyncContextManager[Connection]:
        """Connect with the URL as it is now, because an operator may have changed the password."""
        try:
            url = settings.broker_url()
        except SettingsError as error:  # It was usable at the start, so an operator is about to correct it.
            raise UnreachableError(str(error)) from error
        return bus.connect(url, service.name, settings.shards, declare=settings.amqp_declare)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stopping.set)
    _log.info("service_started", name=service.name)
    async with readiness.serve(service.readiness, settings.http_host, settings.http_port):
        work = asyncio.create_task(run_with_reconnect(service, connect, role))
        stop = asyncio.create_task(service.stopping.wait())
        await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
        service.readiness.set_waiting("the service to stop")
        work.cancel()
        stop.cancel()
        await asyncio.gather(work, stop, return_exceptions=True)
        if work.done() and not work.cancelled() and (error := work.exception()):
            _log.error("settings_rejected", error=str(error))
            sys.exit(2)
    _log.info("service_stopped")


async def run_with_reconnect(service: Service, connect: Connect, role: Role) -> None:
    """Run the role on one connection after the other, until cancelled.

    Raises:
        SettingsError: the service can never run with these settings.

    """
    failures = 0
    while True:
        started = asyncio.get_running_loop().time()
        try:
            await _run_once(service, connect, role)
        except SettingsError:
            raise
        except Exception as failure:
            error = _first_exception(failure)
            if not isinstance(error, RetryableError):
                _log.exception("service_failed")
            if asyncio.get_running_loop().time() - started > RECONNECT_BACKOFF.longest:
                failures = 0
            failures += 1
            await service.back_off(failures, str(error))
        finally:
            metrics.broker_disconnected()


def _first_exception(error: Exception) -> Exception:
    """Return the error itself, or the first of those in an exception group."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


async def _run_once(service: Service, connect: Connect, role: Role) -> None:
    """Run the role on a new connection, until one of the two fails."""
    service.connections += 1
    async with connect() as connection:
        metrics.broker_connected()
        work = asyncio.ensure_future(role(service, connection))
        try:
            with service.readiness.extra_check(lambda: connection.stall_reason):
                await asyncio.wait((work, connection.broken), return_when=asyncio.FIRST_COMPLETED)
                if connection.broken.done():
                    connection.broken.result()
                await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
