"""The control groups of this process, and the small files that the kernel keeps in them. Versions 1 and 2.

What lives here: where they are and how they are read. What may not: what the numbers mean (``cpu``, ``memory``).

Every path begins with ``root``, which is empty except in tests.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 16


def directories(controller: str, root: str = "") -> Iterator[str]:
    """The directory of this process in each hierarchy that may limit it, and all parents: any may be the tightest."""
    for line in read(f"{root}/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top = f"{root}/sys/fs/cgroup"
        elif controller in controllers.split(","):
            top = f"{root}/sys/fs/cgroup/{controller}"
        else:
            continue
        path = path.rstrip("/")
        while path:
            yield top + path
            path = path.rpartition("/")[0]
        yield top


def number(path: str) -> int | None:
    """The one number in a file; None if it says something else, or is not there."""
    text = read(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def numbers(path: str) -> dict[str, int]:
    """The numbers in a file with a name before each; empty if it is not there."""
    words = read(path).split()
    return {name: int(text) for name, text in zip(words[::2], words[1::2], strict=False) if text.isdigit()}


def read(path: str) -> str:
    """A file's text; empty if this kernel or container does not have it, which is an answer.

    Raises:
        OSError: No descriptor to read it by.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a third of what a file object costs, and a run pays for it
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return ""
    try:
        chunks = []
        while chunk := os.read(fd, _CHUNK):
            chunks.append(chunk)
        return b"".join(chunks).decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
