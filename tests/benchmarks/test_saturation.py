"""The simulated run behind the figures of saturation: it agrees with arithmetic where arithmetic is certain."""

from __future__ import annotations

import pytest

from benchmarks import saturation
from benchmarks.saturation import Costs, computed_us, simulate, simulated_us

FREE = Costs(0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("workers", [1, 2, 64])
def test_without_costs_every_core_is_busy_all_the_time(workers: int) -> None:
    assert simulate(workers, 100.0, FREE) == pytest.approx(1.0)


def test_a_saturated_coordinator_sets_the_pace() -> None:
    # 64 workers could do a task every 10 us; one that costs 20 us of the coordinator comes every 20.
    share = simulate(64, 640.0, Costs(10.0, 10.0, 0.0, 0.0))
    assert share == pytest.approx(0.5, abs=0.03)


def test_the_worker_s_own_work_is_not_the_task_s() -> None:
    assert simulate(1, 30.0, Costs(0.0, 0.0, 10.0, 0.0)) == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("workers", [8, 64])
def test_longer_tasks_keep_more_of_the_cores_busy(workers: int) -> None:
    costs = Costs(6.0, 6.0, 15.0)
    shares = [simulate(workers, task_us, costs) for task_us in (50.0, 500.0, 5_000.0, 50_000.0)]
    assert shares == sorted(shares)
    assert shares[-1] > 0.95


@pytest.mark.parametrize("workers", [64, 256])
def test_computed_and_simulated_agree_within_a_factor(workers: int) -> None:
    costs = Costs(6.0, 6.0, 15.0)
    simulated = simulated_us(workers, costs)
    assert simulated is not None
    assert 0.5 < simulated / computed_us(workers, costs) < 2.5


def test_what_a_task_costs_is_measured_on_real_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saturation, "PROBE", 300)
    costs = saturation.measured_costs()
    assert 0 < costs.coordinator < 10_000
    assert 0 < costs.worker < 10_000
