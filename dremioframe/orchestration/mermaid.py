"""A graph as Mermaid text.

What lives here: how tasks become nodes, names become ids and labels, and states become colours. What may not: where
the graph and the states come from.

Names are data, the chart is a language: a name is used as a node's id only if it is a plain word that means nothing in
that language. Every other task gets an id of its own and its name as an escaped label. Escaping is by white list, since
several stages read a label: Mermaid's preprocessor (``%%``, ``style ...:``), its lexer (quotes), Markdown (backticks,
``1. ``), icons (``fa:``), formulas (``$$``), HTML. Mermaid spells a character reference ``#35;``.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from os import PathLike

    from .dag.dag import Dag
    from .machine.states import TaskState

_PLAIN_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_LONGEST_ID = 60
# Words of the language (some only in older versions), in any case; and attributes of JavaScript's objects, which
# versions that keep nodes in plain objects trip over.
_RESERVED = frozenset({
    "call", "class", "classdef", "click", "default", "direction", "end", "flowchart", "graph", "href", "interpolate",
    "linkstyle", "style", "subgraph",
    "constructor", "hasownproperty", "isprototypeof", "prototype", "tostring", "valueof",
})  # fmt: skip

_HEAD = 80
_TAIL = 20
# \ufb02 and \xb6 are what Mermaid itself replaces # and ; by, on the way through.
_UNSAFE = re.compile(r"[^\w .,()\[\]/=!?'+-]|[\ufb02\xb6]|^[ +-]|(?<= ) | $|^(?P<number>\d+)(?P<mark>[.)])")
_JOINERS = "\u200c\u200d"  # invisible, and part of words and emoji

_COLOURS = {
    "PENDING": "fill:#eceff1,stroke:#78909c,color:#263238",
    "RUNNING": "fill:#bbdefb,stroke:#1976d2,color:#0d2b4d",
    "SUCCESS": "fill:#c8e6c9,stroke:#388e3c,color:#123214",
    "FAILED": "fill:#ffcdd2,stroke:#d32f2f,color:#4a0d0d",
    "SKIPPED": "fill:#f5f5f5,stroke:#9e9e9e,color:#424242,stroke-dasharray:4 3",
    "CANCELLED": "fill:#ffe0b2,stroke:#f57c00,color:#4a2800",
}


def render(dag: Dag, states: Sequence[TaskState] | None = None) -> str:
    """The graph as a Mermaid flowchart, ``graph TD``, with one line per edge.

    Mermaid itself draws no more than 500 edges unless the page that shows the chart raises ``maxEdges``.

    Args:
        dag: The graph.
        states: The state of each task; with them, nodes are coloured.

    Returns:
        Text that ends with a newline.

    Example::

        >>> from dremioframe.orchestration.dag.dag import Dag
        >>> print(render(Dag(["a", "b"], [(), (0,)])), end="")
        graph TD
            a --> b
    """
    ids = [_node_id(task, name) for task, name in enumerate(dag.names)]
    lines = ["graph TD"]
    lines += (f'{ids[task]}["{_label(name)}"]' for task, name in enumerate(dag.names) if ids[task] != name)
    for task in range(dag.n):
        if dag.downstreams[task]:
            lines += (f"{ids[task]} --> {ids[other]}" for other in dag.downstreams[task])
        elif not dag.upstreams[task] and ids[task] == dag.names[task]:
            lines.append(ids[task])
    if states:
        lines += _colours(ids, states)
    return "\n    ".join(lines) + "\n"


def save(chart: str, path: str | PathLike[str] | None) -> str:
    """Write ``chart`` to ``path``, if there is one, as UTF-8; returns the chart.

    Example: ``save(render(dag), "pipeline.mermaid")``.
    """
    if path is not None:
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(chart)
    return chart


def _node_id(task: int, name: str) -> str:
    plain = len(name) <= _LONGEST_ID and _PLAIN_ID.fullmatch(name) and name.lower() not in _RESERVED
    return name if plain else f"_{task}"  # no plain id begins with an underscore


def _label(name: str) -> str:
    if len(name) > _HEAD + _TAIL:
        name = f"{name[:_HEAD]}\u2026{name[-_TAIL:]}"
    shown = "".join(map(_visible, name)) or '""'
    return _UNSAFE.sub(_reference, shown)


def _visible(character: str) -> str:
    """Control characters, lone surrogates and the like as Python would write them: they would not show, or worse."""
    if character.isprintable() or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")


def _reference(match: re.Match[str]) -> str:
    if match["number"]:
        return f"{match['number']}#{ord(match['mark'])};"  # would begin a list
    character = match.group()
    if character in _JOINERS or (character.isprintable() and character > "\x7f" and character not in "\ufb02\xb6"):
        return character
    return f"#{160 if character == ' ' else ord(character)};"  # HTML keeps only non-breaking spaces


def _colours(ids: list[str], states: Sequence[TaskState]) -> Iterable[str]:
    members: dict[str, list[str]] = {}
    for identity, state in zip(ids, states, strict=True):
        members.setdefault(state.value, []).append(identity)
    for name, colour in _COLOURS.items():
        if name in members:
            yield f"classDef {name.lower()} {colour}"
            yield f"class {','.join(members[name])} {name.lower()}"
