"""What pod-manager knows of jobs, their pods and the nodes, and what the janitor wishes for them.

It is fed with facts and with the answers to pod-manager's own writes, and puts together the
`Situation` of one job. What is to be done about it is `plan`'s part.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from pod_manager.plan import Log, Situation, Wish, wish_is_pointless
from shared.kube import Object
from shared.messages import JobGone, JobSeen, NodeGone, NodeSeen, PodGone, PodSeen
from shared.projection import job_seen
from shared.view import View

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Confirmation(NamedTuple):
    """An admission as we have written it last."""

    job: Object
    """The whole job, as the API server answered."""
    seen: JobSeen
    """What matters of it."""
    at: datetime
    """When we sent that."""
    inherited_at: datetime | None
    """When we did so first, of an admission that somebody else wrote; None if it is our own."""


class Known:
    """Everything about the jobs that still need something."""

    def __init__(self) -> None:
        self.jobs: View[JobSeen] = View()
        self.pods: View[PodSeen] = View()
        self._nodes: View[NodeSeen] = View()
        self._lost: set[str] = set()
        self._pod_of: dict[str, str] = {}
        self._had_pod: dict[str, str] = {}
        self._wishes: dict[str, Wish] = {}
        self._confirmed: dict[str, Confirmation] = {}

    def begin(self, revisions: dict[str, int]) -> None:
        """Forget all but the answers to our own writes that are newer; a snapshot starts."""
        self.jobs.begin(revisions["phjobs"])
        self.pods.begin(revisions["pods"])
        self._nodes.begin(revisions["nodes"])
        self._lost = {node.name for node in self._nodes if node.lost_since}
        self._pod_of = {pod.job_uid: pod.uid for pod in self.pods}
        self._had_pod = {pod.job_uid: pod.fence for pod in self.pods}

    def everything(self) -> list[str]:
        """The uid of every job of which anything is known."""
        return list(dict.fromkeys((*(job.uid for job in self.jobs), *self._pod_of, *self._wishes)))

    def job(self, seen: JobSeen, *, listed: bool = False) -> bool:
        """A job is so; whether that is news."""
        before = self.jobs.get(seen.uid)
        news = self.jobs.put(seen, listed=listed)
        if news and before and before.preparing_time != seen.preparing_time:
            self._had_pod.pop(seen.uid, None)  # Somebody is about to create the next one.
        return news

    def job_gone(self, gone: JobGone) -> bool:
        """A job was deleted, or needs nothing any more; whether that is news."""
        news = self.jobs.drop(gone.uid, gone.resource_version) is not None
        if news:
            self.forget(gone.uid)
        return news

    def pod(self, seen: PodSeen, *, listed: bool = False) -> bool:
        """A pod is so; whether that is news about a job's."""
        if not seen.job_uid:
            return False
        news = self.pods.put(seen, listed=listed)
        job = self.jobs.get(seen.job_uid)
        if job and job.name != seen.name:
            return False  # It only says that it is the job's.
        known, other = self.pods.get(seen.uid), self.pod_of(seen.job_uid)
        if known and (other is None or other.resource_version < known.resource_version):
            self._pod_of[seen.job_uid] = seen.uid
        if news:
            self._had_pod[seen.job_uid] = seen.fence
            self._confirmed.pop(seen.job_uid, None)
        return news

    def pod_gone(self, gone: PodGone) -> bool:
        """A pod is no more; whether that is news."""
        news = self.pods.drop(gone.uid, gone.resource_version) is not None
        if news and self._pod_of.get(gone.job_uid) == gone.uid:
            del self._pod_of[gone.job_uid]
        return news

    def node(self, seen: NodeSeen, *, listed: bool = False) -> Iterator[str]:
        """A node is so; the uids of the jobs for which that changes something."""
        if self._nodes.put(seen, listed=listed) and (seen.name in self._lost) != bool(seen.lost_since):
            (self._lost.add if seen.lost_since else self._lost.discard)(seen.name)
            yield from (pod.job_uid for pod in self.pods if pod.node == seen.name)

    def node_gone(self, gone: NodeGone) -> None:
        """A node left the cluster: Kubernetes ends its pods itself."""
        if self._nodes.drop(gone.uid, gone.resource_version):
            self._lost.discard(gone.name)

    def confirmed(self, job: Object, at: datetime, inherited_at: datetime | None) -> None:
        """We wrote a job's admission (see `Confirmation`)."""
        seen = job_seen(job)
        self.job(seen)
        if self.jobs.get(seen.uid):
            self._confirmed[seen.uid] = Confirmation(job, seen, at, inherited_at)

    def doubt(self) -> None:
        """Any admission may be over by now, also those that we have written."""
        for uid, written in self._confirmed.items():
            self._confirmed[uid] = written._replace(at=_LONG_AGO)

    def unconfirmed(self, uid: str) -> None:
        """What we wrote of the job's admission is so no more."""
        self._confirmed.pop(uid, None)

    def confirmation(self, job: JobSeen) -> Confirmation | None:
        """How we have written the job's admission; None if somebody else did, or has since."""
        found, known = self._confirmed.get(job.uid), self.jobs.get(job.uid)
        if found is None or known is None:
            return None
        ours = found.seen.fence == job.fence and found.seen.preparing_time == known.preparing_time
        return found if ours else None

    def wish(self, uid: str, wish: Wish | None) -> None:
        """The janitor wants something of the job; None: not any more."""
        if wish:
            self._wishes[uid] = wish
        else:
            self._wishes.pop(uid, None)

    def wish_for(self, uid: str) -> Wish | None:
        """What the janitor wants of the job, if it still can be."""
        wish, job = self._wishes.get(uid), self.jobs.get(uid)
        if wish and job and wish_is_pointless(job, wish, node_lost=self.is_lost(self.pod_of(uid))):
            del self._wishes[uid]
            return None
        return wish

    def pod_of(self, uid: str) -> PodSeen | None:
        """The job's pod, if it has one."""
        return self.pods.get(self._pod_of.get(uid, ""))

    def is_lost(self, pod: PodSeen | None) -> bool:
        """Whether the pod's node is unresponsive."""
        return pod is not None and pod.node in self._lost

    def situation(self, job: JobSeen, log: Log) -> Situation:
        """The job, and all that its next step depends on."""
        pod = self.pod_of(job.uid)
        had_pod = self._had_pod.get(job.uid) == job.fence
        return Situation(job, pod, self.wish_for(job.uid), had_pod, self.is_lost(pod), log)

    def forget(self, uid: str) -> None:
        """Nothing is left to be known of the job."""
        self.jobs.forget(uid)
        self._confirmed.pop(uid, None)
        self._had_pod.pop(uid, None)
        self._wishes.pop(uid, None)
