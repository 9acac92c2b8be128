"""Shapes of real work: DAGs recorded elsewhere, or synthetic ones made from a seed where there are no recordings.

A recording is a JSON file: ``{"name": ..., "tasks": [[id, runtime_seconds, [indices of upstream tasks], output_bytes],
...]}``. What may not live here: how they are run.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SEED = 20_130_101
MOST_OUTPUT_BYTES = 1_000_000


@dataclass(frozen=True)
class Node:
    name: str
    cpu_s: float
    upstream: tuple[int, ...]
    output_bytes: int


@dataclass(frozen=True)
class Workflow:
    name: str
    nodes: tuple[Node, ...]

    def least_seconds(self, workers: int) -> float:
        """No schedule is shorter: the work shared out evenly, or the longest path."""
        ends: list[float] = []
        for node in self.nodes:
            ends.append(max((ends[above] for above in node.upstream), default=0.0) + node.cpu_s)
        return max(*ends, sum(node.cpu_s for node in self.nodes) / workers)

    def scaled_to(self, seconds: float, workers: int) -> Workflow:
        """The same shape with run times so much shorter that the least is ``seconds``, and no huge outputs."""
        factor = seconds / self.least_seconds(workers)
        nodes = (
            Node(node.name, node.cpu_s * factor, node.upstream, min(node.output_bytes, MOST_OUTPUT_BYTES))
            for node in self.nodes
        )
        return Workflow(self.name, tuple(nodes))

    def sinks(self) -> list[int]:
        """The tasks nobody waits for."""
        inner = {above for node in self.nodes for above in node.upstream}
        return [index for index in range(len(self.nodes)) if index not in inner]


def load(folder: Path | None) -> list[Workflow]:
    """The recordings in a folder, or synthetic workflows."""
    if folder is None:
        return synthetic()
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise FileNotFoundError(f"no recorded workflows (*.json) in {folder}")
    return found


def read(path: Path) -> Workflow:
    recording = json.loads(path.read_text(encoding="utf-8"))
    nodes = [Node(name, cpu_s, tuple(upstream), size) for name, cpu_s, upstream, size in recording["tasks"]]
    return in_order(recording["name"], nodes)


def in_order(name: str, nodes: list[Node]) -> Workflow:
    """Upstream tasks first, otherwise as they came."""
    place: dict[int, int] = {}
    waiting = list(range(len(nodes)))
    while waiting:
        ready = [index for index in waiting if all(above in place for above in nodes[index].upstream)]
        if not ready:
            raise ValueError(f"{name} has a cycle")
        for index in ready:
            place[index] = len(place)
        waiting = [index for index in waiting if index not in place]
    ordered = (nodes[index] for index in place)  # a dict keeps the order of insertion
    return Workflow(
        name,
        tuple(
            Node(node.name, node.cpu_s, tuple(place[above] for above in node.upstream), node.output_bytes)
            for node in ordered
        ),
    )


def synthetic() -> list[Workflow]:
    """Wide, deep, layered and tree-shaped: the shapes recordings have, without their numbers."""
    dice = random.Random(SEED)
    shapes: dict[str, list[tuple[int, ...]]] = {
        "synthetic, wide": [()] + [(0,)] * 300 + [tuple(range(1, 301))],
        "synthetic, lanes": [(index - 20,) if index >= 20 else () for index in range(400)],
        "synthetic, layers": [
            tuple(dice.sample(range(index // 40 * 40 - 40, index // 40 * 40), 3)) if index >= 40 else ()
            for index in range(400)
        ],
        "synthetic, tree": [(index * 2 - 512, index * 2 - 511) if index >= 256 else () for index in range(511)],
    }
    return [
        Workflow(
            name,
            tuple(
                Node(f"task_{index}", dice.lognormvariate(0, 1), upstream, int(dice.lognormvariate(8, 2)))
                for index, upstream in enumerate(shape)
            ),
        )
        for name, shape in shapes.items()
    ]
