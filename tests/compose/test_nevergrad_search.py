"""Nevergrad behind ask and tell: bounds, threads that end, warnings that stay inside."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from compose.errors import SearchError
from compose.nevergrad_search import Asker


def make(optimizer: str, *, budget: int = 60, workers: int = 1, bounds: tuple[float, float] = (-1.5, 1.5)) -> Asker:
    return Asker(optimizer, start=[0.5, 0.0, 1.0], bounds=bounds, budget=budget, workers=workers, seed=0)


@pytest.mark.parametrize(
    "optimizer", ["Cobyla", "NGOpt", "Shiwa", "CMA", "OnePlusOne", "DE", "PSO", "ScrHammersleySearch"]
)
def test_points_stay_within_bounds_and_no_warning_gets_out(optimizer: str) -> None:
    with make(optimizer, bounds=(-0.25, 1.25)) as asker:
        for _ in range(60):
            points = asker.ask(1)
            assert points.shape == (1, 3) and points.min() >= -0.25 and points.max() <= 1.25
            asker.tell([float(((points - 0.3) ** 2).sum())])


@pytest.mark.parametrize("optimizer", ["Cobyla", "OnePlusOne"])
def test_the_default_optimizers_ask_for_the_start_first(optimizer: str) -> None:
    with make(optimizer) as asker:
        np.testing.assert_array_equal(asker.ask(1), [[0.5, 0.0, 1.0]])


@pytest.mark.parametrize("optimizer", ["Cobyla", "NGOpt", "Shiwa"])
@pytest.mark.parametrize("told", [0, 1, 9])
def test_closing_ends_the_thread_wherever_the_search_was(optimizer: str, told: int) -> None:
    before = threading.active_count()
    asker = make(optimizer)
    for _ in range(told):
        asker.tell([float((asker.ask(1) ** 2).sum())])
    asker.ask(1)
    assert threading.active_count() == before + 1
    asker.close()
    assert threading.active_count() == before


def test_a_library_function_that_has_finished_is_noticed() -> None:
    with make("Cobyla", budget=20) as asker:
        for _ in range(20):
            assert not asker.finished
            asker.tell([float((asker.ask(1) ** 2).sum())])
        asker.ask(1)
        assert asker.finished


def test_losses_that_are_not_finite_can_be_told() -> None:
    for optimizer in ("Cobyla", "OnePlusOne", "CMA"):
        with make(optimizer) as asker:
            for value in (1.0, float("inf"), float("nan"), 0.5, 2.0):
                asker.ask(1)
                asker.tell([value])


def test_calls_out_of_turn_are_refused() -> None:
    with make("OnePlusOne") as asker:
        asker.ask(2)
        with pytest.raises(SearchError, match="2 points"):
            asker.tell([1.0])
        with pytest.raises(SearchError, match="before the 2 points"):
            asker.ask(1)
