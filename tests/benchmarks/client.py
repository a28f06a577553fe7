"""The load client, `dev/tools/load`: how it is started, and what it says."""

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

from tests.support.history import Event

from dev.tools import LOAD, tools

Object = dict[str, Any]

CONNECTIONS = 32
"""Over which jobs are submitted."""


@dataclass(frozen=True)
class Request:
    """What is to be sent."""

    key: str
    """By which its answer is known."""
    path: str
    body: Any
    method: str = "POST"
    content: str = "application/json"


@dataclass(frozen=True)
class Answer:
    """What came back; times in nanoseconds since the epoch."""

    status: int
    sent: int
    answered: int
    uid: str
    version: str
    """The object's resourceVersion."""
    said: str

    @property
    def milliseconds(self) -> float:
        """That it took."""
        return (self.answered - self.sent) / 1e6


class Client:
    """The load client against one server."""

    def __init__(self, url: str, ca: str = "", token: str = "") -> None:
        """The token is passed in its environment."""
        self._command = [str(tools(LOAD) / "load")]
        self._server = [f"--url={url}", f"--ca={ca}"]
        self._env = {**os.environ, "LOAD_TOKEN": token}

    @classmethod
    def of(cls, kubeconfig: Path) -> "Client":
        """As who the local stack's kubeconfig says."""
        content = json.loads(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        return cls(cluster["server"], cluster["certificate-authority"], user["token"])

    def send(
        self, requests: Iterable[Request], *, connections: int = CONNECTIONS, rate: float = 0
    ) -> dict[str, Answer]:
        """Send them in order, so many at a time, or so many a second; each must succeed.

        They are written down before the first is sent.
        """
        with tempfile.TemporaryFile("w+") as given:
            for r in requests:
                line = {"key": r.key, "method": r.method, "path": r.path, "type": r.content, "body": r.body}
                given.write(json.dumps(line) + "\n")
            given.seek(0)
            command = [
                *self._command,
                "send",
                *self._server,
                f"--connections={connections}",
                f"--rate={rate}",
            ]
            done = subprocess.run(
                command, env=self._env, stdin=given, capture_output=True, text=True, check=False
            )
        if done.returncode != 0:
            raise RuntimeError(f"the load client ended: {done.stderr}")
        answers = {}
        for line in map(json.loads, done.stdout.splitlines()):
            key = line.pop("key")
            texts = {field: line.pop(field, "") for field in ("uid", "version", "said")}
            answers[key] = Answer(**texts, **line)
        failed = [answer for answer in answers.values() if not 200 <= answer.status < 300]
        if failed:
            raise RuntimeError(f"{len(failed)} requests failed; one of them: {failed[0]}")
        return answers

    @contextmanager
    def watching(self, prefix: str, phase: str, *, jobs: int, pods: int = 0) -> Iterator["Watching"]:
        """What happens to jobs and pods of these names is recorded, from inside on.

        Until so many jobs have been in the phase, and so many pods were created.
        """
        command = [*self._command, "watch", *self._server, f"--prefix={prefix}", f"--phase={phase}"]
        command += [f"--jobs={jobs}", f"--pods={pods}"]
        with (
            tempfile.TemporaryFile("w+") as out,
            subprocess.Popen(
                command, env=self._env, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.PIPE, text=True
            ) as process,
        ):
            begun = process.stderr.readline().strip() if process.stderr else ""
            if begun != "watching":
                raise RuntimeError(f"the load client does not watch: {begun}")
            try:
                yield Watching(process, out)
            finally:
                if process.stdin:
                    with suppress(BrokenPipeError):
                        process.stdin.close()  # Ends it, if it has not ended.


class Watching:
    """A record under way."""

    def __init__(self, process: subprocess.Popen[str], out: IO[str]) -> None:
        """Of the client that writes there."""
        self._process, self._out = process, out

    def wait(self, within: float) -> None:
        """Return when it is complete; within so many seconds."""
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"what is watched for did not happen within {within:.0f} s") from None
        if code != 0:
            said = self._process.stderr.read() if self._process.stderr else ""
            raise RuntimeError(f"the load client ended: {said}")

    def events(self) -> list[Event]:
        """All that it holds once it is complete, in the order in which it happened."""
        self._out.seek(0)
        return sorted(map(_event, self._out), key=lambda event: event.revision)


def _event(line: str) -> Event:
    told = json.loads(line)
    seen = datetime.fromtimestamp(told["at"] / 1e9, UTC)
    revision = int(told["object"]["metadata"]["resourceVersion"])
    return Event(revision, told["kind"], told["gone"], told["object"], seen)
