"""Where a kind of Kubernetes objects is in the API. Pure."""

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Resource:
    """A kind of object, and the selectors that limit a LIST or a WATCH of it."""

    plural: str
    group: str = ""
    version: str = "v1"
    label_selector: str = ""
    field_selector: str = ""
    namespaced: bool = True

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Return the path of the kind, or of one object of it, in the API, percent-encoded."""
        parts = ["apis", self.group] if self.group else ["api"]
        parts.append(self.version)
        if self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/" + "/".join(_segment(part) for part in parts)


def _segment(text: str) -> str:
    """Return the text as one segment of a path.

    Without this, a name such as `../secrets/x` would be the path of another object. `quote` keeps dots, but
    a segment of one or two dots means another folder.
    """
    return quote(text, safe="") if text.strip(".") else text.replace(".", "%2E")
