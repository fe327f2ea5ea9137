"""Mix adapters of the registry into a new one: pin the parts, check that they fit, merge, publish with the recipe."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compose.base_model import fingerprint
from compose.card import CardFacts
from compose.compatibility import compare
from compose.description import describe
from compose.layer_weights import Weight, main_weight
from compose.recipe import RECIPE_FILE, Recipe, parent_of, read_recipe, weights_of
from hub.actions.publish import Published, check_target, publish
from hub.address import Address, parse_address
from hub.base_lookup import FoundBase
from hub.bound_base import recorded_base
from hub.errors import UsageError
from hub.home import Home
from hub.locate import Pinned, locate_adapter, locate_pinned
from hub.read_parts import base_of_parts, read_parts
from storage import adapters as adapter_rows
from storage.adapters import AdapterFacts
from storage.compositions import Composition, Parent


@dataclass(frozen=True)
class Part:
    """`weight` is a number, or numbers by globs over modules, the last of them `*`."""

    address: Address
    weight: Weight


@dataclass(frozen=True)
class MixOptions:
    """How to mix, besides the weights. `params` are the method's; `policies` say whose whole tensors count; `base` is
    the base model's folder or name, for adapters that need it."""

    method: str = "lorahub"
    params: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = ""
    max_rank: int | None = None
    policies: Mapping[str, str] = field(default_factory=dict)
    base: str = ""


@dataclass(frozen=True)
class PinnedPart:
    """A part with its revision fixed, its facts, and its files on this machine."""

    name: str
    """How messages and searches call it: its address as it was written; unique among the parts of one mix."""
    pinned: Pinned
    facts: AdapterFacts
    directory: Path

    @property
    def address(self) -> Address:
        return self.pinned.address


@dataclass(frozen=True)
class Composed:
    published: Published
    parts: tuple[Part, ...]
    method: str
    retained_energy: float | None
    """Share of the exact delta that an approximating method kept; None for element-wise methods."""
    notes: tuple[str, ...]
    gauge_affinity: float | None = None
    """For element-wise methods: how alike the adapters' factors are laid out, 1 is best (compose/gauge.py)."""

    @property
    def verb(self) -> str:
        return "mixed" if self.published.created else "unchanged"

    def as_dict(self) -> dict[str, object]:
        return {
            **self.published.as_dict(),
            "method": self.method,
            "parts": [{"address": str(p.address), "weight": p.weight} for p in self.parts],
            "retained_energy": self.retained_energy,
            "gauge_affinity": self.gauge_affinity,
            "notes": list(self.notes),
        }


def compose(
    home: Home,
    parts: Sequence[Part],
    into: Address,
    *,
    method: str = "lorahub",
    params: Mapping[str, Any] | None = None,
    dtype: str = "",
    max_rank: int | None = None,
    policies: Mapping[str, str] | None = None,
    base: str = "",
    allow_unbound: bool = False,
    version: str = "",
    search: Mapping[str, Any] | None = None,
    pinned_before: bool = False,
) -> Composed:
    """Mix `parts` and publish the result at `into` with its recipe and lineage. `search` says how the weights were
    found, and goes into the recipe. `pinned_before` as for `pin_parts`.

    Errors: an adapter that cannot be mixed, adapters of different or (without `allow_unbound`) unknown base models,
    shapes that differ; all differences are listed at once and nothing is published.
    """
    check_target(into)
    pinned = pin_parts(home, [part.address for part in parts], pinned_before=pinned_before)
    notes = (*check_fit(pinned, allow_unbound=allow_unbound), *licence_notes(pinned))
    options = MixOptions(method, params or {}, dtype, max_rank, policies or {}, base)
    weights = [part.weight for part in parts]
    return mix(home, pinned, weights, into, options=options, version=version, search=search, notes=notes)


def remake(home: Home, recipe_file: Path, into: Address | None, *, base: str = "", version: str = "") -> Composed:
    """Remake a mix from its recipe and publish it. The parents must be in this home with the recorded bytes, and the
    result must have the recorded sha256, or nothing is published."""
    from compose.remake import remake as remake_files

    if into is None:
        raise UsageError("--as is missing", remedy="name the result: --as namespace/name")
    check_target(into)
    recipe = read_recipe(recipe_file / RECIPE_FILE if recipe_file.is_dir() else recipe_file)
    addresses = [parent_address(p.address, p.commit, p.folder) for p in recipe.parents]
    pinned = pin_parts(home, addresses, pinned_before=True)
    weights = weights_of(recipe)
    tensors = base_of_parts(home, pinned, base) if recipe.base else None
    with tempfile.TemporaryDirectory(prefix="mixhub-") as scratch:
        made = Path(scratch) / "adapter"
        remake_files(recipe, [part.directory for part in pinned], made, facts=_card(into, pinned), base=tensors)
        published = publish(
            home, made, into, base=_shared_base(home, pinned), version=version, message=f"Remake {into.adapter_id}",
            composition=_composition(pinned, weights, recipe_of(made)),
        )  # fmt: skip
    return Composed(published, _parts(pinned, weights), recipe.method, None, published.notes)


