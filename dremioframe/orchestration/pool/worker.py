"""A worker process: receive a call, run it, send its one outcome, clean up, again.

The order of steps is what makes every kill and every crash explainable (``status_page`` has the other half)::

    receive Y -> STARTED, RUNNING = Y -> runner (unpickle, run, pickle) -> flush -> outcome -> clean -> RUNNING = 0

- One outcome per started call, sent before the next call is received: a crash later cannot lose it.
- Nothing of the user is loaded before RUNNING is set: what kills the worker while loading is that call's doing.
- Before anything is sent the worker makes sure that it is still the process that received the call (a child that the
  task has forked may have fallen out of it) and that the descriptor still is its channel (the task may have closed it,
  and the number may now be a user's file).
- After SIGTERM no outcome is sent and no call received: the process ends. In user code SIGTERM is ``TaskCancelled``, so
  ``finally`` blocks run; anywhere else it is the end.

What lives here: the life of the process from just after the fork. What may not: the meaning of calls (the runner, an
object named by text), and forking (``zygote``).
"""

from __future__ import annotations

import _thread
import os
import resource
import signal
import sys
import time

from .. import failpoints
from ..errors import TaskCancelled
from ..payload import as_found
from ..payload.store import write_segment
from . import dumps, frames, status_page
from .changes import Changes
from .channel import Closed
from .frames import Kind
from .hygiene import Hygiene
from .ports import Ports, RequestFailed
from .refusal import Refusal, describe, story
from .ring import IS_ORDERED, RingWriter
from .status_page import Farewell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from ..payload.segments import Segment
    from .channel import Channel
    from .status_page import StatusPage

    #: What a runner gives: run one call, given its id and what was sent; return (status, parts of the payload).
    Run = Callable[[int, bytes], "tuple[int, Sequence[Any]]"]

__all__ = ["Ports", "RequestFailed", "become"]

# Bound now: a task may replace any of these in their modules, and this code runs after it.
_getpid, _exit, _monotonic_ns, _getrusage = os.getpid, os._exit, time.monotonic_ns, resource.getrusage
_open, _getsignal, _signal, _sigmask, _kill = open, signal.getsignal, signal.signal, signal.pthread_sigmask, os.kill
_BODY = frames.HEADER_SIZE
# Of those that Python has started, whoever did; threading.active_count() takes a lock and six times as long.
_count_threads = _thread._count  # noqa: SLF001 - there is no public one
_RUSAGE_SELF = resource.RUSAGE_SELF
_RUNNING, _STARTED_NS, _FAREWELL = status_page.RUNNING, status_page.STARTED_NS, status_page.FAREWELL
_SENT = status_page.SENT

#: After so many in the ring comes a packet and wakes the coordinator: it is to send more before nothing is left to do.
_RING_MOST = 15
_RING_LONGEST = 2048


def become(
    incarnation: int,
    inbox: Channel,
    side: Channel,
    page: StatusPage,
    make_runner: Callable[[Ports], Run],
    initializer: bytes | None,
    spill_dir: str | None,
) -> NoReturn:
    """Live as a worker. Called in the forked child, its relations and signals already put in order."""
    ports = Ports(side, incarnation, page.slots)
    worker = _Worker(incarnation, inbox, ports, page, spill_dir)
    signal.signal(signal.SIGTERM, worker.on_sigterm)
    dumps.arm(page.fd)
    dumps.disarm_in_children()
    _reseed_numpy()
    try:
        run = _make_run(make_runner, ports)
        if initializer is not None:
            _initialize(initializer)
            if _getpid() != worker.pid:
                _exit(0)  # a child that the initializer has forked: only one process may read the inbox
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told as the reason why no worker starts
        worker.refuse_to_boot(error)
    worker.serve(run)


