"""The two kinds of mixes: of changes to weights, and of prompts. Nothing is written or published here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compose.base_model import fingerprint
from compose.card import CardFacts
from compose.layer_weights import Weight
from compose.recipe import Recipe
from hub.actions.parts import PinnedPart
from hub.errors import UsageError
from hub.home import Home
from hub.read_parts import base_of_parts, read_parts

if TYPE_CHECKING:
    from hub.actions.compose import MixOptions


@dataclass(frozen=True)
class Mixed:
    """What came out, before it is published: `save` writes it with a recipe into a folder."""

    save: Callable[[Path, Recipe], object]
    params: Mapping[str, Any]
    base: str | None = None
    """Fingerprint of the base model, where its tensors were used."""
    retained_energy: float | None = None
    notes: tuple[str, ...] = ()
    gauge_affinity: float | None = None


def mix_factors(
    home: Home, parts: Sequence[PinnedPart], weights: Sequence[Weight], options: MixOptions, facts: CardFacts
) -> Mixed:
    """Changes of weights, by a method of compose.methods."""
    from compose.export import save_adapter
    from compose.gauge import gauge_affinity
    from compose.merge import merge
    from compose.methods import find_method

    base = base_of_parts(home, parts, options.base)
    adapters = read_parts(parts, base)
    merged = merge(
        adapters, list(weights), method=options.method, name=facts.title, max_rank=options.max_rank,
        policies=options.policies, base=base, **options.params,
    )  # fmt: skip
    by_factor = find_method(options.method).level == "factor" and len(adapters) > 1
    return Mixed(
        lambda folder, recipe: save_adapter(
            merged.adapter, folder, dtype=options.dtype or None, recipe=recipe, facts=facts
        ),
        merged.report.params,
        fingerprint(base.directory).digest if base else None,
        merged.report.retained_energy,
        merged.report.notes,
        gauge_affinity([adapter.modules for adapter in adapters]) if by_factor else None,
    )


def mix_prompts(
    home: Home, parts: Sequence[PinnedPart], weights: Sequence[Weight], options: MixOptions, facts: CardFacts
) -> Mixed:
    """Prompts, by their weighted mean."""
    from compose import prompt_mean

    del home
    if options.max_rank or options.policies:
        raise UsageError("--max-rank and --policy are for changes of weights", remedy="leave them out for prompts")
    mean = prompt_mean.mix_prompts(
        [part.directory for part in parts], weights, names=[part.name for part in parts], into=facts.title,
        params=options.params,
    )  # fmt: skip
    return Mixed(
        lambda folder, recipe: prompt_mean.save_prompt(
            mean, folder, dtype=options.dtype or None, recipe=recipe, facts=facts
        ),
        {},
    )
