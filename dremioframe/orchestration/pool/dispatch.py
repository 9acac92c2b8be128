"""Who gets the next call.

A worker that has nothing to do; else a new one, if this lease may have more; else one that may hold calls in advance
(``window``). What cannot be sent now waits in a backlog, which is empty as long as nobody submits more than there is
room for.

Calls that wait at a worker which turns out to be running something long are taken back and told as returned, so nothing
is stranded behind it; the caller submits them again in the order it thinks best by then. So are calls that wait for a
worker to boot while another has become idle.

A call with a memory limit goes to a worker that has nothing to do, and until it has ended that worker gets no other. If
there is none it is told as returned, and there is no room for second calls before it has had its turn.

While the machine is short of memory, one call runs at a time.

Workers that others need are given back: idle ones at once, those above the fair share as they become empty.

What lives here: choosing workers. What may not: what comes back from them.
"""

from __future__ import annotations

from collections import deque

from .. import failpoints
from .events import CallReturned, MemoryShort
from .floor import NEVER
from .shortage import Shortage
from .window import STALL_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .capacity import Capacity
    from .deadlines import Deadlines
    from .floor import Floor
    from .lifecycle import Lifecycle
    from .memory_limits import MemoryLimits
    from .shares import Share
    from .silence import Silence
    from .window import Window
    from .worker_handle import WorkerHandle


#: When the kernel had no buffers for a call, it is sent again after this long.
_BREATH_S = 0.01

#: So much room in a full window is filled at once; less waits until half of it is empty, or every call would be a turn.
_WORTHWHILE = 16


