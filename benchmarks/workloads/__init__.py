"""What is measured: one module per kind. A module imports what it measures with only when it measures."""

from __future__ import annotations

from . import (
    chain,
    fan,
    first_result,
    flights,
    hand_over,
    imports,
    independent,
    readers,
    recorded_dags,
    replacement,
    scale,
    tpch,
)

ALL = (
    *independent.WORKLOADS,
    *chain.WORKLOADS,
    *fan.WORKLOADS,
    *hand_over.WORKLOADS,
    *readers.WORKLOADS,
    *first_result.WORKLOADS,
    *imports.WORKLOADS,
    *scale.WORKLOADS,
    *recorded_dags.WORKLOADS,
    *flights.WORKLOADS,
    *tpch.WORKLOADS,
    *replacement.WORKLOADS,
)
BY_NAME = {workload.name: workload for workload in ALL}
