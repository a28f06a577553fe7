"""A Prometheus as tests ask it."""

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

from dev.site import Site

Series = dict[str, Any]


class Prometheus:
    """The one at this address."""

    def __init__(self, url: str) -> None:
        """Asks nothing yet."""
        self._url = f"{url}/api/v1"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @classmethod
    def of(cls, state: Path) -> Self:
        """The one of the stack in this STATE, which must be up."""
        return cls(Site(state).url("prometheus", "http"))

    def query(self, expr: str) -> list[Series]:
        """The expression's series now; an expression that is wrong is an error."""
        return list(self._get("query", query=expr)["result"])

    def value(self, expr: str) -> float | None:
        """The value of the expression's only series; None if it has none."""
        series = self.query(expr)
        return float(series[0]["value"][1]) if series else None

    def over(self, expr: str, start: float, end: float, step: float = 1) -> list[Series]:
        """The expression's series over time."""
        return list(self._get("query_range", query=expr, start=start, end=end, step=step)["result"])

    def names(self) -> set[str]:
        """Every metric's name."""
        return set(self._get("label/__name__/values"))

    def rules(self) -> list[Series]:
        """Every rule, with its health and its state."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {a["labels"]["alertname"] for a in self._get("alerts")["alerts"] if a["state"] == "firing"}

    def _get(self, path: str, **query: Any) -> Any:
        url = f"{self._url}/{path}?{urllib.parse.urlencode(query)}"
        with self._opener.open(url, timeout=60) as answer:
            return json.loads(answer.read())["data"]
