"""One worker as the coordinator sees it: its channels, its page, the calls it holds, and how it ended.

What lives here: state of one worker and what can be done with its descriptors. What may not: choosing among workers
(``dispatch``, ``capacity``) and reacting to what it does (``lifecycle``, ``stopping``). A handle is used by one
thread at a time: the lease's that has it, or whoever holds the pool's lock while it is idle.
"""

from __future__ import annotations

import os
import time

from .. import failpoints
from . import channel, frames, kinship, status_page, termination
from .frames import Kind, ProtocolError
from .ring import RingReader
from .status_page import StatusPage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..payload.segments import Segment
    from .channel import Channel
    from .stopping import Order

#: The kernel's own limit (PID_MAX_LIMIT).
_LARGEST_PID = 1 << 22


class WorkerHandle:
    """One worker, from before it is forked until its end is settled.

    Attributes:
        incarnation: Its number; never used again in this pool.
        outcome_mark: What an outcome of it begins with.
        inbox: Our end of the inbox: calls out, outcomes in.
        side: Our end of the side channel: its requests in, our answers out.
        page: What it shows of itself.
        ring: Outcomes that came without a packet.
        calls: The calls it holds, read or unread, with their time-outs in seconds.
        pidfd: Descriptor of the process, or -1 as long as the zygote has not told.
        sent: Calls sent to it and not taken back, in its whole life.
        looks: How often it has asked for a look at its ring.
        has_spoken: It has said how its start went.
        booted: It said that it is ready, and we had not given it up by then.
        boot_error: Why it did not start: its own word, its zygote's, or ours if it took too long.
        served: It has finished a call.
        full: Its inbox takes no more for now.
        deaf: A task has shut its inbox down: it hears of no call any more, and what it says still counts.
        silent: It did not react when last looked at, and gets calls only if nobody else can have them.
        leaving: Somebody else is to have it when it is empty.
        condemned: It gets no further call and is about to end; ``fault`` may say why.
        fault: Why we ended it, if that was its fault.
        orphaned: Nobody will report how it ended: what became of its zygote, or empty.
        ended_first: Its end was noticed before that of its zygote.
        exit: (exit code, signal) as the zygote reported them.
        order: It was told to end because of one of its calls.
        undead: It was killed and does not end.
        results: Segments that came ahead of their outcomes, by call.
        unclaimed: An outcome whose segment could not be taken yet: (call, detail, wall time, packet).
        unclaimed_since: When that was tried first.
    """

    __slots__ = (
        "_call_mark",
        "_copy",
        "_pid",
        "_worker_side",
        "boot_error",
        "booted",
        "calls",
        "condemned",
        "deaf",
        "ended_first",
        "exit",
        "fault",
        "full",
        "has_spoken",
        "inbox",
        "incarnation",
        "leaving",
        "looks",
        "order",
        "orphaned",
        "outcome_mark",
        "page",
        "pidfd",
        "results",
        "ring",
        "sent",
        "served",
        "side",
        "silent",
        "unclaimed",
        "unclaimed_since",
        "undead",
    )

    def __init__(
        self, incarnation: int, inbox: tuple[Channel, Channel], side: tuple[Channel, Channel], page: StatusPage
    ) -> None:
        self.incarnation = incarnation
        self._call_mark = frames.mark(Kind.CALL, incarnation)
        self.outcome_mark = frames.mark(Kind.OUTCOME, incarnation)
        self.inbox, self._copy = inbox
        self.side, worker_side = side
        self._worker_side: Channel | None = worker_side
        self.page = page
        self.ring = RingReader(page)
        self.calls: dict[int, float | None] = {}
        self.pidfd = -1
        self._pid = 0
        self.sent = 0
        self.looks = 0
        self.has_spoken = False
        self.booted = False
        self.boot_error = ""
        self.served = False
        self.full = False
        self.deaf = False
        self.silent = False
        self.leaving = False
        self.condemned = False
        self.fault = ""
        self.orphaned = ""
        self.ended_first = False
        self.exit: tuple[int | None, int | None] | None = None
        self.order: Order | None = None
        self.undead = False
        self.results: dict[int, Segment] = {}
        self.unclaimed: tuple[int, int, int, bytes] | None = None
        self.unclaimed_since: float | None = None

    @classmethod
    def create(cls, incarnation: int) -> WorkerHandle:
        """Everything that a worker needs except its process. Calls may be sent at once.

        Raises:
            OSError: No descriptor or memory is left; nothing was created.
        """
        opened: list[Channel] = []
        try:
            opened += channel.pair()
            opened += channel.pair()
            page = StatusPage.create("dremioframe-worker")
        except OSError:
            for end in opened:
                end.close()
            raise
        return cls(incarnation, (opened[0], opened[1]), (opened[2], opened[3]), page)

    @property
    def pid(self) -> int:
        """Its process id: the zygote's word, before that its own page's; 0 as long as it has not begun to live."""
        if self._pid == 0:
            pid = self.page.slots[status_page.PID]
            self._pid = pid if pid <= _LARGEST_PID else 0  # a task may write there what it likes
        return self._pid

    def forked(self, pid: int, pidfd: int) -> None:
        """The zygote has forked it. Said once.

        Raises:
            ProtocolError: It was forked before.
        """
        if self.pidfd >= 0:
            os.close(pidfd)
            raise ProtocolError("a worker was forked twice")
        self._pid, self.pidfd = pid, pidfd

    @property
    def farewell(self) -> int:
        """Why it ended itself; one of ``Farewell``."""
        return self.page.slots[status_page.FAREWELL]

    @property
    def accepting(self) -> bool:
        """Whether calls may be sent to it at all."""
        return not (self.condemned or self.leaving or self.full)

    @property
    def is_ordered(self) -> bool:
        """Whether the zygote was told to fork it."""
        return self._worker_side is None

    def worker_fds(self) -> tuple[int, int, int]:
        """The descriptors that become the worker's own: inbox, side channel, page."""
        assert self._worker_side is not None
        return self._copy.fd, self._worker_side.fd, self.page.fd

    def handed_over(self) -> None:
        """The zygote has the worker's end of the side channel. We keep none, so that its end is the worker's end."""
        if self._worker_side is not None:
            self._worker_side.close()
            self._worker_side = None

    def send_call(self, call_id: int, body: bytes, timeout_s: float | None) -> bool:
        """Put a call into its inbox; False if that is full, or the kernel short of buffers, or the worker deaf."""
        self.calls[call_id] = timeout_s  # first: what was sent and is not known would be taken for a lie when it ends
        try:
            is_sent = self.inbox.send(frames.pack_call(self._call_mark, call_id, body))
        except channel.Closed:  # not by its end: of that end we hold a copy
            is_sent, self.deaf = False, True
        if not is_sent:
            del self.calls[call_id]
            self.full = bool(self.calls)  # an empty one is not full, and no outcome would ever say that it has room
            return False
        self.sent += 1
        self.page.slots[status_page.SENT] = self.sent
        return True

    def take_back(self) -> list[int]:
        """Take all unread calls out of its inbox, through our copy of its end.

        The kernel gives each packet to exactly one reader, so a call is either here or was received by the worker.
        """
        taken = []
        while packet := self._copy.receive(frames.HEADER_SIZE):  # b"" is the end: a task has shut the socket down
            call_id = frames.read_call_id(packet)
            self.sent -= 1
            if call_id in self.calls:  # or the worker has claimed, falsely, that it has ended
                del self.calls[call_id]
                taken.append(call_id)
        self.page.slots[status_page.SENT] = self.sent
        self.full = False
        return taken

    def running(self) -> tuple[int, int]:
        """(the call of ours that it runs or 0, its start in ns).

        A call whose outcome has been received may still be on the page for a moment; that is not running any more.
        """
        call_id, started_ns = self.page.running()
        return (call_id, started_ns) if call_id in self.calls else (0, 0)

    def running_s(self, call_id: int) -> float | None:
        """For how long this call of ours has been running; None if it is not, as far as the page tells."""
        return self.since_start_s() if self.running()[0] == call_id else None

    def since_start_s(self) -> float:
        """How long ago its latest call began, whether that has ended or not."""
        return max(0.0, time.monotonic() - self.page.running()[1] / 1e9)

    def find_process(self, parents: frozenset[int]) -> None:
        """The zygote died before it handed over the pidfd: open one by the number on the page, if it is still that.

        Args:
            parents: Process ids of which one must be its parent: the zygote's, and its sentry's.

        Raises:
            OSError: There is no descriptor.
        """
        pid = self.pid
        if self.pidfd >= 0 or pid == 0:
            return
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        stat = kinship.read_stat(pid)
        is_ours = stat is not None and stat[0] in parents and stat[1] == pid
        if is_ours or (failpoints.armed and failpoints.hit("worker_handle.stranger")):
            self.pidfd = pidfd
        else:
            os.close(pidfd)

    def is_dead(self) -> bool:
        """Whether its process has ended, if that can be known yet."""
        if self.pidfd < 0:
            return bool(self.orphaned) or self.exit is not None
        return termination.has_ended(self.pidfd)

    def close(self) -> None:
        """Give all descriptors back."""
        for segment in self.results.values():
            segment.close()
        self.results.clear()
        self.handed_over()
        self.inbox.close()
        self._copy.close()
        self.side.close()
        self.page.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
