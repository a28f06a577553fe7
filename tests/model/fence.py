"""A model of the fence (design/consistency.md), in which events may occur in any order.

It is for contributors who change how an `Admit` command gets from the scheduler to a job's status. Two jobs
of one group wait; A is older than B. Scheduler sessions send commands through one RabbitMQ queue with a
single active consumer. Two pod-managers take turns as that consumer. One that was cut off without notice
continues to execute its commands.

The environment is hostile:

- A write reaches the API server at any later moment, in any order, or never.
- The answer to a write is lost, or comes from a proxy, or from an API server that has just started.
- RabbitMQ redelivers unacknowledged messages to the other pod-manager at any moment.
- A scheduler whose session is over publishes the commands that it decided before.
- RabbitMQ rejects a command because the queue is full.

The model leaves out pods (`admission.py`), the end of jobs, and other groups. Its RabbitMQ never loses its
data, which is a known limit. The watcher's LIST is one atomic read of both jobs.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from tests.model.explore import Step

MAX_TAKEOVERS: Final = 2
MAX_INBOX_MESSAGES: Final = 2
"""The number of messages that a pod-manager holds beside the command that it writes."""
SETTLED: Final = 1000
"""The offset of the token that a settlement writes, so that no token is used twice."""
NO_JOB: Final = -1
A: Final = 0
"""The index of the older job."""


class Promise(StrEnum):
    """The promises of the fence."""

    QUOTA = "a group is never over its quota"
    ORDER = "the older job enters Preparing first"


class Rule(StrEnum):
    """The parts of the protocol that a test can omit, with their hazard in design/consistency.md."""

    REPEAT = "a write is repeated until its answer is definite (H8)"
    DEFINITE_ANSWER = "only the API server's own answer is definite (H8)"
    FENCE_WAITS = "a fence is reached only after every older write has ended (H10)"
    NO_SESSION = "a pod-manager that becomes active has no session (H11)"
    SETTLE = "a redelivered command is settled, never executed (H11)"
    END_SESSION = "a settled command ends the session of the later ones (H12)"
    GAP = "a missing sequence number ends the session (H13)"


class Job(NamedTuple):
    """A job's status."""

    is_preparing: bool = False
    fence: int = 0


class Message(NamedTuple):
    """An `Admit` command, or the `Fence`, which is the first message of its session."""

    session: int
    number: int = 0
    job: int = NO_JOB
    fence: int = 0
    """The job's fence as the scheduler read it, which the admission tests."""

    def __str__(self) -> str:
        """Return the message's name in a counterexample."""
        return f"Fence({self.session})" if self.job == NO_JOB else f"Admit({self.session}, {'AB'[self.job]})"


class Delivery(NamedTuple):
    """A message as RabbitMQ delivers it."""

    message: Message
    redelivered: bool = False


class Write(NamedTuple):
    """A compare-and-swap on a Pending job: it tests one fence and writes another."""

    job: int
    fence: int
    token: int
    admits: bool

    def __str__(self) -> str:
        """Return the write's name in a counterexample."""
        return f"{'admission' if self.admits else 'settlement'} of {'AB'[self.job]} on fence {self.fence}"


class PodManager(NamedTuple):
    """The memory of one pod-manager."""

    inbox: tuple[Delivery, ...] = ()
    session: int = 0
    """The session whose commands it executes; 0: none."""
    next_number: int = 0
    writing: Delivery | None = None
    """The command whose write has no definite answer yet."""


class Stage(StrEnum):
    """The progress of the latest scheduler session."""

    FENCING = "its fence is under way"
    LISTING = "its LIST is due"
    DECIDED = "it has decided"


class State(NamedTuple):
    """Everything that determines the possible next steps."""

    jobs: tuple[Job, Job] = (Job(), Job())
    sent: frozenset[Write] = frozenset()
    """The writes in flight that can still have an effect."""
    session: int = 1
    stage: Stage = Stage.FENCING
    outbox: tuple[Message, ...] = ()
    """The commands that a scheduler has decided and not published yet."""
    queue: tuple[Delivery, ...] = (Delivery(Message(session=1)),)
    unacknowledged: tuple[Delivery, ...] = ()
    pod_managers: tuple[PodManager, PodManager] = (PodManager(), PodManager())
    active: int = 0
    """The pod-manager that RabbitMQ delivers to."""
    takeovers: int = 0


