"""List adapters: the newest revision of `main` of every repo, each folder by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy.orm import Session

from hub.home import Home
from storage import bases, versions
from storage.adapter_search import AdapterFilter, FoundAdapter, find_adapters
from storage.versions import Version


@dataclass(frozen=True)
class Listed:
    """One line of `mixhub ls`."""

    address: str
    version: str
    commit: str
    base: str | None
    """A name of the base that it is bound to; None: unbound."""
    base_as_written: str | None
    peft_type: str | None
    rank: int | None
    task: str
    tags: tuple[str, ...]
    licence: str | None
    state: str
    """`ok`, or why it cannot be mixed or does nothing."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def find(
    home: Home,
    *,
    text: str = "",
    base: str = "",
    task: str = "",
    tag: str = "",
    namespace: str = "",
    limit: int | None = None,
) -> list[Listed]:
    """Adapters for which every given condition holds; `base` goes by identity, under any of its names."""
    wanted = AdapterFilter(
        account=namespace or None, text=text or None, base=base or None, task=task or None, tag=tag or None
    )
    with home.read() as session:
        names = base_names(session)
        found = find_adapters(session, wanted, limit=limit)
        given = versions.of_revisions(session, {one.revision_id for one in found})
        return [_listed(one, names, given.get(one.revision_id, [])) for one in found]


def base_names(session: Session) -> dict[str, str]:
    """Base identity -> the name to show for it: a hub or repo name before a path, short before long."""
    order = {"repo": 0, "hub": 1, "quantised": 2, "path": 3}
    shown = {}
    for known in bases.every(session):
        names = sorted(known.names, key=lambda n: (order[n.kind], len(n.name), n.name))
        shown[known.identity] = names[0].name if names else known.identity[:12]
    return shown


def _listed(found: FoundAdapter, names: dict[str, str], given: Sequence[Version]) -> Listed:
    """`given` are the versions that its revision is."""
    facts = found.facts
    tasks = [t.name for t in facts.tags if t.kind == "task"] or [facts.task_type or ""]
    return Listed(
        address=found.address,
        version=given[-1].name if given else "",
        commit=found.commit_id,
        base=names.get(facts.base_identity or ""),
        base_as_written=facts.base_model_name,
        peft_type=facts.peft_type,
        rank=max(facts.ranks.values(), default=None),
        task=", ".join(tasks),
        tags=tuple(t.name for t in facts.tags if t.kind == "tag"),
        licence=facts.licence,
        state="not mixable" if not facts.usable else "no effect" if facts.zero_delta else "ok",
    )
