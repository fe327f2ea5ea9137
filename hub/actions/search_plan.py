"""What a search will do, complete before anything is scored: pinned adapters, rows, base and options.

A plan is stored with its search; so a search that was stopped or killed is resumed from its id alone, and asks exactly
the same trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from compose.errors import SearchError
from compose.examples import Examples, examples_of, read_examples, read_labels
from compose.group_words import group_count
from compose.module_groups import ModuleGroups, stored_groups
from compose.search_settings import ADAM, FIT, LORAHUB, OWN, check_settings
from compose.top_mix import TOP
from compose.trials import Kind, Trial
from hub.actions.compose import PinnedPart, check_fit, pin_parts
from hub.actions.publish import check_target
from hub.actions.search_groups import groups_for
from hub.actions.search_objective import read_source
from hub.actions.search_on_ray import check_in_actors
from hub.actions.seen_examples import Seen, as_data, from_data, seen_examples
from hub.address import Address, parse_address
from hub.base_lookup import FoundBase, require_base
from hub.bound_base import bound_base
from hub.errors import NotReproduced, UnknownBase, UsageError
from hub.home import Home
from hub.search_usage import SearchUsage, choose_usage, stored_usage
from storage import searches
from storage.searches import PinnedAdapter

ONE_WORKER, SEVERAL_WORKERS = "Cobyla", "OnePlusOne"
"""What nevergrad searches with, where it does and nobody says otherwise."""
DEFAULT_METHOD = "exact"
LIKELIHOODS = ("loss", "choice_loss")
"""Objectives that are log-likelihoods."""
NOTHING_WRITTEN = (*LIKELIHOODS, "acc", "acc_norm", "acc_bytes")
"""Objectives that generate no texts."""


@dataclass(frozen=True)
class SearchOptions:
    """What decides which trials are asked. None: the default of `compose.search.search`; the method's is exact, except
    for the lorahub preset (measured: tests/benchmarks/results/bench_quality_fit.md)."""

    budget: int = 40
    seed: int = 0
    workers: int = 1
    optimizer: str | None = None
    preset: str | None = None
    method: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    bounds: tuple[float, float] | None = None
    simplex: bool = False
    scale: tuple[float, float] | None = None
    """With `simplex`: what the weights add up to, between these two; None: to 1."""
    groups: str | None = None
    """`layers:4`, `attn,mlp`, globs (compose/group_words.py): a weight for each group of modules of each adapter."""
    gate: bool = True
    """False: the few-shot loss decides; for adam and nevergrad's optimizers."""
    top: int = TOP
    """Adapters in the uniform mix of the best that adam's and nevergrad's searches score as well; 0: none."""
    device: str = "cpu"
    objective: str = "loss"
    max_new_tokens: int | None = None
    """Of generated answers; None: the longest output of the examples."""
    guard_tolerance: float = 0.0
    """How much the guard set's mean loss may rise, in nats."""
    dtype: str = "float32"
    """Of the base while it is searched; what `auto` stands for is settled before the search is stored."""
    chunk_tokens: int | None = None
    """Tokens per forward; None: the scorer's default."""

    def __post_init__(self) -> None:
        if chooses_method(self.method, self.params):
            raise UsageError(
                "a search has one --method and one value for each --param", remedy="run two searches, and compare them"
            )

    def resolved(self, *, guarded: bool = False) -> SearchOptions:
        """With the defaults that a stored search must keep, whatever they are by the time it is resumed.

        The fit is a model of log-likelihoods; where something else is minimised, nevergrad searches.
        """
        preset = self.preset is not None
        asked = ONE_WORKER if self.workers == 1 else SEVERAL_WORKERS
        own = FIT if self.objective in LIKELIHOODS and not guarded else asked
        return replace(
            self,
            method=self.method or (LORAHUB if preset else DEFAULT_METHOD),
            optimizer=self.optimizer or (None if preset else own),
        )

    def merge_method(self) -> str:
        return self.resolved().method or ""

    def merge_params(self) -> dict[str, Any]:
        """The method's parameters; the lorahub preset brings its own fold."""
        return {"fold": "lorahub-compat", **self.params} if self.preset == LORAHUB else dict(self.params)


