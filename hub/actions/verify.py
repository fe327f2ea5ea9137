"""Verify a mix: remake it from its pinned parts and recipe, score it again, and if asked run its search again.

Only looks: nothing is stored, published or repaired. The search's examples are taken from this home, where the search
was run; they are not published with the mix.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compose.examples import Examples, read_examples
from compose.objective import LORAHUB_OBJECTIVE, mean_over_examples
from compose.recipe import RECIPE_FILE, Recipe, read_recipe
from compose.trials import Progress, Trial
from hub.actions.compose import parent_address, pin_parts
from hub.actions.parts import with_initial
from hub.actions.search import searched
from hub.actions.search_plan import SearchOptions, SearchPlan, new_plan, stored_plan
from hub.actions.search_scorer import scorer_of
from hub.address import Address
from hub.errors import HubError, NotReproduced, UnknownBase, UsageError
from hub.home import Home
from hub.locate import locate_adapter
from hub.read_parts import base_of_parts
from hub.search_usage import stored_usage
from hub.trials_file import TRIALS_FILE, digest, trials_text
from storage import compositions
from storage.errors import StorageError

if TYPE_CHECKING:
    from compose.verify import Verification

LOSS_TOLERANCE = 1e-3
"""Relative: the published tensors are rounded to their dtype, and other batches round otherwise."""


@dataclass(frozen=True)
class Score:
    """The published adapter, scored at weight 1 on the search's examples, against the loss that its recipe tells."""

    recorded: float
    found: float

    @property
    def agrees(self) -> bool:
        return math.isclose(self.recorded, self.found, rel_tol=LOSS_TOLERANCE, abs_tol=1e-6)


@dataclass(frozen=True)
class Replay:
    """The search, run again: how many of its trials came out the same, and the first that did not."""

    trials: int
    same: int
    first_difference: str = ""


@dataclass(frozen=True)
class Verified:
    address: Address
    mix: Verification
    score: Score | None
    replay: Replay | None
    findings: tuple[str, ...]
    """All that is not as recorded, a sentence each; none: reproduced."""
    unchecked: tuple[str, ...]
    """What could not be looked at, and why."""

    @property
    def reproduced(self) -> bool:
        return not self.findings

    def as_dict(self) -> dict[str, object]:
        return {
            "address": str(self.address),
            "reproduced": self.reproduced,
            "identical": self.mix.identical,
            "largest_difference": self.mix.largest,
            "tensors": self.mix.compared,
            "sha256": {
                "recorded": self.mix.recorded_sha256,
                "found": self.mix.found_sha256,
                "remade": self.mix.remade_sha256,
            },
            "differences": [asdict(one) for one in self.mix.tensors],
            "score": {**asdict(self.score), "agrees": self.score.agrees} if self.score else None,
            "replay": asdict(self.replay) if self.replay else None,
            "findings": list(self.findings),
            "unchecked": list(self.unchecked),
            "notes": list(self.mix.notes),
        }


def verify(
    home: Home,
    address: Address,
    *,
    base: str = "",
    examples: Path | Examples | None = None,
    replay: bool = False,
    tolerance: float = 0.0,
    initial: Mapping[str, Path] | None = None,
) -> Verified:
    """Look whether the mix at `address` is what its recipe says.

    `initial` names the folders of PiSSA or OLoRA parts before training, by address, where the recipe used them.
    `examples` are needed only where the search that found it was run in another home; `replay` runs the whole search
    again. Errors: the address is no mix; a parent is not in this home; a base that is needed is not on this machine.
    """
    if not 0 <= tolerance < math.inf:
        raise UsageError(f"the tolerance is {tolerance}, it must be 0 or a positive number")
    with home.read() as session:
        pinned = locate_adapter(session, address)
        recorded = compositions.composition_of(session, pinned.revision.id, pinned.folder)
    exact = address.at(pinned.revision.commit_id)
    folder = pinned.directory(home)
    if not (folder / RECIPE_FILE).is_file():
        raise NotReproduced(f"{address} has no {RECIPE_FILE}, so it was not mixed", remedy=f"mixhub show {address}")
    recipe = read_recipe(folder / RECIPE_FILE)
    mix = _remade(home, recipe, folder, base=base, initial=initial or {}, tolerance=tolerance)
    findings = [*_recipe_differences(folder, recorded.recipe if recorded else None), *mix.findings]
    unchecked: list[str] = []
    score = again = None
    if recipe.search is not None:
        findings += _trials_differences(folder, recipe.search)
        try:
            score = _score(home, exact, recipe.search, examples, base=base)
        except _Unavailable as why:
            unchecked.append(f"the loss of the mix was not scored again: {why}")
        if score and not score.agrees:
            findings.append(f"on the examples its loss is {score.found:.6g}, the recipe says {score.recorded:.6g}")
    if replay:
        again = _replay(home, recipe)
        if again.first_difference:
            how = "came out otherwise, as it may with another version of mixhub"
            findings.append(f"the search {how}: {again.first_difference}")
    return Verified(exact, mix, score, again, tuple(findings), tuple(unchecked))


def _remade(
    home: Home, recipe: Recipe, folder: Path, *, base: str, initial: Mapping[str, Path], tolerance: float
) -> Verification:
    from compose.verify import verify as verify_files

    addresses = [parent_address(p.address, p.commit, p.folder) for p in recipe.parents]
    parents = with_initial(pin_parts(home, addresses, pinned_before=True), initial)
    tensors = base_of_parts(home, parents, base) if recipe.base else None
    return verify_files(
        recipe,
        [part.directory for part in parents],
        folder,
        base=tensors,
        tolerance=tolerance,
        initial=[part.initial for part in parents],
    )


