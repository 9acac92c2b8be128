"""Named points in pool and engine at which a test can pause, kill or fail a process, or switch a protection off.

A point costs one look at a flag in normal use::

    if failpoints.armed and failpoints.hit("intake.drain"):
        return  # the protection that stands here is off

What is armed is text, in the environment variable ``DREMIOFRAME_FAILPOINTS``, so the fork server and its workers get it
as the coordinator has it: ``name=action`` pairs, separated by semicolons. The actions:

========================  ============================================================================================
``off``                   ``hit`` returns True: whatever is guarded by it is skipped
``fail:ENOSPC``           raises the OSError of that name
``kill``                  SIGKILL to this process
``exit:N``                ``os._exit(N)``
``pause:DIR``             writes this process's id to the FIFO ``DIR/reached``, then waits for the end of ``DIR/go``,
                          or ends this process if nobody comes in five minutes
========================  ============================================================================================

A suffix says when: ``@3`` is the third time that this process comes here, and only that; ``@3+`` is from then on; and
``!PATH`` is once in all processes together, whoever first creates that file. Without one it is each time.

What lives here: the mechanism. What may not: knowledge of any point; imports that cost time.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    #: Action, first and last time that it counts, the file to claim.
    _Armed = tuple[str, int, int, str]


VARIABLE = "DREMIOFRAME_FAILPOINTS"
_ENDLESS = 1 << 62
_PAUSE_LIMIT_S = 300.0

#: Whether any point is armed in this process.
armed = False
_points: dict[str, _Armed] = {}
_passed: dict[str, int] = {}


def load(text: str | None = None) -> None:
    """Arm what ``text`` says (what the environment says, if None), and nothing else; counts start afresh.

    Raises:
        ValueError: That is not how points are armed.
    """
    global armed  # noqa: PLW0603 - a look at a module's global is what a point may cost
    text = os.environ.get(VARIABLE, "") if text is None else text
    _points.clear()
    _passed.clear()
    for item in text.split(";"):
        if item.strip():
            name, point = _parse(item.strip())
            _points[name] = point
    armed = bool(_points)


def hit(name: str) -> bool:
    """Do what is armed at this point; True if it is ``off``.

    Raises:
        OSError: It is to ``fail``.
    """
    point = _points.get(name)
    if point is None:
        return False
    passed = _passed[name] = _passed.get(name, 0) + 1
    action, first, last, claim = point
    if not first <= passed <= last or (claim and not _claimed(claim)):
        return False
    return _act(name, action)


def _parse(item: str) -> tuple[str, _Armed]:
    name, equals, action = item.partition("=")
    if not equals or not name or not action:
        raise ValueError(f"{VARIABLE} wants name=action pairs, not {item!r}")
    action, _, claim = action.partition("!")
    action, at, nth = action.partition("@")
    first, last = 1, _ENDLESS
    if at:
        first = int(nth.removesuffix("+"))
        last = _ENDLESS if nth.endswith("+") else first
    verb = action.partition(":")[0]
    if verb not in {"off", "fail", "kill", "exit", "pause"}:
        raise ValueError(f"{VARIABLE}: unknown action {action!r} at {name}")
    return name, (action, first, last, claim)


def _claimed(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC))
    except FileExistsError:
        return False
    return True


def _act(name: str, action: str) -> bool:
    verb, _, argument = action.partition(":")
    if verb == "fail":
        import errno

        number = getattr(errno, argument)
        raise OSError(number, f"{os.strerror(number)} (failpoint {name})")
    if verb == "kill":
        os.kill(os.getpid(), 9)
    if verb == "exit":
        os._exit(int(argument))
    if verb == "pause":
        _pause(argument)
    return verb == "off"


def _pause(folder: str) -> None:
    """With a limit: who was to let it go may be gone, and the fork server, which blocks all signals, would stay."""
    import errno
    import select
    import time

    limit = time.monotonic() + _PAUSE_LIMIT_S
    while True:
        try:
            reached = os.open(f"{folder}/reached", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > limit:
                os._exit(1)
            time.sleep(0.002)  # nobody waits there yet, and the kernel does not tell when somebody does
    os.write(reached, b"%d\n" % os.getpid())
    os.close(reached)
    go = os.open(f"{folder}/go", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    poll = select.poll()
    poll.register(go, select.POLLHUP)  # not before somebody has opened it
    if not poll.poll(max(0.0, limit - time.monotonic()) * 1000):
        os._exit(1)
    os.close(go)


load()
