"""What the watcher has been asked for and has not answered: of each asker, what it still waits for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.bus import Delivery
from shared.messages import CatalogWanted, SnapshotWanted
from shared.session import asked_by

Wanted = SnapshotWanted | CatalogWanted


@dataclass
class _Asker:
    number: int
    wanted: Wanted
    deliveries: list[Delivery] = field(default_factory=list)


class Requests:
    """In the order in which their askers came; an asker waits for the latest of its requests alone.

    Its requests need not come in order: RabbitMQ delivers again what was not acknowledged, after what
    is newer.
    """

    def __init__(self) -> None:
        self._askers: dict[tuple[type, str, str], _Asker] = {}

    def __len__(self) -> int:
        return len(self._askers)

    def add(self, wanted: Wanted, delivery: Delivery) -> None:
        """Another request, which takes the place of its asker's older one."""
        match wanted:
            case SnapshotWanted():
                name, number = asked_by(wanted.request)
            case CatalogWanted():
                name, number = "", wanted.request
        asker = self._askers.setdefault((type(wanted), wanted.queue, name), _Asker(number, wanted))
        asker.deliveries.append(delivery)
        if number >= asker.number:
            asker.number, asker.wanted = number, wanted

    def first(self) -> Wanted:
        """What to answer next."""
        return next(iter(self._askers.values())).wanted

    def answered(self) -> list[Delivery]:
        """Forget the first, which is answered: all that can be acknowledged now."""
        return self._askers.pop(next(iter(self._askers))).deliveries

    def snapshots(self) -> Mapping[str, str]:
        """Which request of each queue is answered, or will be."""
        wanted = [asker.wanted for asker in self._askers.values()]
        return {one.queue: one.request for one in wanted if isinstance(one, SnapshotWanted)}