def chooses_method(method: object, params: Mapping[str, Any]) -> bool:
    """Whether several methods are named, or an option has a range: as searches of earlier versions could."""
    several = "," in method if isinstance(method, str) else method is not None
    return several or any(isinstance(value, list | tuple) for value in params.values())


@dataclass(frozen=True)
class SearchPlan:
    parts: tuple[PinnedPart, ...]
    examples: Examples
    labels: Mapping[str, str] | None
    into: Address | None
    base: FoundBase
    options: SearchOptions
    notes: tuple[str, ...] = ()
    uuid: str | None = None
    """Set when the search exists already and is resumed."""
    replay: tuple[Trial, ...] = ()
    preselection: Mapping[str, Any] | None = None
    """How the adapters were chosen from many, and why (hub/actions/preselect.py); None: they were named."""
    usage: SearchUsage = field(default_factory=SearchUsage)
    guard: Examples | None = None
    """Rows whose mean loss must not rise above the base's."""
    groups: ModuleGroups | None = None
    """What `options.groups` means for these adapters; None: one weight each."""
    seen: tuple[Seen, ...] = ()
    """Examples that adapters were trained or searched on before."""
    outdated: str = ""
    """What a stored search did that is not done any more, so that it cannot go on; empty: it can."""

    def require_current(self) -> None:
        """`NotReproduced` for a stored search that another version of mixhub could go on with."""
        if self.outdated:
            raise NotReproduced(
                f"the search {(self.uuid or '')[:12]} was made with {self.outdated}, which this version of mixhub does "
                "not have",
                remedy=f"mixhub report {(self.uuid or '')[:12]} shows what it found; start a new search",
            )


def new_plan(
    home: Home,
    addresses: Sequence[Address],
    examples: Path | Examples,
    *,
    labels: Path | Mapping[str, str] | None = None,
    into: Address | None = None,
    base: str = "",
    allow_unbound: bool = False,
    guard: Path | Examples | None = None,
    template: str = "",
    chat_template: str = "",
    limit: int | None = None,
    options: SearchOptions | None = None,
    names: Sequence[str] = (),
    in_actors: bool = False,
) -> SearchPlan:
    """Pin the adapters, read the examples, find the base model, and check that all of it fits together.

    The base is `base`, or the one that the adapters are bound to; `template` and `chat_template` win over the usage
    contracts of the adapters (`hub.search_usage`). `examples` may be a task of lm-evaluation-harness (.yaml), which
    brings its own prompts and, in place of the loss, its metric; `limit` takes the first rows only. `names` says what
    to call the adapters; by default as the addresses are written. `in_actors`: it is scored on Ray, whose nodes and not
    this machine must have the device. Errors say which adapter, line or base is wrong.
    """
    if into is not None:
        check_target(into)
    chosen, guarded = options or SearchOptions(), guard is not None
    listed = names or [str(address) for address in addresses]
    _check_options(chosen.resolved(guarded=guarded), listed, in_actors=in_actors)
    source = read_source(examples, chosen.objective, chosen.max_new_tokens, limit=limit)
    _check_used(replace(chosen, objective=source.objective).resolved(guarded=guarded), guarded=guarded)
    chosen = replace(chosen, objective=source.objective, max_new_tokens=source.max_new_tokens).resolved(guarded=guarded)
    parts = tuple(pin_parts(home, addresses, names=names))
    notes = check_fit(parts, allow_unbound=allow_unbound)
    contracts = [(part.name, part.facts.usage) for part in parts if not source.own_prompts]
    usage, usage_notes = choose_usage(
        contracts, template=template, chat_template=chat_template, outputs=[row.output for row in source.examples]
    )
    seen = seen_examples(home, parts, source.examples)
    found = _base_for(home, parts, base, allow_unbound=allow_unbound)
    groups = groups_for(parts, chosen.groups, found)
    if groups is not None:
        _check_options(chosen, listed, in_actors=in_actors, groups=len(groups))
    return SearchPlan(
        parts=parts,
        examples=source.examples,
        labels=read_labels(labels) if isinstance(labels, Path) else labels,
        into=into,
        base=found,
        options=_settled(chosen, in_actors=in_actors),
        notes=(*notes, *usage_notes, *(one.sentence(len(source.examples)) for one in seen)),
        usage=replace(usage, stop=source.stop or usage.stop),
        guard=read_examples(guard) if isinstance(guard, Path) else guard,
        groups=groups,
        seen=seen,
    )