def pin_parts(
    home: Home, addresses: Sequence[Address], *, names: Sequence[str] = (), pinned_before: bool = False
) -> list[PinnedPart]:
    """Fix the revision of every address and bring the files to this machine's disk. Each adapter may occur once.

    `names` says what to call them; by default as the addresses are written. `pinned_before`: the addresses hold commit
    ids that a recipe or a search wrote down, so that a repo that was deleted since still serves.
    """
    find = locate_pinned if pinned_before else locate_adapter
    parts = []
    for address, name in zip(addresses, names or map(str, addresses), strict=True):
        with home.read() as session:
            pinned = find(session, address)
            facts = adapter_rows.facts_of(session, pinned.revision, address.folder)
        if facts is None or pinned.revision.state == "broken":
            state = f"{pinned.revision.state}: {pinned.revision.reason}"
            raise UsageError(f"{address} cannot be used, it is {state}", remedy="publish it again")
        parts.append(PinnedPart(name, pinned, facts, pinned.directory(home)))
    seen: dict[tuple[str, str], Address] = {}
    for part in parts:
        key = (part.pinned.revision.commit_id, part.pinned.folder)
        if key in seen:
            raise UsageError(f"{part.address} and {seen[key]} are the same adapter", remedy="name it once")
        seen[key] = part.address
    return parts


def check_fit(parts: Sequence[PinnedPart], *, allow_unbound: bool) -> tuple[str, ...]:
    """Raise one error that lists every reason why the parts cannot be mixed; give the remaining notes."""
    descriptions = [describe(part.directory, name=part.name) for part in parts]
    digests = {part.name: part.facts.base_identity for part in parts}
    report = compare(descriptions, base_digests=digests, allow_unbound=allow_unbound)
    report.raise_for_errors()
    return tuple(note.message for note in report.notes)


def licence_notes(parts: Sequence[PinnedPart]) -> tuple[str, ...]:
    """What to check where the parts come under different licences, or some under none that is known."""
    held: dict[str, list[str]] = {}
    for part in parts:
        held.setdefault(part.facts.licence or "no licence known", []).append(part.name)
    if len(held) < 2:
        return ()
    listed = "; ".join(f"{licence}: {', '.join(names)}" for licence, names in sorted(held.items()))
    return (f"the parts have different licences ({listed}); the mix's card names none",)


def mix(
    home: Home,
    parts: Sequence[PinnedPart],
    weights: Sequence[Weight],
    into: Address,
    *,
    options: MixOptions,
    version: str = "",
    search: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Composed:
    """Merge pinned parts that are known to fit, and publish the result."""
    from compose.export import save_adapter
    from compose.gauge import gauge_affinity
    from compose.merge import merge
    from compose.methods import find_method
    from compose.replacements import numbered

    base = base_of_parts(home, parts, options.base)
    adapters = read_parts(parts, base)
    merged = merge(
        adapters, list(weights), method=options.method, name=into.adapter_id, max_rank=options.max_rank,
        policies=options.policies, base=base, **options.params,
    )  # fmt: skip
    recipe = Recipe(
        parents=tuple(
            parent_of(
                part.directory, address=part.address.repo_id, weight=weight,
                commit=part.pinned.revision.commit_id, folder=part.pinned.folder,
            )
            for part, weight in zip(parts, weights, strict=True)
        ),
        method=options.method,
        params=merged.report.params,
        max_rank=options.max_rank,
        policies=numbered(options.policies, [part.name for part in parts]),
        base=fingerprint(base.directory).digest if base else None,
        search=search,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mixhub-") as scratch:
        made = Path(scratch) / "adapter"
        save_adapter(merged.adapter, made, dtype=options.dtype or None, recipe=recipe, facts=_card(into, parts))
        published = publish(
            home, made, into, base=_shared_base(home, parts), version=version, message=f"Mix {into.adapter_id}",
            composition=_composition(parts, weights, recipe_of(made)),
        )  # fmt: skip
    by_factor = find_method(options.method).level == "factor" and len(adapters) > 1
    return Composed(
        published, _parts(parts, weights), options.method, merged.report.retained_energy,
        (*notes, *merged.report.notes, *published.notes),
        gauge_affinity([adapter.modules for adapter in adapters]) if by_factor else None,
    )  # fmt: skip


def recipe_of(folder: Path) -> dict[str, Any]:
    """The recipe beside a saved adapter, as data."""
    content: dict[str, Any] = json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8"))
    return content


def _card(into: Address, parts: Sequence[PinnedPart]) -> CardFacts:
    """The licence only where all parts have the same one; the tags that all parts share."""
    licences = {part.facts.licence for part in parts}
    return CardFacts(
        title=into.adapter_id,
        license=licences.pop() if len(licences) == 1 else None,
    )


def _composition(parts: Sequence[PinnedPart], weights: Sequence[Weight], recipe: Mapping[str, Any]) -> Composition:
    return Composition(
        method=str(recipe["method"]),
        params=recipe["params"],
        recipe=recipe,
        parents=tuple(
            Parent(
                repo_id=part.pinned.repo.id, revision_id=part.pinned.revision.id,
                commit_id=part.pinned.revision.commit_id, folder=part.pinned.folder, full_name=part.address.repo_id,
                weight=main_weight(weight), weights_sha256=str(part.facts.weights_sha256),
                config_sha256=str(part.facts.config_sha256),
            )
            for part, weight in zip(parts, weights, strict=True)
        ),
    )  # fmt: skip


def _shared_base(home: Home, parts: Sequence[PinnedPart]) -> FoundBase | None:
    """The base that all parts are bound to, for binding the mix; None where there is no such base."""
    identities = {part.facts.base_identity for part in parts}
    identity = identities.pop()
    if identities or identity is None:
        return None
    with home.read() as session:
        return recorded_base(session, identity)


def _parts(parts: Sequence[PinnedPart], weights: Sequence[Weight]) -> tuple[Part, ...]:
    return tuple(Part(part.address, weight) for part, weight in zip(parts, weights, strict=True))


def parent_address(address: str, commit: str | None, folder: str) -> Address:
    """A recipe names repo and folder apart; the commit pins both."""
    parsed = parse_address(address)
    return Address(parsed.namespace, parsed.repo, folder or parsed.folder, commit or parsed.revision)
