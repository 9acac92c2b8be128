"""What loguru's own sink would write, without loguru.

Importing loguru takes as long as a fork server takes to boot, and a short run would wait for it. In a program that has
not imported it, nobody has told it anything: a line goes to the sink that it makes for itself, standard error, in a
format that is known. So that line is written here. As soon as anybody has imported loguru, it gets every message, and
so it does where its lines would be coloured, or the environment sets it up: this module knows only the plain ones.

What lives here: that line, and when it is the right one. What may not: what it says (``run_log``).
"""

from __future__ import annotations

import builtins
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

#: Variables by which loguru is set up, or by which it knows of a place that shows colours without being a terminal.
_TOLD_BY = ("LOGURU_", "CI", "PYCHARM_HOSTED")


def suffices() -> bool:
    """Whether loguru, if ``run_log`` imported it now, would write plain lines to standard error and do nothing else."""
    if "loguru" in sys.modules or any(name.startswith(_TOLD_BY) for name in os.environ):
        return False
    if hasattr(builtins, "__IPYTHON__"):  # a notebook shows colours without being a terminal
        return False
    try:
        return not sys.stderr.isatty()
    except Exception:  # noqa: BLE001 - there is none, or one that is no real stream: loguru knows what to do
        return False


def write(level: str, text: str, caller: FrameType) -> None:
    """One line, as said by ``caller``."""
    now_ms = time.time_ns() // 1_000_000
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now_ms // 1000))
    where = f"{caller.f_globals['__name__']}:{caller.f_code.co_name}:{caller.f_lineno}"
    sys.stderr.write(f"{moment}.{now_ms % 1000:03} | {level: <8} | {where} - {text}\n")
    sys.stderr.flush()
