"""What every test gets: a watchdog, and in the parts that own processes a check that nothing is left behind.

The watchdog has two stages. SIGALRM at the limit: its handler prints the stacks of this process and what is known of
every descendant, then ends the suite. If the interpreter never comes back to run a handler (a C loop that holds the
GIL), or the loop of a run does not come to its next turn, faulthandler's own thread does the same ten seconds later,
without the descendants. No Python thread is used: tests count threads, and fork.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from dremioframe.orchestration.pool import dispatch, silence, window

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_LIMIT_S = 120.0
SECOND_STAGE_S = 10.0
#: Where tests are expected to hang: `make test-the-tests` switches off what keeps them from it.
CEILING_S = float(os.environ.get("DREMIOFRAME_TEST_WATCHDOG_S", "inf"))
LEAK_CHECKED = {"chaos", "contract", "engine", "executors", "faults", "pool", "schedule"}
SETTLE_S = 5.0

_stderr_fd = 2


def pytest_configure(config: pytest.Config) -> None:
    global _stderr_fd
    # Capturing is suspended here, so this is the real stderr; os.dup marks it close-on-exec.
    _stderr_fd = os.dup(2)
    # A shell that starts the suite in the background, or nohup, has it ignore what tests send and children inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


# ------------------------------------------------------------------------------------------------------------ watchdog


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    marker = item.get_closest_marker("watchdog")
    limit_s = float(marker.args[0]) if marker else DEFAULT_LIMIT_S
    limit_s = min(limit_s, CEILING_S)

    def expired(signum: int, frame: object) -> None:
        _say(f"\n\n{item.nodeid} runs longer than {limit_s:g} s. Stacks of this process and its descendants:\n")
        faulthandler.dump_traceback(file=_stderr_fd)
        try:
            _describe_descendants()
        except Exception:
            _say(traceback.format_exc())
        finally:
            os._exit(1)

    previous = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    faulthandler.dump_traceback_later(limit_s + SECOND_STAGE_S, exit=True, file=_stderr_fd)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _say(text: str) -> None:
    os.write(_stderr_fd, text.encode(errors="backslashreplace"))


def _describe_descendants() -> None:
    for process in psutil.Process().children(recursive=True):
        _say(f"\n--- child {process.pid}: {_read(process.pid, 'cmdline')[:300]}\n")
        for name in ("status", "wchan", "syscall"):
            text = _read(process.pid, name)
            wanted = [
                line for line in text.splitlines() if name != "status" or line.startswith(("State", "PPid", "Sig"))
            ]
            _say(f"{name}: {'; '.join(wanted)}\n")
        _say(_python_stack(process))


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError as error:
        return f"({error})"


def _python_stack(process: psutil.Process) -> str:
    """Ask a worker for its stacks the way the pool does: a signal, answered into the memfd behind its status page."""
    from dremioframe.orchestration.pool import termination

    dump_signal = getattr(termination, "DUMP_SIGNAL", None)
    page_bytes, largest_page_bytes = 4096, 1 << 20
    if dump_signal is None or not _catches(process.pid, dump_signal):
        return ""
    process.send_signal(dump_signal)
    time.sleep(0.2)  # nothing tells when the dump is complete, and the suite ends here anyway
    texts = []
    for entry in os.scandir(f"/proc/{process.pid}/fd"):
        if "memfd:" in os.readlink(entry.path) and os.stat(entry.path).st_size <= largest_page_bytes:
            with open(entry.path, "rb") as file:
                file.seek(page_bytes)
                texts.append(file.read(20_000).decode(errors="replace").strip("\0"))
    return "\n".join(texts)


def _catches(pid: int, signum: int) -> bool:
    for line in _read(pid, "status").splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signum - 1) & 1)
    return False


# ---------------------------------------------------------------------------------------------------------- the window


@pytest.fixture
def sent_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first calls, more are sent to a worker than it runs, and stay there, however slow the machine is."""
    monkeypatch.setattr(window, "_AHEAD_NS", 10**12)
    monkeypatch.setattr(dispatch, "STALL_S", 600)
    monkeypatch.setattr(silence, "_LOOK_S", 600)


# --------------------------------------------------------------------------------------------------------- leak check


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Descriptors, children and threads after the test are those from before it (`may_leak(reason)` opts out)."""
    parts = request.path.relative_to(Path(__file__).parent).parts
    if parts[0] not in LEAK_CHECKED or request.node.get_closest_marker("may_leak"):
        yield
        return
    before = _belongings()
    yield
    left = _left_over(before)
    if left:
        pytest.fail("left behind: " + "; ".join(left))


def _belongings() -> dict[str, str]:
    """What this process owns, by a name that tells two of a kind apart."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    # Of all threads that run Python: one that threading did not start is known to it only once it asked who it is.
    owned = {f"thread {ident}": names.get(ident, "") for ident in sys._current_frames()}
    for fd in os.listdir("/proc/self/fd"):
        try:
            owned[f"fd {fd} {os.stat(int(fd)).st_ino}"] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the descriptor of the listing itself
    for child in psutil.Process().children(recursive=True):
        owned[f"child {child.pid}"] = _read(child.pid, "cmdline")[:120]
    return owned


def _left_over(before: dict[str, str]) -> list[str]:
    """What is new. Ends that are under way (a thread that returns, a child being reaped) get a moment."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        left = [f"{name} ({what})" for name, what in _belongings().items() if name not in before]
        if not left or time.monotonic() > deadline:
            return left
        gc.collect()
        time.sleep(0.01)
