"""Bugs that somebody might write: the simulation has to catch each of them, else it proves nothing.

Each replaces one part of the real code by what it would be with the bug.
"""

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any
from unittest.mock import patch

from pod_manager import jobs, orders, plan, pods, status, writes
from scheduler import admission
from shared import runtime, session, view
from shared.consumer import Done
from shared.errors import RefusedError, UnreachableError
from shared.lifecycle import Event
from shared.messages import Admit
from shared.resources import rendered
from watcher import mirror

Bug = Callable[[], AbstractContextManager[object]]


def _instead(owner: object, name: str, with_: object) -> Bug:
    return lambda: patch.object(owner, name, with_)


# --- the fence ---


def _obeys_anybody(_: orders.Orders, envelope: session.Envelope) -> bool:
    return not envelope.redelivered


async def _fence_at_once(self: orders.Orders, fence: Any, number: int) -> None:
    with (
        patch.object(self._under_way, "none", _at_once),
        patch.object(self._jobs, "no_creation_under_way", _at_once),
    ):
        await _FENCE(self, fence, number)


async def _at_once(*_: object) -> None:
    pass


_FENCE = orders.Orders._fence
_ENQUEUE = orders.Orders._enqueue


def _creations_go_on(self: jobs.Jobs) -> None:
    self._known.doubt()


def _no_settling(self: orders.Orders, order: Any, done: Done, *, settle: bool) -> None:
    if settle:
        done()
    else:
        _ENQUEUE(self, order, done, settle=False)


def _expect_any_fence(uid: str, phase: Any, _: str) -> status.Patch:
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": "/status/phase", "value": phase},
    ]


_REPORT = status.report


def _report_over_anything(told: Any, last: str) -> status.Patch:
    return [op for op in _REPORT(told, last) if op["path"] != "/status/fence"]


def _acknowledged_at_once(self: orders.Orders, envelope: session.Envelope, done: Done) -> None:
    def nothing(failure: str = "") -> None:
        """Too late."""

    done()
    self._inbox.put_nowait((envelope, nothing))


async def _never_settled(*_: object) -> bool:
    return False


_WRITE = orders.Orders._write


async def _pod_before_cas(self: orders.Orders, order: Any, *, settle: bool) -> None:
    with suppress(pods.PodProblem, UnreachableError):
        job = await self._kube.get(jobs.PHJOBS, order.name)
        if isinstance(order, Admit) and not settle and job:
            admitted = {"fence": order.token, "resources": rendered(order.resources)}
            await self._jobs._pods.create({**job, "status": {**job["status"], **admitted}}, _at_once)
    await _WRITE(self, order, settle=settle)


def _side_by_side(self: orders.Orders, order: Any, done: Done, *, settle: bool) -> None:
    self._waiting.setdefault(order.uid, deque()).append((order, settle, done))
    self._under_way.begin()
    self._lanes.touch(order.uid)


# --- writes and what is known ---

_DEFINITE = writes.Writer.definite


async def _unknown_is_failure(self: writes.Writer, request: Any, what: str, tries: int = 0) -> Any:
    try:
        return await _DEFINITE(self, request, what, tries or 1)
    except UnreachableError as error:
        raise RefusedError(500, "Unknown", str(error)) from error


def _nothing_expected(_: object) -> status.Patch:
    return []


def _put_anything(self: view.View[Any], fact: Any, *, listed: bool = False) -> bool:
    self._facts[fact.uid] = fact
    return True


async def _believed(*_: object) -> bool:
    return False


def _but_not_if_refused(step: plan.Step) -> bool:
    of_creation = isinstance(step, plan.Transit) and step.event in (Event.POD_REFUSED, Event.POD_INVALID)
    return plan.relies_on_absence(step) and not of_creation


_DELETE = jobs.Jobs._delete


async def _deleted_however_it_is(self: jobs.Jobs, *args: Any, **options: Any) -> None:
    await _DELETE(self, *args, **{**options, "revision": None})


# --- sessions ---

_RECEIVE = session.Follower.receive


def _gaps_ignored(self: session.Follower, envelope: session.Envelope) -> session.Verdict:
    if self._following and envelope.session == self._session and envelope.number > self._expected:
        self._expected = envelope.number
    return _RECEIVE(self, envelope)


def _listed_only(_: mirror.Mirror[Any], listing: Any) -> Any:
    return listing


async def _relists(self: mirror.Mirror[Any]) -> None:
    while True:
        try:
            await _FOLLOW(self)
        except mirror.HistoryLostError:
            await self.refresh()


_FOLLOW = mirror.Mirror.follow


# --- the scheduler ---

_GONE = admission.Admission.job_gone


def _gone_is_gone(self: admission.Admission, uid: str, group: str, now: Any, *, has_pod: bool = True) -> Any:
    return _GONE(self, uid, group, now, has_pod=False)


def _always_the_last(*_: object) -> bool:
    return True


_DECIDE = admission.Admission._decide


def _reservation_forgotten(self: admission.Admission, label: str, now: Any) -> Any:
    orders_ = _DECIDE(self, label, now)
    for order in orders_:
        if isinstance(order, Admit):
            self._group(label).release(order.uid)
    return orders_


BUGS: dict[str, Bug] = {
    "any session's orders are obeyed": _instead(orders.Orders, "_obeys", _obeys_anybody),
    "the fence does not wait for older writes": _instead(orders.Orders, "_fence", _fence_at_once),
    "pods are created while a new session gets its snapshot": _instead(
        jobs.Jobs, "hold_creations", _creations_go_on
    ),
    "redelivered orders are not settled": _instead(orders.Orders, "_enqueue", _no_settling),
    "no fence in the compare-and-swap": _instead(status, "_expect", _expect_any_fence),
    "a report is written over any other": _instead(status, "report", _report_over_anything),
    "acknowledged before the effect": _instead(orders.Orders, "receive", _acknowledged_at_once),
    "the pod is created before the admission is written": _instead(orders.Orders, "_write", _pod_before_cas),
    "a group's orders are written side by side": _instead(orders.Orders, "_enqueue", _side_by_side),
    "a settled order does not end the orders behind it": _instead(
        orders.Orders, "_is_settled", _never_settled
    ),
    "a predecessor's admission is not confirmed": _instead(status, "_expect_no_pod_since", _nothing_expected),
    "a pod is created without asking again": _instead(jobs.Jobs, "_still_admitted", _at_once),
    "an unknown outcome is taken for a failure": _instead(writes.Writer, "definite", _unknown_is_failure),
    "stale facts are believed": _instead(view.View, "put", _put_anything),
    "a pod that was not seen is taken for none": _instead(jobs.Jobs, "_is_mistaken", _believed),
    "a creation that failed is taken for not done": _instead(jobs, "relies_on_absence", _but_not_if_refused),
    "a pod that has started meanwhile is deleted": _instead(jobs.Jobs, "_delete", _deleted_however_it_is),
    "gaps in the stream are ignored": _instead(session.Follower, "receive", _gaps_ignored),
    "sessions are not renamed on reconnect": _instead(
        runtime.Service, "identity", property(lambda s: s.name)
    ),
    "a snapshot lacks what was told while it was listed": _instead(mirror.Mirror, "newest", _listed_only),
    "an expired watch lists again and goes on": _instead(mirror.Mirror, "follow", _relists),
    "a job that is gone is taken to have no pod": _instead(admission.Admission, "job_gone", _gone_is_gone),
    "an admission is over with its first pod": _instead(admission, "_is_last", _always_the_last),
    "an admission holds nothing until it is seen": _instead(
        admission.Admission, "_decide", _reservation_forgotten
    ),
}
