"""How a task must end, by the contract's prose. Knows nothing of the engine, on purpose.

Outcomes: 'S' success, 'F' failed, 'U' skipped because something before it failed, 'K' skipped for another cause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def rule_says(rule: str, ends: Sequence[str]) -> str:
    """ "run", "U" or "K", once all direct upstreams have ended."""
    if not ends or rule in {"all_done", "always"}:
        return "run"
    failed, succeeded = any(end in "FU" for end in ends), "S" in ends
    blame = "U" if failed else "K"
    judged = {
        "all_success": (set(ends) == {"S"}, blame),
        "all_failed": (set(ends) <= {"F", "U"}, "K"),
        "all_done_min_one_success": (succeeded, blame),
        "one_success": (succeeded, blame),
        "all_skipped": (set(ends) == {"K"}, "K"),
        "one_failed": (failed, "K"),
        "one_done": (succeeded or "F" in ends, "U" if "U" in ends else "K"),
        "none_failed": (not failed, "U"),
        "none_failed_min_one_success": (succeeded and not failed, blame),
        "none_skipped": ("K" not in ends, "K"),
    }
    runs, otherwise = judged[rule]
    return "run" if runs else otherwise
