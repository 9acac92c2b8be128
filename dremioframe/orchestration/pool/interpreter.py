"""The interpreter of this program, started once more: with which flags.

What lives here: translating ``sys.flags`` back into a command line, which the standard library does in a private
function of a module that is expensive to import.
"""

from __future__ import annotations

import sys

_LETTERS = {
    "debug": "d",
    "dont_write_bytecode": "B",
    "no_site": "S",
    "verbose": "v",
    "bytes_warning": "b",
    "quiet": "q",
    "optimize": "O",
}


def flags() -> list[str]:
    """The options that give another interpreter the behaviour of this one."""
    options = [f"-{letter * getattr(sys.flags, name)}" for name, letter in _LETTERS.items() if getattr(sys.flags, name)]
    if sys.flags.isolated:
        options.append("-I")
    else:
        if sys.flags.ignore_environment:
            options.append("-E")
        if sys.flags.no_user_site:
            options.append("-s")
        if sys.flags.safe_path:
            options.append("-P")
    options += [f"-W{warning}" for warning in sys.warnoptions]
    for name, value in sys._xoptions.items():  # noqa: SLF001 - documented, in spite of its name
        options += ["-X", name if value is True else f"{name}={value}"]
    return options
