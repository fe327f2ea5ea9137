"""List adapters: the newest revision of `main` of every repo, each folder by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy.orm import Session

from hub.access import Caller
from hub.home import Home
from hub.seen_bases import base_for, shown_names
from storage import accounts, versions
from storage.adapter_search import AdapterFilter, FoundAdapter, find_adapters
from storage.versions import Version


@dataclass(frozen=True)
class Listed:
    """One line of `mixhub ls`. None: unknown."""

    address: str
    version: str
    commit: str
    visibility: str
    """"public" or "private": on a server, who may read it."""
    base: str | None
    """A name of the base that it is bound to; None: unbound."""
    base_as_written: str | None
    base_identity: str | None
    peft_type: str | None
    task_type: str | None
    rank: int | None
    """The highest of its modules."""
    ranks: tuple[int, ...]
    alpha: float | None
    target_modules: tuple[str, ...]
    parameter_count: int | None
    dtype: str | None
    task: str
    tags: tuple[str, ...]
    licence: str | None
    state: str
    """`ok`, or why it cannot be mixed or does nothing."""
    refusal: str | None
    """Why it cannot be mixed, in full."""

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
    peft_type: str = "",
    licence: str = "",
    rank: int | None = None,
    limit: int | None = None,
    offset: int = 0,
    caller: Caller | None = None,
) -> list[Listed]:
    """Adapters for which every given condition holds; `base` goes by identity, under any of its names.

    `caller` is who asks a server, and sees only what they may see; None: without a server.
    """
    with home.read() as session:
        if base and base_for(session, caller, base) is None:
            return []
        wanted = AdapterFilter(
            account=namespace or None, text=text or None, base=base or None, task=task or None, tag=tag or None,
            peft_type=peft_type or None, licence=licence or None, rank=rank,
            readable_by=None if caller is None else _readers(session, caller),
        )  # fmt: skip
        found = find_adapters(session, wanted, limit=limit, offset=offset)
        names = shown_names(session, caller, (one.facts.base_identity for one in found))
        given = versions.of_revisions(session, {one.revision_id for one in found})
        return [_listed(one, names, given.get(one.revision_id, [])) for one in found]


def _readers(session: Session, caller: Caller) -> tuple[str, ...] | None:
    if caller.everything:
        return None
    return tuple(accounts.by_id(session, account_id).name for account_id in caller.roles)


def _listed(found: FoundAdapter, names: Mapping[str, str], given: Sequence[Version]) -> Listed:
    """`given` are the versions that its revision is."""
    facts = found.facts
    tasks = [t.name for t in facts.tags if t.kind == "task"] or [facts.task_type or ""]
    return Listed(
        address=found.address,
        version=given[-1].name if given else "",
        commit=found.commit_id,
        visibility=found.visibility,
        base=names.get(facts.base_identity or ""),
        base_as_written=facts.base_model_name,
        base_identity=facts.base_identity,
        peft_type=facts.peft_type,
        task_type=facts.task_type,
        rank=max(facts.ranks.values(), default=None),
        ranks=tuple(sorted(set(facts.ranks.values()))),
        alpha=facts.alpha,
        target_modules=tuple(facts.target_modules),
        parameter_count=facts.parameter_count,
        dtype=facts.dtype,
        task=", ".join(tasks),
        tags=tuple(t.name for t in facts.tags if t.kind == "tag"),
        licence=facts.licence,
        state="not mixable" if not facts.usable else "no effect" if facts.zero_delta else "ok",
        refusal=facts.refusal,
    )
