"""Chooses the adapters that are worth searching from hundreds or thousands: the best alone, without near-duplicates.

Two passes, each streamed, so that only one chunk of adapters and those kept so far are in memory:
1. every adapter alone at weight 1 is scored on the examples, a chunk as one batch;
2. from the lowest loss on, an adapter is kept unless its delta is almost that of one that was kept before it.
No model and no files here: the caller reads adapters and scores them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .adapter import LoraAdapter
from .errors import ComposeError, IncompatibleAdapters, SearchError, UnsupportedAdapter
from .similarity import delta_cosine

CHUNK = 16
"""Adapters read and scored at a time: one forward holds about as many candidates."""
NEAR_DUPLICATE = 0.98
"""Cosine of two deltas from which on the worse one is left out: only 2 percent of its change, squared less than 4, is
its own. Adapters of different tasks that were trained from the same start have far less."""

Read = Callable[[str], LoraAdapter]
Score = Callable[[Sequence[LoraAdapter]], Sequence[float]]
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Considered:
    """One adapter and why it was kept or dropped. `loss`: alone at weight 1; None: it could not be scored."""

    name: str
    kept: bool
    loss: float | None
    reason: str


@dataclass(frozen=True)
class Preselection:
    """All that were considered, kept ones first, by loss; those that could not be scored last. `evaluations`: single
    adapters scored, beside the budget of the search that follows."""

    considered: tuple[Considered, ...]
    evaluations: int

    @property
    def kept(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.considered if one.kept)


def preselect(
    names: Sequence[str],
    read: Read,
    score: Score,
    *,
    count: int,
    near_duplicate: float = NEAR_DUPLICATE,
    chunk: int = CHUNK,
    on_progress: Tell | None = None,
) -> Preselection:
    """Keep at most `count` of the adapters `names`.

    `read` gives the adapter of a name, `score` the loss of each of a few adapters alone, as one batch. An adapter that
    cannot be read or scored is dropped with the error as its reason; any other error ends it all. `on_progress` is told
    how many of how many have been scored. `SearchError` for a count or cosine out of range, or when nothing is left.
    """
    if count < 1 or chunk < 1 or not 0 < near_duplicate <= 1:
        raise SearchError(
            f"cannot select {count} adapters with duplicates from a cosine of {near_duplicate} on",
            remedy="select at least 1; the cosine is above 0 and at most 1",
        )
    losses: dict[str, float] = {}
    refused: dict[str, str] = {}
    for start in range(0, len(names), chunk):
        _score_chunk(names[start : start + chunk], read, score, losses, refused)
        if on_progress is not None:
            on_progress(min(start + chunk, len(names)), len(names))
    ranked = sorted(losses, key=lambda name: (losses[name], name))
    kept, dropped = _without_duplicates(ranked, losses, read, count=count, near_duplicate=near_duplicate)
    if not kept:
        first = next(iter(refused.items()), ("", "there were none"))
        raise SearchError(
            f"none of {len(names)} adapters can be searched: {first[0]} {first[1]}",
            remedy="publish adapters that are bound to this base, or name them",
        )
    left_out = [Considered(name, False, None, reason) for name, reason in sorted(refused.items())]
    return Preselection((*kept, *dropped, *left_out), len(losses))


def _score_chunk(
    names: Sequence[str], read: Read, score: Score, losses: dict[str, float], refused: dict[str, str]
) -> None:
    """One batch; where it fails, one by one, so that the adapter at fault is known and the others are not lost."""
    adapters = {}
    for name in names:
        try:
            adapters[name] = read(name)
        except ComposeError as error:
            refused[name] = f"cannot be read: {error.message}"
    try:
        found = dict(zip(adapters, score(list(adapters.values())), strict=True)) if adapters else {}
    except (IncompatibleAdapters, UnsupportedAdapter) as error:
        if len(adapters) == 1:
            refused[next(iter(adapters))] = f"cannot be scored: {error.message}"
            return
        for name, adapter in adapters.items():
            _score_chunk([name], lambda _, adapter=adapter: adapter, score, losses, refused)  # type: ignore[misc]
        return
    for name, loss in found.items():
        if math.isnan(loss):
            refused[name] = "cannot be scored: its loss is not a number"
        else:
            losses[name] = loss


def _without_duplicates(
    ranked: Sequence[str], losses: dict[str, float], read: Read, *, count: int, near_duplicate: float
) -> tuple[list[Considered], list[Considered]]:
    kept: list[LoraAdapter] = []
    chosen, dropped = [], []
    for rank, name in enumerate(ranked, 1):
        loss, place = losses[name], f"{_ordinal(rank)} of {len(ranked)} by its loss alone"
        if len(kept) == count:
            dropped.append(Considered(name, False, loss, f"{place}; {count} better ones were kept"))
            continue
        adapter = read(name)
        nearest = max(((delta_cosine(adapter, other), other.name) for other in kept), default=(0.0, ""))
        if nearest[0] >= near_duplicate:
            dropped.append(
                Considered(name, False, loss, f"near-duplicate of {nearest[1]}: cosine {nearest[0]:.4f} of the deltas")
            )
            continue
        kept.append(adapter)
        chosen.append(Considered(name, True, loss, place))
    return chosen, dropped


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
