"""Everything that is known about one address: facts, versions, lineage, modules."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from hub import access
from hub.access import Caller
from hub.address import Address
from hub.home import Home
from hub.locate import Pinned, adapter_folders, locate
from hub.seen_bases import base_for, names_of, shown_names
from storage import adapters, aliases, compositions, repos, versions
from storage.adapters import AdapterFacts, Module
from storage.errors import NotFound


@dataclass(frozen=True)
class ShownVersion:
    name: str
    commit_id: str
    aliases: str
    created_at: datetime


@dataclass(frozen=True)
class Relative:
    """A parent of a mix, or a mix made from this adapter."""

    address: str
    """`(private)`, without a commit, for a parent that the caller may not see."""
    commit_id: str
    weight: float


@dataclass(frozen=True)
class Shown:
    address: str
    commit_id: str
    facts: dict[str, object]
    """Name -> value, in the order to print; empty ones mean unknown."""
    versions: tuple[ShownVersion, ...]
    method: str | None
    """How it was mixed; None: it was not."""
    parents: tuple[Relative, ...]
    ancestors: tuple[Relative, ...]
    """Further up than the parents."""
    children: tuple[Relative, ...]
    modules: tuple[Module, ...]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def show(home: Home, address: Address, *, caller: Caller | None = None) -> Shown:
    """`NotFound` where the address names nothing. Without an adapter, what is there instead.

    `caller` is who asks a server and may see the repo; of its relatives they are told what they may see. None: without
    a server.
    """
    with home.read() as session:
        pinned = locate(session, address)
        facts = adapters.facts_of(session, pinned.revision, address.folder)
        made_of = compositions.composition_of(session, pinned.revision.id, address.folder)
        lineage = compositions.lineage(session, pinned.revision, address.folder)
        return Shown(
            address=str(address),
            commit_id=pinned.revision.commit_id,
            facts={
                **_revision_facts(pinned),
                **(_facts(session, facts, caller) if facts else _other(session, pinned, caller)),
                "found by search": _search(made_of),
            },
            versions=_versions(session, pinned),
            method=made_of.method if made_of else None,
            parents=tuple(_parent(session, a.parent, caller) for a in lineage.ancestors if a.depth == 1),
            ancestors=tuple(_parent(session, a.parent, caller) for a in lineage.ancestors if a.depth > 1),
            children=tuple(
                Relative(_join(c.full_name, c.folder) + (" (deleted)" if c.deleted else ""), c.commit_id, c.weight)
                for c in lineage.children
                if _sees(session, caller, c.repo_id)
            ),
            modules=facts.modules if facts else (),
        )


def show_composition(home: Home, address: Address, *, caller: Caller | None = None) -> dict[str, object]:
    """How the mix at `address` was made: method, parents, recipe. `NotFound` where it was not mixed here."""
    with home.read() as session:
        pinned = locate(session, address)
        made_of = compositions.composition_of(session, pinned.revision.id, address.folder)
        if made_of is None:
            raise NotFound(f"{address} is no mix", remedy=f"mixhub show {address.adapter_id}")
        return {
            "address": str(address),
            "commit": pinned.revision.commit_id,
            "method": made_of.method,
            "parents": [asdict(_parent(session, parent, caller)) for parent in made_of.parents],
            "recipe": dict(made_of.recipe),
        }


def search_of(home: Home, address: Address) -> str:
    """The id of the search that found the mix at `address`. `NotFound` where it was not found by one."""
    with home.read() as session:
        pinned = locate(session, address)
        found = _search(compositions.composition_of(session, pinned.revision.id, address.folder))
    if found is None:
        raise NotFound(f"{address} was not found by a search", remedy=f"mixhub show {address.adapter_id}")
    return found


def _search(made_of: compositions.Composition | None) -> str | None:
    """The id of the search in the recipe, if there is one."""
    found = (made_of.recipe.get("search") or {}) if made_of else {}
    return str(found["id"]) if found.get("id") else None


def _revision_facts(pinned: Pinned) -> dict[str, object]:
    revision = pinned.revision
    return {
        "created": revision.created_at.replace(microsecond=0),
        "message": revision.title,
        "state": None if revision.state == "ok" else f"{revision.state}: {revision.reason}",
        "files": ", ".join(f.path for f in pinned.own_files[:12]) + (" ..." if len(pinned.own_files) > 12 else ""),
        "size": f"{sum(f.size for f in pinned.own_files):,} bytes",
    }


def _facts(session: Session, facts: AdapterFacts, caller: Caller | None) -> dict[str, object]:
    ranks = sorted(set(facts.ranks.values()))
    usage = facts.usage
    matched = None
    if facts.modules_matched is not None:
        matched = f"{facts.modules_matched} of {len(facts.modules)} modules exist in it with fitting shapes"
    return {
        "base": shown_names(session, caller, [facts.base_identity]).get(facts.base_identity or "", "unbound"),
        "base as written": facts.base_model_name,
        "base revision": facts.base_model_revision,
        "base identity": facts.base_identity,
        "fits the base": matched,
        "missing in base": ", ".join(facts.missing_modules),
        "type": facts.peft_type,
        "cannot be mixed": facts.refusal,
        "no effect": "every B (or A) is zero" if facts.zero_delta else None,
        "rank": ", ".join(map(str, ranks)),
        "alpha": facts.alpha,
        "scaling": facts.scaling_kind,
        "targets": ", ".join(facts.target_modules),
        "parameters": f"{facts.parameter_count:,}" if facts.parameter_count else None,
        "dtype": facts.dtype,
        "task type": facts.task_type,
        **{f"{kind}s": _tags(facts, kind) for kind in ("task", "metric", "dataset", "tag")},
        "licence": facts.licence,
        "prompt template": usage.prompt_template,
        "chat template": usage.chat_template,
        "label texts": dict(usage.label_texts) if usage.label_texts else None,
        "stop strings": list(usage.stop_strings),
        "suggested weight": usage.suggested_weight,
        "weights sha256": facts.weights_sha256,
    }


def _tags(facts: AdapterFacts, kind: str) -> str:
    return ", ".join(f"{t.name} {t.value}" if t.value else t.name for t in facts.tags if t.kind == kind)


def _other(session: Session, pinned: Pinned, caller: Caller | None) -> dict[str, object]:
    """No adapter right here: a base model, or a folder above adapters."""
    folders = adapter_folders(pinned.own_files)
    known = base_for(session, caller, pinned.address.adapter_id)
    return {
        "holds": "a base model" if known else "no adapter in this folder itself",
        "base identity": known.identity if known else None,
        "known as": ", ".join(n.name for n in names_of(session, caller, known)) if known else None,
        "parameters": f"{known.facts.parameter_count:,}" if known else None,
        "adapters": ", ".join(f"{pinned.address.repo_id}/{f}" if f else pinned.address.repo_id for f in folders),
    }


def _versions(session: Session, pinned: Pinned) -> tuple[ShownVersion, ...]:
    named: dict[str, list[str]] = {}
    for alias, commit_id in aliases.every(session, pinned.repo).items():
        named.setdefault(commit_id, []).append(alias)
    return tuple(
        ShownVersion(v.name, v.commit_id, ", ".join(named.get(v.commit_id, ())), v.given_at.replace(microsecond=0))
        for v in versions.every(session, pinned.repo)
    )


def _sees(session: Session, caller: Caller | None, repo_id: int) -> bool:
    return caller is None or access.sees(caller, repos.by_id(session, repo_id))


def _parent(session: Session, parent: compositions.Parent, caller: Caller | None) -> Relative:
    if not _sees(session, caller, parent.repo_id):
        return Relative("(private)", "", parent.weight)
    return Relative(_join(parent.full_name, parent.folder), parent.commit_id, parent.weight)


def _join(full_name: str, folder: str) -> str:
    return f"{full_name}/{folder}" if folder else full_name
