"""The load client (`dev/tools/load`): how to start it, and its output."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from tests.support.history import WatchEvent

from dev.tools import LOAD, tools

Object = dict[str, Any]

CONNECTIONS = 32
"""The number of connections over which jobs are submitted."""


@dataclass(frozen=True)
class Request:
    """A request to send."""

    key: str
    """The key of its response."""
    path: str
    body: Any
    method: str = "POST"
    content: str = "application/json"


@dataclass(frozen=True)
class Response:
    """A response; its times are in nanoseconds since the epoch."""

    status: int
    sent: int
    answered: int
    uid: str
    version: str
    """The object's resourceVersion."""
    said: str
    """The message of an error."""

    @property
    def is_success(self) -> bool:
        """True if the server has carried out the request."""
        return 200 <= self.status < 300

    @property
    def milliseconds(self) -> float:
        """The time from the request to the response."""
        return (self.answered - self.sent) / 1e6


class LoadClient:
    """The load client for one server."""

    def __init__(self, url: str, ca: str = "", token: str = "") -> None:
        """Pass the token to the client in its environment, so that no list of processes shows it."""
        self._command = [str(tools(LOAD) / "load")]
        self._server = [f"--url={url}", f"--ca={ca}"]
        self._env = {**os.environ, "LOAD_TOKEN": token}

    @classmethod
    def of(cls, kubeconfig: Path) -> "LoadClient":
        """Return a client for the cluster and the user of a local stack's kubeconfig."""
        content = json.loads(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        return cls(cluster["server"], cluster["certificate-authority"], user["token"])

    def send(
        self, requests: Iterable[Request], *, connections: int = CONNECTIONS, rate: float = 0
    ) -> dict[str, Response]:
        """Send requests in order, as fast as the connections allow or so many per second.

        All of them are written to a file before the first is sent. Returns the responses by key. Raises
        RuntimeError if a request fails.
        """
        responses = self.try_send(requests, connections=connections, rate=rate)
        failed = [response for response in responses.values() if not response.is_success]
        if failed:
            raise RuntimeError(f"{len(failed)} requests failed; the first response: {failed[0]}")
        return responses

    def try_send(
        self, requests: Iterable[Request], *, connections: int = CONNECTIONS, rate: float = 0
    ) -> dict[str, Response]:
        """Send requests as `send` does. A request that fails is a normal outcome."""
        with tempfile.TemporaryFile("w+") as stdin:
            for r in requests:
                line = {"key": r.key, "method": r.method, "path": r.path, "type": r.content, "body": r.body}
                stdin.write(json.dumps(line) + "\n")
            stdin.seek(0)
            command = [
                *self._command,
                "send",
                *self._server,
                f"--connections={connections}",
                f"--rate={rate}",
            ]
            done = subprocess.run(
                command, env=self._env, stdin=stdin, capture_output=True, text=True, check=False
            )
        if done.returncode != 0:
            raise RuntimeError(f"the load client failed: {done.stderr}")
        responses = {}
        for line in map(json.loads, done.stdout.splitlines()):
            key = line.pop("key")
            texts = {field: line.pop(field, "") for field in ("uid", "version", "said")}
            responses[key] = Response(**texts, **line)
        return responses

    @contextmanager
    def watching(self, prefix: str, phase: str, *, jobs: int, pods: int = 0) -> Iterator["WatchRecording"]:
        """Record the events of the jobs and pods whose names begin with the prefix.

        The recording is complete when so many jobs have been in the phase, and so many pods exist without a
        gate.
        """
        command = [*self._command, "watch", *self._server, f"--prefix={prefix}", f"--phase={phase}"]
        command += [f"--jobs={jobs}", f"--pods={pods}"]
        with (
            tempfile.TemporaryFile("w+") as out,
            subprocess.Popen(
                command, env=self._env, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.PIPE, text=True
            ) as process,
        ):
            first_line = process.stderr.readline().strip() if process.stderr else ""
            if first_line != "watching":
                raise RuntimeError(f"the load client does not watch: {first_line}")
            try:
                yield WatchRecording(process, out)
            finally:
                if process.stdin:
                    with suppress(BrokenPipeError):
                        process.stdin.close()  # This ends a client that still runs.


class WatchRecording:
    """The recording of a watch by a load client."""

    def __init__(self, process: subprocess.Popen[str], out: IO[str]) -> None:
        self._process, self._out = process, out

    def wait(self, within: float) -> None:
        """Wait until the recording is complete. Raises TimeoutError after so many seconds."""
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the recording is not complete after {within:.0f} s") from None
        if code != 0:
            stderr = self._process.stderr.read() if self._process.stderr else ""
            raise RuntimeError(f"the load client failed: {stderr}")

    def events(self) -> list[WatchEvent]:
        """Return all events of a complete recording, in order."""
        self._out.seek(0)
        return sorted(map(_event, self._out), key=lambda event: event.revision)


def _event(line: str) -> WatchEvent:
    content = json.loads(line)
    observed_at = datetime.fromtimestamp(content["at"] / 1e9, UTC)
    revision = int(content["object"]["metadata"]["resourceVersion"])
    return WatchEvent(revision, content["kind"], content["gone"], content["object"], observed_at)
