"""What an object holds, for tests that nothing remains of what is gone."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

_COLLECTIONS = (Mapping, list, tuple, set, frozenset, deque)


def collections(root: Any, *, without: tuple[str, ...] = ()) -> dict[str, int]:
    """Return the size of each collection that is reachable from an object's own attributes, by its path.

    Empty ones are left out, and so are the attributes named in `without`. Only objects of PhJob's own classes
    are searched.
    """
    return {path: size for path, size in _sizes(root, "", set(), without) if size}


def _sizes(item: Any, path: str, seen: set[int], without: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    if id(item) in seen:
        return
    seen.add(id(item))
    if isinstance(item, _COLLECTIONS):
        yield path, len(item)
        members = item.items() if isinstance(item, Mapping) else enumerate(item)
        for key, member in members:
            yield from _sizes(member, f"{path}[{key!r}]", seen, without)
    elif type(item).__module__.startswith("phjob_"):
        slots = [name for cls in type(item).__mro__ for name in getattr(cls, "__slots__", ())]
        names = [*getattr(item, "__dict__", {}), *slots]
        for name in names:
            if name not in without and hasattr(item, name):
                yield from _sizes(getattr(item, name), f"{path}.{name}", seen, without)
