"""Mix adapters of the registry into a new one: pin the parts, check that they fit, merge, publish with the recipe."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compose.card import CardFacts
from compose.layer_weights import Weight, main_weight
from compose.recipe import RECIPE_FILE, Recipe, parent_of, read_recipe, weights_of
from compose.refusals import PROMPT_MEAN
from hub.actions.mixing import mix_factors, mix_prompts
from hub.actions.parts import PinnedPart as PinnedPart
from hub.actions.parts import check_fit as check_fit
from hub.actions.parts import licence_notes, with_initial
from hub.actions.parts import pin_parts as pin_parts
from hub.actions.publish import Published, check_target, publish
from hub.address import Address, parse_address
from hub.base_lookup import FoundBase
from hub.bound_base import recorded_base
from hub.errors import UsageError
from hub.home import Home
from hub.read_parts import base_of_parts
from hub.search_usage import contract_of
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
class Composed:
    published: Published
    parts: tuple[Part, ...]
    method: str
    retained_energy: float | None
    """Share of the exact delta that an approximating method kept; None for element-wise methods."""
    notes: tuple[str, ...]
    gauge_affinity: float | None = None
    """For element-wise methods: how alike the adapters' factors are laid out, 1 is best (compose/gauge.py)."""
    licences: Mapping[str, str | None] = field(default_factory=dict)
    """Part -> its licence, None: unknown."""

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
            "licences": dict(self.licences),
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
    initial: Mapping[str, Path] | None = None,
    allow_unbound: bool = False,
    version: str = "",
    search: Mapping[str, Any] | None = None,
    pinned_before: bool = False,
    beside: Mapping[str, str] | None = None,
) -> Composed:
    """Mix `parts` and publish the result at `into` with its recipe and lineage. `search` says how the weights were
    found, and goes into the recipe. `initial` names folders of PiSSA or OLoRA adapters before training, by address.
    `pinned_before` as for `pin_parts`. `beside` are text files to publish with the mix.

    Errors: an adapter that cannot be mixed, adapters of different or (without `allow_unbound`) unknown base models,
    shapes that differ; all differences are listed at once and nothing is published.
    """
    check_target(into)
    pinned = with_initial(pin_parts(home, [part.address for part in parts], pinned_before=pinned_before), initial or {})
    fit = check_fit(pinned, allow_unbound=allow_unbound, method=method)
    notes = (*fit, *licence_notes(pinned))
    options = MixOptions(method, params or {}, dtype, max_rank, policies or {}, base)
    weights = [part.weight for part in parts]
    return mix(home, pinned, weights, into, options=options, version=version, search=search, notes=notes, beside=beside)


def remake(
    home: Home,
    recipe_file: Path,
    into: Address | None,
    *,
    base: str = "",
    initial: Mapping[str, Path] | None = None,
    version: str = "",
) -> Composed:
    """Remake a mix from its recipe and publish it. The parents must be in this home with the recorded bytes, and the
    result must have the recorded sha256, or nothing is published."""
    from compose.remake import remake as remake_files

    if into is None:
        raise UsageError("--as is missing", remedy="name the result: --as namespace/name")
    check_target(into)
    recipe = read_recipe(recipe_file / RECIPE_FILE if recipe_file.is_dir() else recipe_file)
    addresses = [parent_address(p.address, p.commit, p.folder) for p in recipe.parents]
    pinned = with_initial(pin_parts(home, addresses, pinned_before=True), initial or {})
    weights = weights_of(recipe)
    tensors = base_of_parts(home, pinned, base) if recipe.base else None
    with tempfile.TemporaryDirectory(prefix="mixhub-") as scratch:
        made = Path(scratch) / "adapter"
        remake_files(
            recipe, [part.directory for part in pinned], made, facts=_card(into, pinned, recipe.search), base=tensors,
            initial=[part.initial for part in pinned],
        )  # fmt: skip
        published = publish(
            home, made, into, base=_shared_base(home, pinned), version=version, message=f"Remake {into.adapter_id}",
            composition=_composition(pinned, weights, recipe_of(made)),
        )  # fmt: skip
    return Composed(
        published, _parts(pinned, weights), recipe.method, None, published.notes, licences=_licences(pinned)
    )


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
    beside: Mapping[str, str] | None = None,
) -> Composed:
    """Merge pinned parts that are known to fit, and publish the result; `beside` are text files to publish with it."""
    from compose.replacements import numbered

    make = mix_prompts if options.method == PROMPT_MEAN else mix_factors
    mixed = make(home, parts, weights, options, _card(into, parts, search))
    recipe = Recipe(
        parents=tuple(
            parent_of(
                part.directory, address=part.address.repo_id, weight=weight,
                commit=part.pinned.revision.commit_id, folder=part.pinned.folder, initial=part.initial,
            )
            for part, weight in zip(parts, weights, strict=True)
        ),
        method=options.method,
        params=mixed.params,
        max_rank=options.max_rank,
        policies=numbered(options.policies, [part.name for part in parts]),
        base=mixed.base,
        search=search,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mixhub-") as scratch:
        made = Path(scratch) / "adapter"
        mixed.save(made, recipe)
        for name, text in (beside or {}).items():
            (made / name).write_text(text, encoding="utf-8", newline="\n")
        published = publish(
            home, made, into, base=_shared_base(home, parts), version=version, message=f"Mix {into.adapter_id}",
            composition=_composition(parts, weights, recipe_of(made)),
        )  # fmt: skip
    return Composed(
        published, _parts(parts, weights), options.method, mixed.retained_energy,
        (*notes, *mixed.notes, *published.notes), mixed.gauge_affinity, _licences(parts),
    )  # fmt: skip


def recipe_of(folder: Path) -> dict[str, Any]:
    """The recipe beside a saved adapter, as data."""
    content: dict[str, Any] = json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8"))
    return content


def _card(into: Address, parts: Sequence[PinnedPart], search: Mapping[str, Any] | None) -> CardFacts:
    """The licence only where all parts have the same one; the prompts that the search was run with."""
    licences = {part.facts.licence for part in parts}
    return CardFacts(
        title=into.adapter_id,
        license=licences.pop() if len(licences) == 1 else None,
        usage=contract_of(search),
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


def _licences(parts: Sequence[PinnedPart]) -> dict[str, str | None]:
    return {part.name: part.facts.licence for part in parts}


def _parts(parts: Sequence[PinnedPart], weights: Sequence[Weight]) -> tuple[Part, ...]:
    return tuple(Part(part.address, weight) for part, weight in zip(parts, weights, strict=True))


def parent_address(address: str, commit: str | None, folder: str) -> Address:
    """A recipe names repo and folder apart; the commit pins both."""
    parsed = parse_address(address)
    return Address(parsed.namespace, parsed.repo, folder or parsed.folder, commit or parsed.revision)