class Dispatch:
    """Distributes the calls of one lease.

    Attributes:
        backlog: Calls that could not be sent yet: (id, body, time-out).
        retreating: Some worker is to leave as soon as it is empty.
        crowd_due: When :meth:`uncrowd` has to be called next.
        starved: Room was asked for and there was none.
    """

    __slots__ = (
        "_capacity",
        "_crowded",
        "_deadlines",
        "_floor",
        "_kernel_short",
        "_lifecycle",
        "_max_calls",
        "_memory_limits",
        "_misplaced",
        "_refused",
        "_share",
        "_shortage",
        "_silence",
        "_slots",
        "_spare",
        "_window",
        "backlog",
        "crowd_due",
        "retreating",
        "starved",
    )

    def __init__(
        self,
        floor: Floor,
        window: Window,
        deadlines: Deadlines,
        memory_limits: MemoryLimits,
        silence: Silence,
        lifecycle: Lifecycle,
        capacity: Capacity,
        share: Share,
    ) -> None:
        self.backlog: deque[tuple[int, bytes, float | None]] = deque()
        self.crowd_due = NEVER
        self.retreating = False
        self.starved = False
        self._floor = floor
        self._window = window
        self._deadlines = deadlines
        self._memory_limits = memory_limits
        self._silence = silence
        self._lifecycle = lifecycle
        self._capacity = capacity
        self._share = share
        self._shortage = Shortage(capacity.gauge)
        self._max_calls = capacity.options.max_calls_per_worker
        self._slots: list[WorkerHandle | None] = []  # where the next calls go, last first; None for a new worker
        self._spare: dict[WorkerHandle, int] = {}  # and after them: how many more each may hold
        self._kernel_short = False  # a call could not be sent, and not because its worker has too many
        self._crowded = False  # some call may be waiting behind another
        self._misplaced = False  # ... or for a worker to boot, or to react
        self._refused: set[int] = set()  # calls that need an idle worker, found none, and will come again

    def room(self) -> int:
        """How many calls may be submitted now; 0 makes the lease a hungry one."""
        self._plan()
        if self._refused:
            self._spare.clear()
        room = 0 if self.backlog else len(self._slots) + sum(self._spare.values())
        self.starved = room == 0 and not self._shortage.holding
        if self.starved:
            self._capacity.want(self._share)
        return room

    def submit(self, call_id: int, body: bytes, timeout_s: float | None) -> None:
        """Send a call, or keep it until it can be sent."""
        if self._slots or self._lay_out_spare():
            worker = self._slots.pop() or self._hire()
            if worker is None or not self._send(worker, call_id, body, timeout_s):
                self.backlog.append((call_id, body, timeout_s))
        elif self._refused:  # it must not overtake them
            self._floor.events.append(CallReturned(call_id))
        else:
            self.backlog.append((call_id, body, timeout_s))
            self.flush()

    def submit_limited(self, call_id: int, body: bytes, timeout_s: float | None, memory_limit: int) -> None:
        """Send a call to an idle or a new worker, or tell that it has not been sent."""
        worker = self._pop_idle()
        if worker is not None:
            self._memory_limits.arm(worker, call_id, memory_limit)
            if self._send(worker, call_id, body, timeout_s):
                worker.full = True
                self._spare.pop(worker, None)
                self._refused.discard(call_id)
                return
        self._refused.add(call_id)
        self.forget_plan()
        self._floor.events.append(CallReturned(call_id))

    def flush(self) -> None:
        """Send what could not be sent when it was submitted."""
        self._plan()
        self._kernel_short = False
        for _ in range(len(self.backlog)):
            call_id, body, timeout_s = self.backlog.popleft()
            worker = (self._slots.pop() or self._hire()) if self._slots or self._lay_out_spare() else None
            if worker is None or not self._send(worker, call_id, body, timeout_s):
                self.backlog.append((call_id, body, timeout_s))
        self.starved = self.starved or bool(self.backlog)

    def withdraw(self, call_id: int) -> bool:
        """Take a call out of the backlog and tell that it never started; False if it is not there."""
        self.forget_plan()
        for index, (waiting, *_) in enumerate(self.backlog):
            if waiting == call_id:
                del self.backlog[index]
                self._floor.events.append(CallReturned(call_id))
                return True
        return False

    def withdraw_all(self) -> None:
        """Take all calls out of the backlog."""
        self.forget_plan()
        self._floor.events += [CallReturned(waiting) for waiting, *_ in self.backlog]
        self.backlog.clear()

    def forget_plan(self) -> None:
        """The plan that :meth:`room` has made is out of date: workers may have come, gone or been filled since."""
        self._slots.clear()
        self._spare.clear()

    def due(self, now: float) -> float:
        """When something here has to be looked at next."""
        due = now + _BREATH_S if self._kernel_short else NEVER
        if self._crowded or (self._misplaced and self._is_one_idle()):
            if self.crowd_due == NEVER:
                self.crowd_due = now + STALL_S
            due = min(due, self.crowd_due)
        if self.starved:
            retry_at = self._capacity.retry_at()
            if retry_at > now:
                due = min(due, retry_at)
        return min(due, self._shortage.due) if self._shortage.holding else due

    def may_retry(self, now: float) -> bool:
        """Whether there may be room for those who were told that there is none; true once."""
        if self._shortage.is_over(now):
            return True
        if not self.starved or not 0 < self._capacity.retry_at() <= now:
            return False
        self.starved = False
        return True

    def uncrowd(self, now: float) -> None:
        """Take back what waits behind a long call, or for a worker that cannot run it yet while another is idle."""
        idle = self._is_one_idle()
        self._crowded = self._misplaced = False
        for worker in self._floor.workers.values():
            if not worker.booted or worker.silent:
                if idle and worker.calls:
                    self._floor.take_back(worker)
                self._misplaced = self._misplaced or bool(worker.calls)
            elif len(worker.calls) > 1:
                self._crowded = True
                running, started_ns = worker.running()
                if running and now - started_ns / 1e9 > STALL_S:
                    self._floor.take_back(worker)
                    self._window.stalled()
        self.crowd_due = now + STALL_S if self._crowded else NEVER

    def share_out(self) -> None:
        """Give workers back: idle ones if others need them, those above the fair share as they become empty."""
        surplus = self._capacity.surplus(self._share)
        wanted = self._capacity.others_hungry(self._share)
        for worker in list(self._floor.workers.values()):
            if not worker.calls and not worker.condemned and (surplus > 0 or wanted):
                self._lifecycle.dismiss(worker)
                surplus -= 1
        for worker in sorted(self._floor.workers.values(), key=lambda worker: len(worker.calls)):
            worker.leaving = surplus > 0 and not worker.condemned
            surplus -= worker.leaving
        self.retreating = any(worker.leaving for worker in self._floor.workers.values())

    def _is_one_idle(self) -> bool:
        """Whether some worker would run a call at once."""
        return any(
            worker.booted and worker.accepting and not worker.calls and not worker.silent
            for worker in self._floor.workers.values()
        )

    def _plan(self) -> None:
        """Lay out who gets the next calls: idle workers, new ones, then a second call for each, a third, ..."""
        if self._silence.due == NEVER:
            self._silence.arm()
        is_short = self._shortage.is_on()
        if is_short:
            self._hold_back()
        window = self._window.size
        first: list[WorkerHandle | None] = []
        booting: list[WorkerHandle | None] = []
        doubtful: list[WorkerHandle | None] = []
        self._spare.clear()
        for worker in self._floor.workers.values():
            if not worker.accepting:
                continue
            held = len(worker.calls)
            limit = window if worker.booted and not worker.silent else 1
            if self._max_calls is not None:
                limit = min(limit, held + self._max_calls - worker.sent)
            if held == 0 and limit > 0:
                (doubtful if worker.silent else first if worker.booted else booting).append(worker)
                held = 1
            if held < limit and (held * 2 <= limit or limit - held >= _WORTHWHILE):
                self._spare[worker] = limit - held
        slots = first + booting
        slots += [None] * self._capacity.growth(self._share)
        slots += doubtful
        slots.reverse()
        self._slots = slots
        if is_short:
            self._spare.clear()
            self._slots = [] if self._shortage.holding else slots[-1:]

    def _hold_back(self) -> None:
        """Memory is short: what waits behind a running call is not to start, nor anything else as long as one runs."""
        if story := self._shortage.story():
            self._floor.events.append(MemoryShort(story))
        workers = self._floor.workers.values()
        for worker in workers:
            if len(worker.calls) > 1:
                self._floor.take_back(worker)
        self._shortage.holding = any(worker.calls for worker in workers)

    def _pop_idle(self) -> WorkerHandle | None:
        """The next worker of the plan if it has nothing to do, or a new one."""
        if not self._slots:
            return None
        worker = self._slots[-1]
        if worker is not None and worker.calls:
            return None
        self._slots.pop()
        return self._hire() if worker is None else worker

    def _lay_out_spare(self) -> bool:
        """Go on to the second calls; False if nobody may hold one. Not at once: in a chain it never comes to that."""
        spare, self._spare = self._spare, {}
        slots: list[WorkerHandle | None] = []
        while spare:
            fewest = min(spare.values())
            slots += list(spare) * fewest
            spare = {worker: count - fewest for worker, count in spare.items() if count > fewest}
        slots.reverse()
        self._slots = slots
        return bool(slots)

    def _send(self, worker: WorkerHandle, call_id: int, body: bytes, timeout_s: float | None) -> bool:
        if not worker.send_call(call_id, body, timeout_s):
            self._kernel_short = self._kernel_short or not worker.full
            if worker.deaf:
                self._floor.condemn(worker)
            return False
        if not worker.booted or worker.silent:
            self._misplaced = True
        elif len(worker.calls) > 1:
            self._crowded = True
        if timeout_s is not None:
            self._deadlines.arm(worker, timeout_s)
        return True

    def _hire(self) -> WorkerHandle | None:
        if failpoints.armed:
            failpoints.hit("dispatch.hire")
        worker = self._capacity.acquire(self._share)
        if worker is None:
            return None
        self._lifecycle.enlist(worker)
        # Another lease's thread may have heard by now that it could not be forked; then it is closed already.
        return worker if worker.incarnation in self._floor.workers else None