def _check_options(options: SearchOptions, names: Sequence[str], *, in_actors: bool, groups: int = 1) -> None:
    """Refuse what cannot work before the search is stored. What differs from the default may load torch or nevergrad:
    the search is about to do so anyhow. `groups`: how many the adapters have, 1 while that is not known."""
    if options.groups is not None:
        group_count(options.groups)
    params, method = options.merge_params(), options.merge_method()
    if options.preset in (None, LORAHUB) and (method, options.params) not in (("lorahub", {}), ("exact", {})):
        from compose.methods import find_method

        find_method(method).resolve(params)
    check_settings(
        names, budget=options.budget, seed=options.seed, workers=options.workers, optimizer=options.optimizer,
        preset=options.preset, bounds=options.bounds, simplex=options.simplex,
        scale=options.scale, groups=None if options.groups is None else groups,
        gate=options.gate, top=options.top, method=method, params=params,
    )  # fmt: skip
    if options.objective != "loss":
        from compose.scoring.objectives import check_objective

        check_objective(options.objective)
    if in_actors:
        check_in_actors(options)
    elif options.device != "cpu":
        from compose.device import check_device

        check_device(options.device)
    if options.dtype != "float32":
        from compose.device import TF32, scoring_dtype

        if not (in_actors and options.dtype == TF32):  # the nodes say what they can
            scoring_dtype(options.dtype, "cpu" if in_actors else options.device)
    if options.chunk_tokens is not None and options.chunk_tokens < 1:
        raise SearchError(f"{options.chunk_tokens} tokens per forward", remedy="--chunk-tokens 1024")


def _check_used(options: SearchOptions, *, guarded: bool) -> None:
    """Refuse options that this search would not look at."""
    if options.guard_tolerance and not guarded:
        raise SearchError(
            "--guard-tolerance is for a guard set, and there is none", remedy="--guard FILE, or leave it out"
        )
    if options.max_new_tokens is not None and options.objective in NOTHING_WRITTEN:
        raise SearchError(
            f"--max-new-tokens is for written answers, and the objective {options.objective} writes none",
            remedy="--objective exact_match or another metric of texts, or leave it out",
        )
    if options.workers > 1 and options.optimizer in (FIT, ADAM):
        raise SearchError(
            f"workers are for nevergrad's optimizers, {options.optimizer} decides itself what is scored at once",
            remedy=f"--optimizer {SEVERAL_WORKERS}, or leave workers out",
        )


def _settled(options: SearchOptions, *, in_actors: bool) -> SearchOptions:
    """With the dtype that `auto` means on this machine, so that a resumed search goes on as it began."""
    if options.dtype == "float32":
        return options
    from compose.device import TF32, scoring_dtype

    if in_actors and options.device != "cpu" and options.dtype == TF32:
        return options  # whether their GPUs have it, the actors say
    return replace(options, dtype=scoring_dtype(options.dtype, options.device))


def stored_plan(home: Home, uuid: str) -> SearchPlan:
    """The plan of a search that was stopped or killed, with its trials so far to replay."""
    with home.read() as session:
        row = searches.find(session, uuid)
        trials = searches.trials(session, row)
    config = row.config
    examples = examples_of(config["examples"])
    if examples.digest != row.examples_digest:
        raise NotReproduced(f"the stored examples of search {uuid} do not have their recorded digest")
    options = dict(config["options"])
    for name in ("bounds", "scale"):  # JSON has no tuples; a search of an earlier version had no scale
        options[name] = tuple(options[name]) if options.get(name) else None
    if not options["optimizer"] and not options["preset"]:  # a search from before `fit` was the default
        options["optimizer"] = ONE_WORKER if options["workers"] == 1 else SEVERAL_WORKERS
    options.setdefault("top", 0)  # a search from before it was scored must ask the same trials again
    outdated = _outdated(options)
    addresses = [_pinned_address(adapter) for adapter in row.adapters]
    names = [adapter.full_name for adapter in row.adapters]
    parts = tuple(pin_parts(home, addresses, names=names, pinned_before=True))
    seen = from_data(config["seen_examples"]) if "seen_examples" in config else seen_examples(home, parts, examples)
    return SearchPlan(
        parts=parts,
        examples=examples,
        labels=config["labels"],
        into=parse_address(config["into"]) if config["into"] else None,
        base=_same_base(home, config["base"], config["base_digests"]),
        options=SearchOptions(**options),
        outdated=outdated,
        notes=tuple(config.get("notes", ())),
        uuid=row.uuid,
        preselection=config.get("preselection"),
        usage=stored_usage(config.get("usage", {})),
        guard=examples_of(config["guard"]) if config.get("guard") else None,
        groups=stored_groups(config.get("groups")),
        seen=seen,
        replay=tuple(
            Trial(t.number, t.weights, t.loss, t.objective, cast(Kind, t.kind), t.example_losses) for t in trials
        ),
    )


