"""Choose which adapters of this home are worth searching: the best alone on the examples, without near-duplicates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compose.errors import SearchError, UnsupportedAdapter
from compose.examples import Examples, read_labels
from compose.recipe import RECIPE_FILE
from hub.actions.compose import pin_parts
from hub.actions.search_objective import read_source
from hub.actions.search_on_ray import RaySetup, actors_with, check_in_actors
from hub.actions.search_plan import SearchOptions
from hub.actions.seen_examples import seen_by
from hub.actions.shortlist import shortlist
from hub.address import Address, parse_address
from hub.base_lookup import FoundBase, require_base
from hub.bound_base import bound_base
from hub.errors import UnknownBase, UsageError
from hub.home import Home
from hub.locate import locate
from storage.adapter_search import AdapterFilter, FoundAdapter, find_adapters

if TYPE_CHECKING:
    from compose.adapter import LoraAdapter
    from compose.preselect import Considered
    from compose.scoring.protocol import Scorer
    from storage.adapters import AdapterFacts


@dataclass(frozen=True)
class Selected:
    """`adapters` go into the search, best alone first. `considered` says of each why it was kept or dropped."""

    adapters: tuple[Address, ...]
    considered: tuple[Considered, ...]
    evaluations: int

    def as_dict(self) -> dict[str, Any]:
        return {"evaluations": self.evaluations, "considered": [asdict(one) for one in self.considered]}


def select(
    home: Home,
    addresses: Sequence[Address],
    examples: Path | Examples,
    *,
    count: int,
    named: bool = True,
    base: str = "",
    namespace: str = "",
    labels: Path | Mapping[str, str] | None = None,
    encoder: Path | None = None,
    options: SearchOptions | None = None,
    ray: RaySetup | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Selected:
    """The best `count` of `addresses`, or, without any, of all adapters here that are bound to `base`, perhaps of one
    `namespace` only.

    A mix that was itself searched on some of these examples would look better on them than it is: it is left out,
    unless a person has `named` the addresses. Each is scored alone by its few-shot loss, whatever the search minimises
    afterwards; with `encoder`, the folder of a sentence encoder, only those whose descriptions are most like the
    examples are. `ray`: the adapters are scored in actors there, which have the device of `options`; the descriptions
    are compared on this machine. Nothing is stored.
    """
    chosen = options or SearchOptions()
    if ray is not None:
        check_in_actors(chosen)
    candidates, found = _candidates(home, addresses, base=base, namespace=namespace)
    if found.directory is None:
        raise UnknownBase(f"the files of the base model {found.name} are not on this machine", remedy="--base FOLDER")
    rows = read_source(examples, "loss", None).examples
    texts = read_labels(labels) if isinstance(labels, Path) else labels

    from compose.preselect import Considered, preselect

    checkout = _checkout_of(home)
    if not (addresses and named):
        is_mix = _mixes_in(home)
        fitted = {
            one: (facts, _fitted_before(home, one, checkout(one), rows))
            for one, (facts, refusal) in candidates.items()
            if not refusal and is_mix(one)
        }
        candidates |= fitted
    usable = {one: facts for one, (facts, refusal) in candidates.items() if not refusal}
    if not usable and candidates:
        first, (_, why) = next(iter(candidates.items()))
        raise SearchError(f"none of {len(candidates)} adapters can be searched: {first} {why}", remedy="name some")
    listed, unlike = list(usable), list[Considered]()
    if encoder is not None:
        listed, unlike = shortlist(usable, checkout, rows, encoder, count=count, device="cpu" if ray else chosen.device)
    with ExitStack() as held:
        done = preselect(
            [str(one) for one in listed], _reader(checkout, found.directory),
            _scorer(_maker(found.directory, chosen, ray, held), rows, texts), count=count, on_progress=on_progress,
        )  # fmt: skip
    unusable = [Considered(str(one), False, None, refusal) for one, (_, refusal) in candidates.items() if refusal]
    kept = tuple(parse_address(name) for name in done.kept)
    return Selected(kept, (*done.considered, *unlike, *unusable), done.evaluations)


def _candidates(
    home: Home, addresses: Sequence[Address], *, base: str, namespace: str
) -> tuple[dict[Address, tuple[AdapterFacts, str]], FoundBase]:
    """Address -> facts, and why it cannot take part, empty if it can; and the base to score on."""
    if addresses:
        facts = {address: part.facts for address, part in zip(addresses, pin_parts(home, addresses), strict=True)}
        identities = {one.base_identity for one in facts.values()} - {None}
        if not base and len(identities) != 1:
            raise UnknownBase("the base model of these adapters is not known or not the same", remedy="--base NAME")
        found = require_base(home, base) if base else bound_base(home, str(identities.pop()), option="--base FOLDER")
        return {address: (one, _refusal(one)) for address, one in facts.items()}, found
    if not base:
        raise UsageError(
            "there is nothing to select from", remedy="name a base, to take every adapter of it: --base NAME"
        )
    found = require_base(home, base)
    identity = found.identity(home)
    listed: list[FoundAdapter] = []
    if identity is not None:
        with home.read() as session:
            listed = find_adapters(session, AdapterFilter(base=identity, account=namespace or None))
    if not listed:
        where = f" in {namespace}" if namespace else ""
        raise UnknownBase(
            f"no adapter{where} is bound to the base {base}", remedy="mixhub ls shows what each is bound to"
        )
    return {parse_address(one.address): (one.facts, _refusal(one.facts)) for one in listed}, found


def _refusal(facts: AdapterFacts) -> str:
    """What is known of an adapter without reading it."""
    if not facts.usable:
        return f"cannot be mixed: {facts.refusal}"
    if facts.zero_delta:
        return "changes nothing: every B (or A) is zero"
    if facts.missing_modules:
        return f"changes {len(facts.missing_modules)} modules that the base does not have"
    return ""


def _mixes_in(home: Home) -> Callable[[Address], bool]:
    """Whether an address holds a recipe; the files of a repo are listed once."""

    @cache
    def paths(repo: Address) -> frozenset[str]:
        with home.read() as session:
            return frozenset(file.path for file in locate(session, repo).files)

    def is_mix(address: Address) -> bool:
        path = f"{address.folder}/{RECIPE_FILE}" if address.folder else RECIPE_FILE
        return path in paths(replace(address, folder=""))

    return is_mix


def _fitted_before(home: Home, address: Address, folder: Path, rows: Examples) -> str:
    """Why a mix is left out that was searched on some of `rows`, itself or through what it was mixed from."""
    seen = seen_by(home, address.adapter_id, folder, rows)
    one = next((one for one in seen if one.how == "searched"), None)
    if one is None:
        return ""
    by = "it" if one.through == one.adapter else f"{one.through}, which it was mixed from,"
    return f"{by} was searched on {len(one.numbers)} of {len(rows)} examples; name it to search with it anyhow"


def _checkout_of(home: Home) -> Callable[[Address], Path]:
    """The folder of an adapter; its repo's files come to this machine's disk only then."""

    @cache  # a repo may hold hundreds of them, and listing its files takes longer than reading one
    def checkout(repo: Address) -> Path:
        with home.read() as session:
            pinned = locate(session, repo)
        return pinned.directory(home)

    return lambda address: checkout(replace(address, folder="")) / address.folder


def _reader(checkout: Callable[[Address], Path], base: Path) -> Callable[[str], LoraAdapter]:
    """Reads one adapter by its address."""
    from compose.base_weights import BaseWeights
    from compose.peft_files import read_adapter

    tensors = BaseWeights(base)
    return lambda name: read_adapter(checkout(parse_address(name)), name=name, base=tensors)


def _maker(base: Path, options: SearchOptions, ray: RaySetup | None, held: ExitStack) -> Callable[..., Scorer]:
    """`make_scorer` of the base, which is loaded once: here, or in actors that live until `held` is closed."""
    if ray is None:
        from compose.scoring.loading import load_base, make_scorer

        return partial(make_scorer, load_base(base, device=options.device))
    actors = held.enter_context(actors_with(base, replace(options, dtype="float32"), ray, {}))

    def make(**given: Any) -> Scorer:
        actors.forget()  # one chunk of adapters in memory at a time
        return actors.make_scorer(**given)

    return make


def _scorer(
    make: Callable[..., Scorer], examples: Examples, labels: Mapping[str, str] | None
) -> Callable[[Sequence[LoraAdapter]], list[float]]:
    """Scores a few adapters, each alone at weight 1, as one batch."""
    import numpy as np

    from compose.objective import mean_over_examples

    def score(adapters: Sequence[LoraAdapter]) -> list[float]:
        if extra := next((one for one in adapters if not one.is_plain), None):
            raise UnsupportedAdapter(f"{extra.name} changes more than linear layers")
        # exact: alone at weight 1 all methods agree, and this one takes any ranks
        scorer = make(examples=examples, adapters=adapters, method="exact", labels=labels)
        losses = scorer.example_losses(np.eye(len(adapters)))
        return [float(loss) for loss in mean_over_examples(losses, scorer.token_counts)]

    return score