class FenceModel:
    """The rules of the fence, without those that a test omits."""

    initial = State()

    def __init__(self, quota: int, *without: Rule, sessions: int = 3, late_commands: bool = False) -> None:
        self.quota = quota
        self.without = without
        self.sessions = sessions
        self.late_commands = late_commands
        """True if a scheduler may publish its commands even after the LIST of its successor."""

    def broken_promise(self, s: State) -> str:
        """Return the promise that the state breaks; empty if it breaks none."""
        older, younger = s.jobs
        if older.is_preparing + younger.is_preparing > self.quota:
            return Promise.QUOTA
        return Promise.ORDER if self.quota > 1 and younger.is_preparing > older.is_preparing else ""

    def steps(self, s: State) -> Iterator[Step[State]]:
        """Yield every step that may happen next, as long as a promise can still be broken."""
        if self.quota > 1 and s.jobs[A].is_preparing:
            return
        yield from self._scheduler(s)
        yield from self._rabbitmq(s)
        yield from self._pod_manager(s, 0)
        yield from self._pod_manager(s, 1)
        for write in s.sent:
            yield f"the {write} arrives, its answer is lost", _after_write(s, write)

    # --- the scheduler ---

    def _scheduler(self, s: State) -> Iterator[Step[State]]:
        if s.session < self.sessions:
            fence = Message(s.session + 1)
            after = s._replace(session=fence.session, stage=Stage.FENCING, queue=(*s.queue, Delivery(fence)))
            yield f"the scheduler opens session {fence.session}", after
        if s.stage is Stage.LISTING:
            # With quota 1, a session may find A in its backoff. Otherwise no session would ever admit B.
            for in_backoff in (NO_JOB, A) if self.quota == 1 else (NO_JOB,):
                commands = self._decide(s, in_backoff)
                late = s.outbox if self.late_commands else ()
                label = f"LIST: the scheduler decides {', '.join(map(str, commands)) or 'nothing'}"
                yield label, s._replace(stage=Stage.DECIDED, outbox=late + commands)
        for session in {command.session for command in s.outbox}:
            command = next(command for command in s.outbox if command.session == session)
            after = s._replace(outbox=tuple(other for other in s.outbox if other != command))
            yield f"{command} is published", after._replace(queue=(*s.queue, Delivery(command)))
            yield f"{command} is rejected: the queue is full", after

    def _decide(self, s: State, in_backoff: int) -> tuple[Message, ...]:
        free = self.quota - sum(job.is_preparing for job in s.jobs)
        waiting = [n for n, job in enumerate(s.jobs) if not job.is_preparing and n != in_backoff]
        return tuple(
            Message(s.session, number, job, s.jobs[job].fence) for number, job in enumerate(waiting[:free], 1)
        )

    # --- RabbitMQ ---

    def _rabbitmq(self, s: State) -> Iterator[Step[State]]:
        active = s.pod_managers[s.active]
        if s.queue and len(active.inbox) < MAX_INBOX_MESSAGES:
            first, *rest = s.queue
            after = _with_memory(s, s.active, active._replace(inbox=(*active.inbox, first)))
            after = after._replace(queue=tuple(rest), unacknowledged=(*s.unacknowledged, first))
            yield f"{_name(s.active)} receives {first.message}", after
        if s.takeovers < MAX_TAKEOVERS:
            other = 1 - s.active
            # A new process. Without the rule, the one that was cut off before is active again.
            memory = s.pod_managers[other] if Rule.NO_SESSION in self.without else PodManager()
            back = tuple(Delivery(delivery.message, redelivered=True) for delivery in s.unacknowledged)
            after = _with_memory(s, other, memory)._replace(active=other, takeovers=s.takeovers + 1)
            after = after._replace(queue=back + s.queue, unacknowledged=())
            yield f"{_name(s.active)} is cut off without notice, {_name(other)} takes over", after

    # --- pod-manager ---

    def _pod_manager(self, s: State, index: int) -> Iterator[Step[State]]:
        memory = s.pod_managers[index]
        if memory.writing:
            yield from self._answers(s, index, memory.writing)
        if not memory.inbox:
            return
        delivery, *rest = memory.inbox
        is_fence = delivery.message.job == NO_JOB
        if memory.writing and not (is_fence and Rule.FENCE_WAITS in self.without):
            return
        handle = self._fence if is_fence else self._command
        yield handle(s, index, memory._replace(inbox=tuple(rest)), delivery)

    def _fence(self, s: State, index: int, memory: PodManager, delivery: Delivery) -> Step[State]:
        message = delivery.message
        if delivery.redelivered:
            return f"{_name(index)} ignores {message}", _acknowledged(
                _with_memory(s, index, memory), index, delivery
            )
        s = _with_memory(s, index, memory._replace(session=message.session, next_number=1))
        if message.session == s.session and s.stage is Stage.FENCING:
            s = s._replace(stage=Stage.LISTING)
        return f"{_name(index)} reaches {message}", _acknowledged(s, index, delivery)

    def _command(self, s: State, index: int, memory: PodManager, delivery: Delivery) -> Step[State]:
        message = delivery.message
        if delivery.redelivered and Rule.SETTLE not in self.without:
            return f"{_name(index)} settles {message}", _writing(s, index, memory, delivery)
        if delivery.redelivered or message.session != memory.session:
            return f"{_name(index)} ignores {message}", _acknowledged(
                _with_memory(s, index, memory), index, delivery
            )
        if message.number != memory.next_number and Rule.GAP not in self.without:
            s = _with_memory(s, index, memory._replace(session=0, next_number=0))
            return f"{_name(index)} misses a command before {message}", _acknowledged(s, index, delivery)
        memory = memory._replace(next_number=message.number + 1)
        return f"{_name(index)} executes {message}", _writing(s, index, memory, delivery)

    def _answers(self, s: State, index: int, delivery: Delivery) -> Iterator[Step[State]]:
        write = _write(delivery)
        memory = s.pod_managers[index]._replace(writing=None)
        ended = _acknowledged(_with_memory(s, index, memory), index, delivery)
        if write in s.sent:
            yield f"the {write} arrives", _after_write(ended, write)
            # The request is repeated. Without the rule, the write counts as ended.
            after = ended if Rule.DEFINITE_ANSWER in self.without else s
            yield f"a proxy rejects the {write}", after
            after = ended if Rule.REPEAT in self.without else s
            yield f"the {write} gets no answer", after
            return
        fence = s.jobs[write.job].fence
        if write.admits and fence != write.token and Rule.END_SESSION not in self.without:
            # Hazard: the successor that settled this command may not have settled the later ones yet.
            ended = _with_memory(ended, index, memory._replace(session=0, next_number=0))
            yield f"{_name(index)} finds the {write} settled", ended
        else:
            yield f"{_name(index)} learns that the {write} has ended", ended


