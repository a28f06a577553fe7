"""The requests for snapshots and catalog lists that the watcher has not answered yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from phjob_core.messages import CatalogRequest, SnapshotRequest
from phjob_core.stream import parse_request_id
from phjob_runtime.amqp.port import Delivery

Request = SnapshotRequest | CatalogRequest


@dataclass
class _Requester:
    """A consumer, and the latest of its requests."""

    number: int
    request: Request
    deliveries: list[Delivery] = field(default_factory=list)
    """The deliveries of all of its requests. One answer acknowledges all of them."""


class SnapshotRequests:
    """The latest request of each requester, in the order of their first requests.

    A requester needs the answer to its latest request only. Requests may arrive out of order, because
    RabbitMQ redelivers an unacknowledged one after newer ones.
    """

    def __init__(self) -> None:
        self._requesters: dict[tuple[type, str, str], _Requester] = {}

    def __len__(self) -> int:
        return len(self._requesters)

    def add(self, request: Request, delivery: Delivery) -> None:
        """Add a request. It replaces an older one of the same requester."""
        match request:
            case SnapshotRequest():
                name, number = parse_request_id(request.request)
            case CatalogRequest():
                name, number = "", request.request
        key = (type(request), request.queue, name)
        requester = self._requesters.setdefault(key, _Requester(number, request))
        requester.deliveries.append(delivery)
        if number >= requester.number:
            requester.number, requester.request = number, request

    def first(self) -> Request:
        """Return the request to answer next."""
        return next(iter(self._requesters.values())).request

    def pop_answered(self) -> list[Delivery]:
        """Remove the first request, because it is answered.

        Returns the deliveries to acknowledge.
        """
        return self._requesters.pop(next(iter(self._requesters))).deliveries

    def snapshots(self) -> Mapping[str, str]:
        """Return the id of the snapshot request of each queue that is or will be answered."""
        requests = [requester.request for requester in self._requesters.values()]
        return {one.queue: one.request for one in requests if isinstance(one, SnapshotRequest)}
