"""The login of a service at a real RabbitMQ: from a file, with any password, never in a log (spec.md, S7)."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from tests.support.installed_broker import SHARDS, InstalledBroker
from tests.support.metrics import samples_at
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from dev.paths import StackPaths
from phjob_core.errors import UnreachableError
from phjob_runtime.amqp import topology
from phjob_runtime.amqp.bus import connect
from phjob_runtime.settings import ServiceSettings

SERVICE = topology.JANITOR


def with_password(url: str, password: str) -> str:
    """Return the URL with another password, as an operator encodes it."""
    parts = urlsplit(url)
    address = f"{parts.username}:{quote(password, safe='')}@{parts.hostname}:{parts.port}"
    return f"{parts.scheme}://{address}{parts.path}"


@dataclass
class RunningJanitor:
    """A janitor's process, which needs nothing but RabbitMQ."""

    process: subprocess.Popen[bytes]
    file: Path
    """The file of `AMQP_URL_FILE`."""
    log_file: Path
    metrics_url: str

    @property
    def log(self) -> str:
        """What it has logged up to now."""
        return self.log_file.read_text()

    def is_connected(self) -> bool:
        """Return whether it is connected to RabbitMQ now."""
        try:
            return samples_at(self.metrics_url, "phjob_broker_connected") == {(): 1}
        except OSError:
            return False


@contextmanager
def running_janitor(local_stack: LocalStack, folder: Path, url: str) -> Iterator[RunningJanitor]:
    """Start a janitor with this URL in a file. Stop it at the end."""
    file, log = folder / "url", folder / "log"
    file.write_text(url)
    port = StackPaths(local_stack.state).ports["janitor-of-a-test"]
    env = {
        "PATH": os.environ["PATH"],
        "AMQP_URL_FILE": str(file),
        "AMQP_DECLARE": "false",
        "SHARDS": str(SHARDS),
        "HTTP_PORT": str(port),
    }
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "phjob_janitor"], env=env, stderr=output)
    try:
        yield RunningJanitor(process, file, log, f"http://127.0.0.1:{port}/metrics")
    finally:
        process.terminate()
        process.wait(30)


def test_a_changed_password_needs_no_restart(
    local_stack: LocalStack, installed: InstalledBroker, tmp_path: Path
) -> None:
    """The next connection reads the file again. Neither password is in the log."""
    management, user, url = local_stack.management(), installed.user(SERVICE), installed.urls[SERVICE]
    old, new = urlsplit(url).password or "", secrets.token_urlsafe()
    with running_janitor(local_stack, tmp_path, url) as janitor:
        eventually(janitor.is_connected, "it is connected", diagnostics=lambda: janitor.log)
        management.set_password(user, new)
        try:
            eventually(lambda: management.close_connections(user), "its connection is closed")
            eventually(lambda: "ACCESS_REFUSED" in janitor.log, "its old password is refused")
            janitor.file.write_text("not a URL")
            eventually(lambda: "AMQP_URL_FILE" in janitor.log, "it reports the file that is not ready")
            janitor.file.write_text(with_password(url, new))
            eventually(janitor.is_connected, "it is connected again", diagnostics=lambda: janitor.log)
        finally:
            management.set_password(user, old)
        assert janitor.process.poll() is None
        assert not [password for password in (old, new) if password in janitor.log]


def test_a_service_with_a_bad_url_ends_at_once_without_printing_it(tmp_path: Path) -> None:
    """With exit code 2, and one line that names the variable (spec.md, S6)."""
    for url in ("amqp://janitor:1234/PASSWORD@mq:5672/hub", "amqp://janitor:PASSWORD#1@mq:5672/hub"):
        (tmp_path / "url").write_text(url)
        for variable, value in (("AMQP_URL", url), ("AMQP_URL_FILE", str(tmp_path / "url"))):
            env = {"PATH": os.environ["PATH"], variable: value}
            command = [sys.executable, "-m", "phjob_janitor"]
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 2
            assert done.stderr.count("\n") == 1
            assert f"{variable}" in done.stderr
            assert "PASSWORD" not in done.stdout + done.stderr
            assert "1234" not in done.stdout + done.stderr


@pytest.mark.parametrize("password", ["a/b", "a#b", "a@b", "a%b", "a b", "a?b", "a:b", "%2F", "ä€"])
async def test_a_password_may_contain_any_character(
    local_stack: LocalStack, installed: InstalledBroker, password: str
) -> None:
    """Encoded as in any URL."""
    management, user, url = local_stack.management(), installed.user(SERVICE), installed.urls[SERVICE]
    management.set_password(user, password)
    try:
        settings = ServiceSettings.model_validate({"amqp_url": with_password(url, password)})
        async with connect(settings.broker_url(), SERVICE, SHARDS, declare=False):
            pass
    finally:
        management.set_password(user, urlsplit(url).password or "")


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
async def test_an_error_of_the_connection_has_no_password(
    caplog: pytest.LogCaptureFixture, scheme: str
) -> None:
    """Neither in its own text, nor in what the client library logs."""
    caplog.set_level("DEBUG")
    url = f"{scheme}://janitor:PASS%2FWORD@127.0.0.1:1/hub"  # Nothing listens there.
    settings = ServiceSettings.model_validate({"amqp_url": url})
    with pytest.raises(UnreachableError, match="RabbitMQ is not reachable") as error:
        async with connect(settings.broker_url(), SERVICE, 1):
            pass
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert "aiormq" in {record.name.partition(".")[0] for record in caplog.records}
    for text in (str(error.value), repr(error.value), logged):
        assert "PASS" not in text
