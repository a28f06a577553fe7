"""One question to a component of this machine: does it listen, does it answer 200?"""

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

SECONDS = 5.0


def says_ok(url: str, *, ca: Path | None = None, login: tuple[str, str] | None = None) -> bool:
    """Whether a GET answers 200; anything else, no answer included, is a no."""
    request = urllib.request.Request(url)  # noqa: S310 -- its callers say http or https
    if login:
        request.add_header("Authorization", "Basic " + b64encode(":".join(login).encode()).decode())
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if ca:
        handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(ca))))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=SECONDS) as response:
            return bool(response.status == http.HTTPStatus.OK)
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return False


def listens(port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS):
            return True
    except OSError:
        return False