def _name(index: int) -> str:
    return f"pod-manager {index + 1}"


def _with_memory(s: State, index: int, memory: PodManager) -> State:
    first, second = s.pod_managers
    return s._replace(pod_managers=(first, memory) if index else (memory, second))


def _acknowledged(s: State, index: int, delivery: Delivery) -> State:
    """Return the state after an acknowledgement. A pod-manager that was cut off cannot acknowledge."""
    if index != s.active:
        return s
    return s._replace(unacknowledged=tuple(other for other in s.unacknowledged if other != delivery))


def _write(delivery: Delivery) -> Write:
    """Return the write of a command: an admission, or a settlement if redelivered."""
    message = delivery.message
    if delivery.redelivered:
        return Write(message.job, message.fence, message.fence + SETTLED, admits=False)
    return Write(message.job, message.fence, 10 * message.session + message.job, admits=True)


def _writing(s: State, index: int, memory: PodManager, delivery: Delivery) -> State:
    s = _with_memory(s, index, memory._replace(writing=delivery))
    return _without_void_writes(s._replace(sent=s.sent | {_write(delivery)}))


def _after_write(s: State, write: Write) -> State:
    job = Job(is_preparing=write.admits, fence=write.token)
    return _without_void_writes(s._replace(jobs=(s.jobs[0], job) if write.job else (job, s.jobs[1])))


def _without_void_writes(s: State) -> State:
    """Drop the writes that can no longer succeed, because no fence is used again."""
    live = (w for w in s.sent if s.jobs[w.job] == Job(is_preparing=False, fence=w.fence))
    return s._replace(sent=frozenset(live))
