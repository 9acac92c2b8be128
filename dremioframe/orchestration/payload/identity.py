"""What is known of objects that cannot be keys: a metaclass may make its classes unhashable, and an id is used again.

What lives here: that table. What may not: what it is used for.
"""

from __future__ import annotations

from _weakref import ref  # the module weakref is 1 ms of import for what this needs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ByIdentity:
    """Values by the identity of objects; each goes with its object."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[int, tuple[ref[Any], Any]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, obj: object) -> Any:
        """The value for this very object, or None."""
        entry = self._entries.get(id(obj))
        return entry[1] if entry is not None and entry[0]() is obj else None

    def put(self, obj: object, value: Any) -> None:
        """Set it."""
        key, entries = id(obj), self._entries

        def forget(dead: ref[Any]) -> None:
            if entries.get(key, (None,))[0] is dead:
                del entries[key]

        entries[key] = ref(obj, forget), value
