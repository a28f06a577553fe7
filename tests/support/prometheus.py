"""A client of Prometheus' HTTP API."""

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

from dev.paths import StackPaths

Series = dict[str, Any]


class Prometheus:
    """A Prometheus server."""

    def __init__(self, url: str) -> None:
        """Use the server at this URL, without a request."""
        self._url = f"{url}/api/v1"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @classmethod
    def of_stack(cls, state: Path) -> Self:
        """Return the Prometheus of the stack in this state folder, which must be up."""
        return cls(StackPaths(state).url("prometheus", "http"))

    def query(self, expr: str) -> list[Series]:
        """Return the expression's series now.

        Raises HTTPError if the expression is invalid.
        """
        return list(self._get("query", query=expr)["result"])

    def value(self, expr: str) -> float | None:
        """Return the value of the expression's first series, or None if it has no series."""
        series = self.query(expr)
        return float(series[0]["value"][1]) if series else None

    def query_range(self, expr: str, start: float, end: float, step: float = 1) -> list[Series]:
        """Return the series between two times, with a value every `step` seconds."""
        return list(self._get("query_range", query=expr, start=start, end=end, step=step)["result"])

    def metric_names(self) -> set[str]:
        """Return the names of all metrics."""
        return set(self._get("label/__name__/values"))

    def rules(self) -> list[Series]:
        """Return all rules, with their health and state."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def firing_alerts(self) -> set[str]:
        """Return the names of the firing alerts."""
        return {a["labels"]["alertname"] for a in self._get("alerts")["alerts"] if a["state"] == "firing"}

    def _get(self, path: str, **query: Any) -> Any:
        url = f"{self._url}/{path}?{urllib.parse.urlencode(query)}"
        with self._opener.open(url, timeout=60) as response:
            return json.loads(response.read())["data"]
