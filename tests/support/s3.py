"""A local S3 server (moto) with one bucket."""

import http.client
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.waiting import eventually

from dev.ports import Ports
from dev.probe import is_listening
from dev.process import spawn, terminate


class Bucket:
    """The bucket `logs` of the server at a local port."""

    url = "s3://logs"

    def __init__(self, port: int) -> None:
        self._port = port

    def request(self, method: str, path: str, first_bytes: int = 0) -> tuple[int, bytes]:
        """Send a request, which must succeed.

        Returns the body's length and its first bytes.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, f"/logs{path}")
            response = connection.getresponse()
            assert response.status == http.HTTPStatus.OK, response.read()
            return int(response.headers["Content-Length"]), response.read(first_bytes)
        finally:
            connection.close()


@contextmanager
def s3_server(folder: Path) -> Iterator[Bucket]:
    """Run the server while the context lasts.

    The environment has its address and credentials.
    """
    port = Ports(folder / "ports.json")["s3"]
    log = folder / "moto.log"
    server = spawn([sys.executable, "-m", "moto.server", "-p", str(port)], {}, log)
    try:
        eventually(lambda: is_listening(port), "the S3 server listens", diagnostics=log.read_text)
        bucket = Bucket(port)
        bucket.request("PUT", "")
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
            environment.setenv("AWS_REGION", "us-east-1")
            environment.setenv("AWS_ACCESS_KEY_ID", "any")
            environment.setenv("AWS_SECRET_ACCESS_KEY", "any")
            yield bucket
    finally:
        terminate([server], 5)
