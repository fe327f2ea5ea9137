"""The home itself: its schema, its consistency, its leftovers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

import migrations
from hub import leftovers
from hub.actions.backfill import backfill
from hub.actions.repair import repair as repair_blobs
from hub.actions.repair import sources_of
from hub.home import home_of, opened_database, set_up
from hub.settings import Settings
from storage import blob_records, upstream
from storage.blobs import open_blobs
from storage.check import check as check_storage
from storage.database import write
from storage.errors import SchemaOutdated


@dataclass(frozen=True)
class CheckReport:
    location: str
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    """Leftovers that harm nothing: `mixhub db gc` removes them."""
    repaired: tuple[str, ...] = ()
    """Blobs that were damaged before."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def upgrade(settings: Settings) -> str:
    """Bring the schema, and what is noted in it, to this program's version; returns that version."""
    with opened_database(settings) as engine:
        home = home_of(settings, engine)
        set_up(home)
        backfill(home)
    return migrations.HEAD


def check(
    settings: Settings, *, deep: bool = False, repair: bool = False, sources: Sequence[str] = ()
) -> CheckReport:  # fmt: skip
    """Compare schema, rows and blobs; with `deep` also every blob's digest. Damaged blobs are marked.

    `repair`: put their bytes again, from the `sources` (other homes, backups) or the upstream; the problems are those
    that stay.
    """
    with opened_database(settings) as engine:
        if migrations.current(engine) is None:
            return CheckReport(str(settings.directory), (), ("the home is empty: no command has set it up yet",))
        try:
            migrations.check(engine)
        except SchemaOutdated as error:
            return CheckReport(str(settings.directory), (f"{error.message} ({error.remedy})",), ())
        home = home_of(settings, engine)
        with sources_of(home, settings, sources) as opened:  # a wrong place is told before hours of reading
            found = check_storage(engine, home.blobs, deep=deep)
            repaired = repair_blobs(home, opened) if repair else ()
        if repair:
            found = check_storage(engine, home.blobs)
    lines = [(p.severity, f"{p.subject}: {p.message}") for p in found]
    return CheckReport(
        str(settings.directory),
        tuple(line for severity, line in lines if severity == "problem"),
        tuple(line for severity, line in lines if severity != "problem"),
        repaired,
    )


def collect_garbage(settings: Settings, *, hours: float, with_upstream: bool = False) -> int:
    """Remove blobs that no revision holds and what interrupted work left, older than `hours`; returns how many.

    `with_upstream`: also what was fetched from an upstream hub.
    """
    with opened_database(settings) as engine:
        left = leftovers.sweep(settings.directory, older_than=hours * 3600)  # first: on a full disk it makes room
        if with_upstream:
            with write(engine) as session:
                upstream.forget(session)
        swept = blob_records.sweep_unused(engine, open_blobs(settings.blobs), older_than=timedelta(hours=hours))
    return len(swept.blobs) + len(swept.leftovers) + left