def _outdated(options: dict[str, Any]) -> str:
    """What of stored options is not searched any more, in words; the options without it."""
    seeds, l1 = options.pop("seeds", 1), options.pop("l1", None)
    if chooses_method(options.get("method"), options.get("params") or {}):
        options.update(method=None, params={})
        return "several methods or a range of an option"
    if seeds > 1:
        return "several seeds"
    if l1 is not None:
        return "a penalty l1 of its own"
    if options.get("groups") and options["optimizer"] not in OWN:
        return f"groups by {options['optimizer']}"
    return ""


def begin(home: Home, plan: SearchPlan) -> searches.Search:
    """Store a new search, or open the one that the plan was read from again."""
    with home.write() as session:
        if plan.uuid is not None:
            return searches.resume(session, searches.find(session, plan.uuid))
        return searches.start(
            session,
            adapters=[
                PinnedAdapter(p.name, p.pinned.repo.uuid, p.pinned.revision.commit_id, p.pinned.folder)
                for p in plan.parts
            ],
            config={
                "options": asdict(plan.options),
                "into": str(plan.into) if plan.into else None,
                "base": plan.base.name,
                "base_digests": _digests(plan.base),
                "examples": [asdict(example) for example in plan.examples.rows],
                "labels": dict(plan.labels) if plan.labels else None,
                "preselection": plan.preselection,
                "usage": plan.usage.as_dict(),
                "notes": list(plan.notes),
                "guard": [asdict(example) for example in plan.guard.rows] if plan.guard else None,
                "groups": plan.groups.as_dict() if plan.groups else None,
                "seen_examples": as_data(plan.seen),
            },
            examples_digest=plan.examples.digest,
        )


def _base_for(home: Home, parts: Sequence[PinnedPart], given: str, *, allow_unbound: bool) -> FoundBase:
    """The base to score on: the given one if it is that of the adapters, else the one that they are bound to."""
    bound = {part.facts.base_identity for part in parts} - {None}
    if given:
        found = require_base(home, given)
        if bound and bound != {found.identity(home)} and not allow_unbound:
            raise UnknownBase(
                f"the adapters are bound to the base {str(next(iter(bound)))[:12]}, {given} is another one",
                remedy="give the base that they were trained on, or --allow-unbound",
            )
        return found
    if not bound:
        raise UnknownBase("the base model of these adapters is not known here", remedy="--base PATH_OR_NAME")
    if len(bound) > 1:
        raise UnknownBase("these adapters are bound to different base models", remedy="say which: --base PATH_OR_NAME")
    return bound_base(home, str(bound.pop()), option="--base FOLDER")


def _same_base(home: Home, name: str, digests: Sequence[str | None]) -> FoundBase:
    """The base of a stored search; `UnknownBase` if another model is found under its name by now."""
    found = require_base(home, name)
    if _digests(found) != list(digests):
        raise UnknownBase(
            f"the base model {name} is not the one that the search began with", remedy="put that model back"
        )
    return found


def _digests(base: FoundBase) -> list[str | None]:
    return [base.facts.digest, base.facts.tensors_digest]


def _pinned_address(adapter: PinnedAdapter) -> Address:
    address = parse_address(adapter.full_name)
    return Address(address.namespace, address.repo, adapter.folder, adapter.commit_id)
