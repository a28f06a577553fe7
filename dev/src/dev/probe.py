"""Readiness checks of a component on this machine: whether it listens, and whether it answers 200."""

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

TIMEOUT_SECONDS = 5.0


def is_healthy(url: str, *, ca: Path | None = None, login: tuple[str, str] | None = None) -> bool:
    """Return whether a GET request is answered with 200.

    No answer counts as any other answer.
    """
    request = urllib.request.Request(url)  # noqa: S310 -- the callers pass http or https
    if login:
        request.add_header("Authorization", "Basic " + b64encode(":".join(login).encode()).decode())
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if ca:
        handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(ca))))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_SECONDS) as response:
            return bool(response.status == http.HTTPStatus.OK)
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return False


def is_listening(port: int) -> bool:
    """Return whether a process accepts connections on this port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS):
            return True
    except OSError:
        return False