class _Worker:
    """The loop and its state."""

    def __init__(self, incarnation: int, inbox: Channel, ports: Ports, page: StatusPage, spill_dir: str | None) -> None:
        self._incarnation = incarnation
        self._inbox = inbox
        self._identity = inbox.identity()
        self._ports = ports
        self._slots = page.slots
        self._dump_fd = page.fd
        self._ring = RingWriter(page)
        self._received = 0  # calls, ever
        self._unheard = 0  # outcomes in the ring since the last packet
        self._spill_dir = spill_dir
        self.pid = os.getpid()
        self._cpu_s = 0.0
        self._peak_kib = 0
        self._peak_rose = True
        self._peak_can_fall = True
        self._threads = 0
        self._hygiene: Hygiene

    # ------------------------------------------------------------------------------------------------------- lifetime

    def refuse_to_boot(self, error: BaseException) -> NoReturn:
        self._send(frames.pack(Kind.BOOT_FAILED, self._incarnation, body=story(error)))
        _exit(1)

    def serve(self, run: Run) -> NoReturn:
        """Run calls until the process is ended from outside, or has to end itself."""
        self._hygiene = self._ports.hygiene = Hygiene(self._dump_fd)
        Changes.on_handler = self._note_handler
        self._note_handler()  # an initializer may have set one of its own
        as_found.note()
        self._threads = _count_threads()
        usage = _getrusage(_RUSAGE_SELF)
        self._cpu_s, self._peak_kib = usage.ru_utime + usage.ru_stime, usage.ru_maxrss
        self._send(frames.pack(Kind.BOOTED, self._incarnation))
        buffer = bytearray(frames.PACKET_LIMIT + 1)
        view = memoryview(buffer)
        receive = self._inbox.receive_into_waiting
        while True:
            try:
                length = receive(buffer)
            except OSError:
                self._end(Farewell.CHANNEL_LOST)
            if not length:
                self._end(Farewell.CHANNEL_LOST)
            self._received += 1
            self._attend(frames.read_call_id(buffer), bytes(view[_BODY:length]), run)

    def on_sigterm(self, signum: int, frame: object) -> None:
        """The handler: in a call, tell the task; else end."""
        ports = self._ports
        if _getpid() != self.pid:
            self._end_by_sigterm()  # a child that the task has forked, whatever its parent was about
        if ports.stopping:
            return  # once is enough: ``finally`` blocks are at work
        ports.stopping = True
        if not ports.running:
            self._end_by_sigterm()
        self._slots[status_page.TOLD] = 1
        if ports.on_stop is not None:
            try:
                ports.on_stop()
            except Exception:  # noqa: BLE001 - the task's own hook: told, and the task is stopped all the same
                _print_exception()
        raise TaskCancelled

    def _note_handler(self) -> None:
        """The handler of a signal was changed. A task's own handler of SIGTERM is to be called but once."""
        if _getpid() == self.pid:
            self._slots[status_page.OWN_HANDLER] = _getsignal(signal.SIGTERM) != self.on_sigterm

    # ---------------------------------------------------------------------------------------------------------- a call

    def _attend(self, call_id: int, body: bytes, run: Run) -> None:
        slots = self._slots
        if self._peak_rose:
            self._forget_peak()
        if failpoints.armed:
            failpoints.hit("worker.received")
        slots[_STARTED_NS] = started_ns = _monotonic_ns()
        slots[_RUNNING] = call_id
        retiring = self._run(call_id, body, run, started_ns)  # and with it go the arguments and the result
        if failpoints.armed:
            failpoints.hit("worker.told")
        try:
            self._hygiene.clean(_monotonic_ns() - started_ns)
        except Exception:  # noqa: BLE001 - whatever could not be put back, the next call must not find it
            self._end(Farewell.NOT_CLEANED)
        if retiring:
            self._end(Farewell.RETIRED)
        slots[_RUNNING] = 0

    def _run(self, call_id: int, body: bytes, run: Run, started_ns: int) -> bool:
        """Run one call and send its outcome; True if this worker must not run another. Keeps nothing of the call."""
        ports = self._ports
        ports.bytes_in = len(body)
        try:
            ports.running = call_id
            status, parts = run(call_id, body)
            ports.running = 0
        except BaseException:  # noqa: BLE001 - SIGTERM's TaskCancelled, or a bug of the runner
            self._end_after_runner()
        ports.on_stop = None
        if ports.stopping:
            self._end_by_sigterm()
        if _getpid() != self.pid and not (failpoints.armed and failpoints.hit("worker.stranger")):
            _exit(0)  # a child that the task has forked: the outcome is its parent's to send
        self._hygiene.flush()
        retiring = _count_threads() > self._threads and not (failpoints.armed and failpoints.hit("worker.threads"))
        self._send_outcome(call_id, status | (frames.FLAG_RETIRING if retiring else 0), parts, started_ns)
        return retiring

    def _send_outcome(self, call_id: int, detail: int, parts: Sequence[Any], started_ns: int) -> None:
        payload = parts[0]
        if len(parts) != 1 or type(payload) is not bytes or len(payload) > frames.INLINE_LIMIT:
            size = _size(parts)
            if size > frames.INLINE_LIMIT:
                if not self._send_segment(call_id, parts, size):
                    return
                detail |= frames.FLAG_SEGMENT
                payload = b""
            else:
                payload = b"".join(parts)
        # By index: the names cost as much as the system call.
        usage = _getrusage(_RUSAGE_SELF)
        cpu_s, peak_kib = usage[0] + usage[1], usage[2]
        rose = peak_kib > self._peak_kib
        peak = peak_kib << 1 | (rose or self._peak_can_fall)
        cpu_ns = int((cpu_s - self._cpu_s) * 1e9)
        self._cpu_s, self._peak_kib, self._peak_rose = cpu_s, peak_kib, rose
        wall_ns = _monotonic_ns() - started_ns
        stats = (started_ns, cpu_ns, peak, self._ports.bytes_in)
        if failpoints.armed:
            failpoints.hit("worker.outcome")
        outcome = frames.pack_outcome(self._incarnation, call_id, detail, wall_ns, stats, payload)
        may_wait = self._may_wait(detail, outcome)
        if failpoints.armed:
            failpoints.hit("worker.may_wait")
        if may_wait and self._ring.put(outcome):
            self._unheard += 1
            if self._slots[_SENT] <= self._received:  # what was to come has been taken back meanwhile
                self._unheard = 0
                self._send(frames.pack(Kind.LOOK, self._incarnation))
        else:
            self._unheard = 0
            self._send(outcome)

    def _may_wait(self, detail: int, outcome: bytes) -> bool:
        """Whether an outcome may go to the ring: more calls wait for this worker, and it will tell of itself soon."""
        return (
            self._slots[_SENT] > self._received
            and self._unheard < _RING_MOST
            and len(outcome) <= _RING_LONGEST
            and detail <= frames.STATUS_MASK
            and IS_ORDERED
        )

    def _forget_peak(self) -> None:
        """Bring the high-water mark down to what is in use now: an earlier call has raised it, and is gone.

        A call that does not raise the mark costs nothing here, and the mark it finds is as good as its own.
        """
        self._peak_rose = False
        try:
            with _open("/proc/self/clear_refs", "wb", buffering=0) as clear_refs:
                clear_refs.write(b"5")
        except OSError:  # not allowed here: the mark never falls, and peaks are exact only while they rise
            self._peak_can_fall = False
        self._peak_kib = _getrusage(_RUSAGE_SELF).ru_maxrss

    def _send_segment(self, call_id: int, parts: Sequence[Any], size: int) -> bool:
        """Write a long payload to a segment and hand that over; if it cannot be, say so as the call's outcome."""
        try:
            segment = self._make_segment(parts, size)
            try:
                self._ports.send_result(call_id, segment.fd)
            finally:
                segment.close()
        except (OSError, MemoryError) as error:
            if failpoints.armed and failpoints.hit("worker.undeliverable"):
                raise
            why = f"its result of {size} bytes: {error}"
            self._send(frames.pack(Kind.UNDELIVERABLE, self._incarnation, call_id, why.encode()))
            return False
        except RequestFailed:
            self._end(Farewell.CHANNEL_LOST)
        return True

    def _make_segment(self, parts: Sequence[Any], size: int) -> Segment:
        """In memory, or on disk if the coordinator says that there is no room in memory and there is a disk."""
        return write_segment(parts, size, self._slots[status_page.ROOM], self._spill_dir, "dremioframe-result")

    def _send(self, packet: bytes) -> None:
        try:
            if self._inbox.identity() == self._identity or (failpoints.armed and failpoints.hit("worker.identity")):
                self._inbox.send_waiting(packet)
                return
        except (OSError, Closed):
            pass
        self._end(Farewell.CHANNEL_LOST)

    # ------------------------------------------------------------------------------------------------------------ ends

    def _end_after_runner(self) -> NoReturn:
        if _getpid() != self.pid:
            _exit(0)
        if self._ports.stopping:
            self._end_by_sigterm()
        sys.stderr = sys.__stderr__
        _print_exception()
        self._end(Farewell.RUNNER_FAILED)

    def _end_by_sigterm(self) -> NoReturn:
        if _getpid() == self.pid:
            self._slots[_FAREWELL] = Farewell.TERMINATED
        _signal(signal.SIGTERM, signal.SIG_DFL)
        _sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        _kill(_getpid(), signal.SIGTERM)
        _exit(1)

    def _end(self, farewell: int) -> NoReturn:
        self._slots[_FAREWELL] = farewell
        _exit(0 if farewell == Farewell.RETIRED else 1)


def _print_exception() -> None:
    with as_found.AsFound():
        import traceback

        traceback.print_exc()


def _size(parts: Sequence[Any]) -> int:
    """Bytes in these parts; the length of a view of numbers is not that."""
    return sum(part.nbytes if type(part) is memoryview else len(part) for part in parts)


def _make_run(make_runner: Callable[[Ports], Run], ports: Ports) -> Run:
    try:
        return make_runner(ports)
    except BaseException as error:
        raise Refusal(f"the runner cannot be made: {describe(error)}") from error


def _initialize(initializer: bytes) -> None:
    from ..payload.initial import Before
    from ..payload.references import load_code

    try:
        function = load_code(initializer)
        before = Before()
    except BaseException as error:
        raise Refusal(f"the initializer cannot be unpickled: {describe(error)}") from error
    try:
        function()
    except BaseException as error:
        raise Refusal(f"the initializer raised {describe(error)}") from error
    before.keep_changes()


def _reseed_numpy() -> None:
    """All workers would draw the same numbers if NumPy was preloaded: its global generator was forked with them.

    Python's own ``random`` does this for itself.
    """
    random: Any = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()
