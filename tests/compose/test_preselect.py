"""Choosing among many: the best alone, no near-duplicates, a reason for each, and never all of them in memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from compose.adapter import LoraAdapter
from compose.errors import IncompatibleAdapters, MalformedAdapter, SearchError
from compose.preselect import Preselection, preselect

Make = Callable[..., LoraAdapter]


class Shelf:
    """Adapters made when they are read; `loss` by name; counts batches, reads and how many are alive at most."""

    def __init__(self, make: Make, losses: dict[str, float], *, same_as: dict[str, str] | None = None) -> None:
        self._make, self._losses, self._same_as = make, losses, same_as or {}
        self.names = list(losses)
        self.batches: list[int] = []
        self.read_again: list[str] = []
        self.most_alive = 0
        self._alive: weakref.WeakSet[object] = weakref.WeakSet()
        self._seen: set[str] = set()

    def read(self, name: str) -> LoraAdapter:
        if name in self._seen:
            self.read_again.append(name)
        self._seen.add(name)
        adapter = self._make(self.names.index(self._same_as.get(name, name)) + 1)
        if name in self._same_as:  # the same change, a little retrained
            modules = {p: replace(f, A=1.5 * f.A + 0.05 * torch.sin(f.A)) for p, f in adapter.modules.items()}
            adapter = replace(adapter, modules=modules)
        adapter = replace(adapter, name=name)
        self._alive.add(adapter.modules["a"].A)
        self.most_alive = max(self.most_alive, len(self._alive))
        return adapter

    def score(self, adapters: Sequence[LoraAdapter]) -> list[float]:
        self.batches.append(len(adapters))
        return [self._losses[adapter.name] for adapter in adapters]

    def preselect(self, count: int, **options: float) -> Preselection:
        return preselect(self.names, self.read, self.score, count=count, **options)  # type: ignore[arg-type]


@pytest.fixture
def many(random_adapter: Make) -> Shelf:
    """300 adapters; the 7 best are number 100, 101 ... 106."""
    return Shelf(random_adapter, {f"ns/{i}": 1.0 + ((i - 100) % 300) / 100 for i in range(300)})


def test_the_best_alone_are_kept_in_order_and_every_adapter_has_a_reason(many: Shelf) -> None:
    found = many.preselect(7)
    assert found.kept == tuple(f"ns/{i}" for i in range(100, 107))
    assert len(found.considered) == 300 and found.evaluations == 300
    assert found.considered[1].reason == "2nd of 300 by its loss alone"
    worst = found.considered[-1]
    assert (worst.name, worst.kept, worst.loss) == ("ns/99", False, pytest.approx(3.99))
    assert "300th of 300" in worst.reason and "7 better ones" in worst.reason


def test_adapters_are_scored_in_batches_and_are_never_all_in_memory(many: Shelf) -> None:
    told: list[tuple[int, int]] = []
    preselect(many.names, many.read, many.score, count=5, chunk=32, on_progress=lambda *seen: told.append(seen))
    assert many.batches == [32] * 9 + [12]
    assert many.most_alive <= 2 * 32 and len(many.read_again) == 5
    assert told[0] == (32, 300) and told[-1] == (300, 300)


def test_a_near_duplicate_of_a_better_adapter_makes_room_for_the_next(random_adapter: Make) -> None:
    losses = {"a": 1.0, "a-again": 1.1, "b": 1.2, "a-once-more": 1.3, "c": 1.4}
    shelf = Shelf(random_adapter, losses, same_as={"a-again": "a", "a-once-more": "a"})
    found = shelf.preselect(3)
    assert found.kept == ("a", "b", "c")
    reasons = {one.name: one.reason for one in found.considered if not one.kept}
    assert reasons.keys() == {"a-again", "a-once-more"}
    assert all(reason.startswith("near-duplicate of a: cosine ") for reason in reasons.values())
    assert shelf.preselect(3, near_duplicate=1.0).kept == ("a", "a-again", "b"), "almost the same is not the same"


def test_an_adapter_that_cannot_be_read_or_scored_is_named_and_the_others_of_its_batch_are_not_lost(
    random_adapter: Make,
) -> None:
    shelf = Shelf(random_adapter, {"a": 2.0, "broken": 0.0, "odd": 0.0, "nan": float("nan"), "b": 1.0})

    def read(name: str) -> LoraAdapter:
        if name == "broken":
            raise MalformedAdapter("broken: truncated")
        return shelf.read(name)

    def score(adapters: Sequence[LoraAdapter]) -> list[float]:
        if any(adapter.name == "odd" for adapter in adapters):
            raise IncompatibleAdapters("odd: module x has another shape")
        return shelf.score(adapters)

    found = preselect(shelf.names, read, score, count=5)
    assert found.kept == ("b", "a") and found.evaluations == 2
    reasons = {one.name: one.reason for one in found.considered if not one.kept}
    assert reasons == {
        "broken": "cannot be read: broken: truncated",
        "nan": "cannot be scored: its loss is not a number",
        "odd": "cannot be scored: odd: module x has another shape",
    }


def test_the_order_in_which_they_are_named_does_not_matter(many: Shelf) -> None:
    backwards = preselect(many.names[::-1], many.read, many.score, count=9, chunk=7)
    assert backwards == many.preselect(9)


def test_what_cannot_be_selected_is_one_clear_error(many: Shelf) -> None:
    for options in ({"count": 0}, {"count": 1, "near_duplicate": 0.0}, {"count": 1, "near_duplicate": 1.5}):
        with pytest.raises(SearchError, match="cannot select"):
            many.preselect(**options)  # type: ignore[arg-type]
    with pytest.raises(SearchError, match="none of 1 adapters can be searched: ns/0 cannot be scored"):
        preselect(["ns/0"], many.read, lambda _: [float("nan")], count=1)
    with pytest.raises(SearchError, match="none of 0"):
        preselect([], many.read, many.score, count=1)
