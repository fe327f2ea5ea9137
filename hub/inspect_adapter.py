"""Looks at one adapter folder before it is published: its facts, whether it fits its base, whether it changes anything.

The commonest silent failure in the field is an adapter that loads and changes nothing; it is looked for here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from compose.base_model import fit
from compose.description import AdapterDescription, describe
from compose.errors import IncompatibleAdapters
from hub.base_lookup import FoundBase
from hub.card_facts import CardFacts, UsageContract, read_card
from storage.adapters import AdapterFacts, Module, Tag, Usage

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Inspected:
    facts: AdapterFacts
    """Without the base's identity, which is settled when the base is recorded."""
    base: FoundBase | None
    notes: tuple[str, ...]
    """What the publisher should know: unbound, zero effect, missing modules, cannot be mixed."""


def inspect_adapter(
    directory: Path, *, folder: str, name: str, base: FoundBase | None, given: UsageContract
) -> Inspected:
    """Facts of the adapter in `directory`, to be stored under the repo folder `folder`; messages call it `name`.

    Errors: malformed files; no module of the adapter exists in `base` with a fitting shape.
    """
    shapes = {tensor: tuple(sizes) for tensor, sizes in base.facts.shapes.items()} if base else None
    description = describe(directory, name=name, base_shapes=shapes)
    card = read_card(directory)
    notes = []
    zero: bool | None = None
    if description.supported:
        from compose.peft_files import effect  # loads torch, which only adapters of this family need

        found = effect(directory, name=name)
        zero = found.zero_delta if found else None
        if description.needs_base:
            notes.append(f"{name} needs its base model at hand to be mixed: {description.needs_base}")
        for kind in sorted({extra.kind for extra in description.extras}):
            notes.append(
                f"{name} replaces tensors ({kind}); mixes need a policy where adapters differ: --policy {kind}=..."
            )
        if zero:
            notes.append(f"{name} changes nothing: every B (or A) is zero")
    elif description.refusal is not None:
        notes.append(f"{name} is stored but cannot be mixed: {description.refusal.message}")
    matched, missing = _fit(description, base, name, notes)
    facts = AdapterFacts(
        folder=folder,
        usable=description.supported,
        refusal=description.refusal.message if description.refusal else None,
        base_model_name=description.base_model or card.base_model,
        base_model_revision=description.base_revision,
        peft_type=description.peft_type,
        task_type=description.task_type,
        alpha=description.alpha,
        scaling_kind=description.scaling_kind,
        target_modules=description.target_modules,
        modules=tuple(Module(m.path, m.rank, m.in_features, m.out_features, m.dtype) for m in description.modules),
        parameter_count=description.parameter_count,
        dtype=", ".join(description.dtypes) or None,
        modules_matched=matched,
        missing_modules=missing,
        zero_delta=zero,
        weights_sha256=_sha256(directory / WEIGHTS),
        config_sha256=_sha256(directory / CONFIG),
        licence=card.licence,
        usage=_usage(card, given),
        tags=tuple(Tag(kind, tag, value or None) for kind, tag, value in card.tags),
    )
    return Inspected(facts, base, tuple(notes))


def _fit(
    description: AdapterDescription, base: FoundBase | None, name: str, notes: list[str]
) -> tuple[int | None, tuple[str, ...]]:
    """How many modules the base has with fitting shapes, and which it has not; (None, ()) when unknown."""
    if base is None:
        said = description.base_model or "names none"
        notes.append(f"{name} is unbound: its base model ({said}) is not known here; see --base")
        return None, ()
    if not description.modules:
        return None, ()
    found = fit(description, {name: tuple(sizes) for name, sizes in base.facts.shapes.items()})
    lacking: tuple[str, ...] = tuple(sorted({*found.missing, *(misfit.path for misfit in found.misfit)}))
    if not found.matched:
        raise IncompatibleAdapters(
            f"{name}: none of its {len(description.modules)} modules exists in the base model {base.name} with a "
            f"fitting shape (the first is {lacking[0]}), so it would change nothing",
            remedy="give the base model that it was trained on: --base PATH_OR_NAME",
        )
    if lacking:
        total = len(description.modules)
        notes.append(
            f"{name}: {len(lacking)} of {total} modules do not exist in {base.name}: {', '.join(lacking[:3])} ..."
        )
    return len(found.matched), lacking


def _usage(card: CardFacts, given: UsageContract) -> Usage:
    contract = given.or_else(card.contract)
    return Usage(
        prompt_template=contract.prompt_template,
        chat_template=contract.chat_template,
        label_texts=contract.label_texts,
        stop_strings=contract.stop_strings or (),
        suggested_weight=contract.suggested_weight,
    )


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
