"""How shares of a batch are put together again, without Ray; with real actors see tests/journeys/test_ray.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch

from compose.errors import SearchError
from compose.scoring.ray_scorer import RayScorer, RayScorers, _Actor, _count

LOSSES = np.array([[1.0, np.nan, 3.0], [4.0, 5.0, np.inf]])
TEXTS = [["a", "", "c"], ["d", "e", "f"]]


class Actors:
    """Two actors: the first has the first and last example, the second the one between; memory for `room` tokens."""

    count = 2

    def __init__(self, *, room: int = 10_000) -> None:
        self.room, self.budgets = room, []  # type: tuple[int, list[int]]

    def ask(self, method: str, arguments: Sequence[Any]) -> list[Any]:
        if method == "describe":
            facts = {"adapter_names": ("a",), "token_counts": np.ones(3), "method": "exact", "method_params": {}}
            return [{**facts, "token_budget": 1024}]
        answers = []
        for *_, name, _weights, (i, _), budget in arguments:
            mine = np.array([True, False, True]) == (i == 0)
            self.budgets.append(budget)
            if name == "example_losses":
                answers.append((np.where(mine, LOSSES, np.nan), min(budget, self.room) if i else budget))
            else:
                answers.append(([[t if m else None for t, m in zip(row, mine, strict=True)] for row in TEXTS], budget))
        return answers


def scorer_of(actors: Actors) -> RayScorer:
    return RayScorer(cast(RayScorers, actors), (0, 0, {}))


def test_every_loss_and_text_comes_from_the_share_that_has_it() -> None:
    scorer = scorer_of(Actors())
    np.testing.assert_array_equal(scorer.example_losses(np.zeros((2, 1))), LOSSES)
    assert scorer.predictions(np.zeros((2, 1))) == TEXTS


def test_where_one_actor_had_to_halve_its_chunks_all_cut_alike_and_the_batch_is_asked_again() -> None:
    actors = Actors(room=512)
    scorer = scorer_of(actors)
    np.testing.assert_array_equal(scorer.example_losses(np.zeros((2, 1))), LOSSES)
    assert actors.budgets == [1024, 1024, 512, 512]
    scorer.example_losses(np.zeros((2, 1)))
    assert actors.budgets[4:] == [512, 512]


def test_an_actor_drops_the_scorers_that_nobody_asks_any_more() -> None:
    made: list[int] = []

    def make(*, which: int) -> object:
        made.append(which)
        return object()

    actor = _Actor(lambda: make, torch.get_num_threads())
    for number, kept_from in [(0, 0), (1, 0), (0, 0), (3, 2)]:
        actor._scorer(number, kept_from, {"which": number})
    assert made == [0, 1, 3] and list(actor._scorers) == [3]


def test_there_are_as_many_actors_as_gpus_or_slots_and_never_more_than_there_is_room_for() -> None:
    resources = {"CPU": 8.0, "GPU": 2.0}
    assert _count(resources, None, gpus=False, threads=3) == 2
    assert _count(resources, None, gpus=True, threads=3) == 2
    assert _count(resources, 5, gpus=False, threads=1) == 5
    with pytest.raises(SearchError, match=r"room for 2 actors with a GPU each, not for 3\n.*--ray-actors"):
        _count(resources, 3, gpus=True, threads=1)
    with pytest.raises(SearchError, match=r"room for 0 actors with a GPU(.|\n)*--device cpu"):
        _count({"CPU": 8.0}, None, gpus=True, threads=1)
    with pytest.raises(SearchError, match="room for 0 actors with 9 CPUs each"):
        _count(resources, None, gpus=False, threads=9)