def _recipe_differences(folder: Path, recorded: Mapping[str, Any] | None) -> Iterator[str]:
    """The recipe beside the files against the one that the registry wrote down when it made the mix."""
    if recorded is None:
        return
    beside = json.loads((folder / RECIPE_FILE).read_bytes())
    for key in sorted(beside.keys() | recorded.keys()):
        if beside.get(key) != recorded.get(key):
            yield f"{RECIPE_FILE}: {key} is not what the registry recorded"


def _trials_differences(folder: Path, search: Mapping[str, Any]) -> Iterator[str]:
    expected = search.get("trials_sha256")
    path = folder / TRIALS_FILE
    if expected is None or not path.is_file():
        return
    found = digest(path.read_text(encoding="utf-8"))
    if found != expected:
        yield f"{TRIALS_FILE} is not the recorded one: sha256 {found}, the recipe says {expected}"


class _Unavailable(Exception):
    """What a check needs is not in this home."""


def _score(home: Home, exact: Address, search: Mapping[str, Any], given: Path | Examples | None, *, base: str) -> Score:
    if not isinstance(search.get("loss"), int | float):
        raise _Unavailable("the recipe tells none")
    plan = _plan_of_mix(home, exact, search, given, base=base)
    scorer = scorer_of(plan)
    reduce = LORAHUB_OBJECTIVE.reduce if search.get("preset") else mean_over_examples
    losses = scorer.example_losses(np.ones((1, 1)))
    return Score(float(search["loss"]), float(reduce(losses, scorer.token_counts)[0]))


def _plan_of_mix(
    home: Home, exact: Address, search: Mapping[str, Any], given: Path | Examples | None, *, base: str
) -> SearchPlan:
    """A plan that scores the published adapter alone, on what the search scored on."""
    alone = SearchOptions(
        budget=3, objective=str(search.get("objective_name") or "loss"), dtype=str(search.get("loss_dtype", "float32"))
    )
    if given is not None:
        if search.get("guard_sha256"):
            raise _Unavailable("its loss took rows into account that must not get worse, which only its own home has")
        rows = read_examples(given) if isinstance(given, Path) else given
        if rows.digest != search.get("examples_sha256"):
            raise UsageError(
                f"these are not the examples of the search: their digest is {rows.digest[:12]}, the recipe says "
                f"{str(search.get('examples_sha256'))[:12]}",
                remedy="give the file that was searched on",
            )
        plan = new_plan(home, [exact], rows, base=base, allow_unbound=True, options=alone)
        return replace(plan, usage=stored_usage(search.get("usage") or {}))
    plan = _search_of(home, search)
    options = replace(
        plan.options, method=alone.method, params=alone.params, preset=None, groups=None, dtype=alone.dtype
    )
    return replace(plan, parts=tuple(pin_parts(home, [exact])), options=options, groups=None)


def _search_of(home: Home, search: Mapping[str, Any]) -> SearchPlan:
    if not search.get("id"):
        raise _Unavailable("the recipe does not name its search; give --examples")
    try:
        plan = stored_plan(home, str(search["id"]))
    except (StorageError, UnknownBase) as error:
        raise _Unavailable(f"{error.message} (give --examples and --base)") from error
    if plan.base.directory is None:
        raise _Unavailable(f"the base model {plan.base.name} is not on this machine")
    return plan


def _replay(home: Home, recipe: Recipe) -> Replay:
    """Every stored trial is scored again and compared. A search that was finished early is followed no further than
    that."""
    if recipe.search is None:
        raise UsageError("its weights were given by hand, there is no search to replay", remedy="leave --replay out")
    try:
        plan = _search_of(home, recipe.search)
    except _Unavailable as error:
        raise HubError(f"the search cannot be replayed: {error}", remedy="verify where the search was run") from error
    plan.require_current()
    if (expected := recipe.search.get("trials_sha256")) and digest(trials_text(plan.replay)) != expected:
        return Replay(len(plan.replay), 0, "the stored trials are not those that the recipe has the digest of")

    def stop_at_the_last(progress: Progress) -> None:
        if progress.evaluations >= len(plan.replay):
            raise KeyboardInterrupt  # how a search is told to stop

    found = searched(plan, scorer_of(plan), on_batch=stop_at_the_last).trials
    for number, (before, now) in enumerate(zip(plan.replay, found, strict=False)):
        if difference := _difference(before, now):
            return Replay(len(plan.replay), number, difference)
    if len(found) < len(plan.replay):
        return Replay(len(plan.replay), len(found), f"it has {len(found)} trials now")
    return Replay(len(plan.replay), len(plan.replay))


def _difference(before: Trial, now: Trial) -> str:
    """A later version may choose other points; the same points on another machine round a little otherwise."""
    if (before.kind, before.weights) != (now.kind, now.weights):
        return f"trial {before.number} had the weights {list(before.weights)}, now {list(now.weights)}"
    if before.loss != now.loss and not math.isclose(before.loss, now.loss, rel_tol=LOSS_TOLERANCE):
        return f"trial {before.number} had the loss {before.loss:.6g}, now {now.loss:.6g}"
    return ""
