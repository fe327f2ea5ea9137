"""The parts of a mix: pinned to revisions, their files on this machine, and checked to belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from compose.compatibility import compare
from compose.description import describe
from compose.refusals import PROMPT_MEAN, PROMPTS
from hub.address import Address
from hub.errors import UsageError
from hub.home import Home
from hub.licences import conflicts
from hub.locate import Pinned, locate_adapter, locate_pinned
from storage import adapters as adapter_rows
from storage.adapters import AdapterFacts


@dataclass(frozen=True)
class PinnedPart:
    """A part with its revision fixed, its facts, and its files on this machine."""

    name: str
    """How messages and searches call it: its address as it was written; unique among the parts of one mix."""
    pinned: Pinned
    facts: AdapterFacts
    directory: Path
    initial: Path | None = None
    """Where PiSSA's or OLoRA's factors lie as they were before training, if they are to be used."""

    @property
    def address(self) -> Address:
        return self.pinned.address


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


def with_initial(parts: Sequence[PinnedPart], folders: Mapping[str, Path]) -> list[PinnedPart]:
    """The parts with their initial factors; `folders` goes by address, with or without the revision."""
    known = {name for part in parts for name in (part.name, part.address.adapter_id)}
    for name, folder in folders.items():
        if name not in known:
            raise UsageError(f"--initial: {name} is not in this mix", remedy=f"use one of: {', '.join(sorted(known))}")
        if not (folder / "adapter_model.safetensors").is_file():
            raise UsageError(f"--initial: {folder} holds no adapter", remedy="give the folder saved before training")
    return [
        replace(part, initial=folders.get(part.name, folders.get(part.address.adapter_id, part.initial)))
        for part in parts
    ]


def check_fit(parts: Sequence[PinnedPart], *, allow_unbound: bool, method: str = "") -> tuple[str, ...]:
    """Raise one error that lists every reason why `method` cannot mix the parts; give the remaining notes."""
    descriptions = [describe(part.directory, name=part.name) for part in parts]
    if method == PROMPT_MEAN:
        descriptions = [replace(d, refusal=None) if d.peft_type in PROMPTS else d for d in descriptions]
    digests = {part.name: part.facts.base_identity for part in parts}
    report = compare(descriptions, base_digests=digests, allow_unbound=allow_unbound)
    report.raise_for_errors()
    return tuple(note.message for note in report.notes)


def licence_notes(parts: Sequence[PinnedPart]) -> tuple[str, ...]:
    """What to check where the parts come under different licences, some under none that is known, or under licences
    that cannot all hold for a mix."""
    held: dict[str, list[str]] = {}
    for part in parts:
        held.setdefault(part.facts.licence or "no licence known", []).append(part.name)
    against = conflicts({part.name: part.facts.licence for part in parts})
    if len(held) < 2:
        return against
    listed = "; ".join(f"{licence}: {', '.join(names)}" for licence, names in sorted(held.items()))
    return (f"the parts have different licences ({listed}); the mix's card names none", *against)
