"""Searches and their trials. Losses come back bit for bit, so that a stopped search can be replayed."""

from __future__ import annotations

import math
import uuid as uuids
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from storage.clock import utc_now
from storage.errors import Conflict, NotFound
from storage.models import SearchRow, TrialRow
from storage.upsert import insert_missing

ENDED = ("stopped", "finished", "failed")


@dataclass(frozen=True)
class PinnedAdapter:
    """An adapter that takes part: the exact revision, and how it was written."""

    full_name: str
    repo_uuid: str
    commit_id: str
    folder: str = ""


@dataclass(frozen=True)
class Search:
    """`status` is "running", "stopped", "finished" or "failed"; a killed search stays "running" until resumed."""

    id: int
    uuid: str
    created_at: datetime
    finished_at: datetime | None
    status: str
    adapters: tuple[PinnedAdapter, ...]
    config: Mapping[str, Any]
    examples_digest: str
    result: Mapping[str, Any] | None


@dataclass(frozen=True)
class Trial:
    """One weight vector and its loss. `objective` is the loss plus penalties. Both may be inf or nan.

    `example_losses`: one per example, one that is not finite comes back as inf; None: they were not kept.
    """

    number: int
    kind: str
    weights: tuple[float, ...]
    loss: float
    objective: float
    seconds: float
    example_losses: tuple[float, ...] | None = None


def start(
    session: Session, *, adapters: Sequence[PinnedAdapter], config: Mapping[str, Any], examples_digest: str,
    now: datetime | None = None,
) -> Search:  # fmt: skip
    """A new search with the status "running"."""
    row = SearchRow(
        uuid=uuids.uuid4().hex, created_at=now or utc_now(), finished_at=None, status="running",
        adapters=[vars(adapter) for adapter in adapters], config=dict(config), examples_digest=examples_digest,
        result=None,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return _search(row)


def find(session: Session, uuid: str) -> Search:
    """By uuid or by a prefix of 8 digits or more. Raises NotFound."""
    query = select(SearchRow).execution_options(populate_existing=True)
    rows = session.scalars(query.where(SearchRow.uuid.startswith(uuid, autoescape=True)).limit(2)).all()
    if len(rows) != 1 or len(uuid) < 8:
        raise NotFound(f"There is no search {uuid!r}.")
    return _search(rows[0])


def every(session: Session, *, limit: int | None = None) -> list[Search]:
    """Newest first."""
    return [_search(row) for row in session.scalars(select(SearchRow).order_by(SearchRow.id.desc()).limit(limit))]


def add_trials(session: Session, search: Search, trials: Iterable[Trial]) -> None:
    """Store trials; repeating one that is there changes nothing, giving its number to another raises Conflict."""
    listed = list(trials)
    insert_missing(
        session,
        TrialRow,
        [
            {
                "search_id": search.id, "number": trial.number, "kind": trial.kind, "weights": list(trial.weights),
                "loss": _or_null(trial.loss), "objective": _or_null(trial.objective), "seconds": trial.seconds,
                "example_losses": _as_json(trial.example_losses),
            }
            for trial in listed
        ],
    )  # fmt: skip
    numbers = [trial.number for trial in listed]
    query = select(TrialRow.number, TrialRow.weights).where(
        TrialRow.search_id == search.id, TrialRow.number.in_(numbers)
    )
    stored = {row[0]: tuple(row[1]) for row in session.execute(query)}
    for trial in listed:
        if stored[trial.number] != trial.weights:
            raise Conflict(
                f"Trial {trial.number} of the search {search.uuid} has other weights already.",
                expected=str(stored[trial.number]),
                found=str(trial.weights),
                remedy="Resume with the settings and versions that the search was started with.",
            )


def trials(session: Session, search: Search) -> list[Trial]:
    """In the order in which they were asked for."""
    rows = session.scalars(select(TrialRow).where(TrialRow.search_id == search.id).order_by(TrialRow.number))
    return [
        Trial(
            row.number, row.kind, tuple(row.weights), _or_nan(row.loss), _or_nan(row.objective), row.seconds,
            _from_json(row.example_losses),
        )
        for row in rows
    ]  # fmt: skip


def end(
    session: Session, search: Search, *, status: str, result: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> Search:  # fmt: skip
    """Leave "running" for "stopped", "finished" or "failed"."""
    if status not in ENDED:
        raise Conflict(f"A search cannot end as {status!r}.", expected=", ".join(ENDED), found=status)
    values = {"status": status, "finished_at": now or utc_now(), "result": None if result is None else dict(result)}
    session.execute(update(SearchRow).where(SearchRow.id == search.id).values(values))
    return find(session, search.uuid)


def resume(session: Session, search: Search) -> Search:
    """Back to "running". Raises Conflict for a finished search."""
    current = find(session, search.uuid)
    if current.status == "finished":
        raise Conflict(f"The search {search.uuid} is finished; there is nothing to resume.", found="finished")
    session.execute(
        update(SearchRow).where(SearchRow.id == search.id).values(status="running", finished_at=None, result=None)
    )
    return find(session, search.uuid)


def _or_null(value: float) -> float | None:
    """SQLite keeps no nan."""
    return None if math.isnan(value) else value


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _as_json(losses: tuple[float, ...] | None) -> list[float | None] | None:
    """JSON has no infinities."""
    return None if losses is None else [loss if math.isfinite(loss) else None for loss in losses]


def _from_json(losses: list[float | None] | None) -> tuple[float, ...] | None:
    return None if losses is None else tuple(math.inf if loss is None else loss for loss in losses)


def _search(row: SearchRow) -> Search:
    return Search(
        row.id, row.uuid, row.created_at, row.finished_at, row.status,
        tuple(PinnedAdapter(**adapter) for adapter in row.adapters), row.config, row.examples_digest, row.result,
    )  # fmt: skip
