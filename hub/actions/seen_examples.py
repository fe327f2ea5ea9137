"""Which few-shot examples an adapter has seen before the search: it was trained on them or, as a mix, searched on them,
itself or through what it was mixed from. Known as far as publishers recorded their training rows
(compose/training_rows.py) and recipes name the examples of their searches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from compose.errors import BadRecipe
from compose.examples import Examples, examples_of
from compose.recipe import RECIPE_FILE, Recipe, read_recipe
from compose.training_rows import overlap, read_training_rows, row_digest
from hub.actions.compose import parent_address
from hub.actions.parts import PinnedPart
from hub.errors import HubError
from hub.home import Home
from hub.locate import locate_pinned
from storage import searches
from storage.errors import StorageError

How = Literal["trained", "searched"]


@dataclass(frozen=True)
class Seen:
    """The examples `numbers` (from 1) that `adapter` has seen, by way of `through`: itself, or one of its ancestors."""

    adapter: str
    through: str
    how: How
    numbers: tuple[int, ...]

    def sentence(self, count: int) -> str:
        """For the person who searches on `count` examples."""
        examples = f"{len(self.numbers)} of {count} examples"
        own = self.through == self.adapter
        if self.how == "searched":
            which = "" if len(self.numbers) == count else f" (examples {_listed(self.numbers)})"
            whose = self.adapter if own else f"{self.through}, which {self.adapter} was mixed from,"
            return (
                f"{whose} was searched on {examples}{which}; losses of {self.adapter} on "
                "them, those on held-out examples as well, say little"
            )
        whose = self.adapter if own else f"{self.through}, which {self.adapter} was mixed from"
        return (
            f"{examples} are in the recorded training data of {whose} (examples {_listed(self.numbers)}); how well it "
            "does on them says little"
        )


def seen_examples(home: Home, parts: Sequence[PinnedPart], examples: Examples) -> tuple[Seen, ...]:
    """What is known of all `parts`, under the names that the search has for them."""
    return tuple(one for part in parts for one in seen_by(home, part.name, part.directory, examples))


def seen_by(home: Home, adapter: str, folder: Path, examples: Examples) -> Iterator[Seen]:
    """What is known of the adapter in `folder` and of all its ancestors that are in this home."""
    for through, place, recipe in _lineage(home, adapter, folder):
        if rows := read_training_rows(place, owner=through):
            yield from _seen(adapter, through, "trained", overlap(examples, rows))
        if recipe is not None and recipe.search is not None:
            yield from _seen(adapter, through, "searched", _searched_on(home, recipe.search, examples))


def by_adapter(seen: Sequence[Seen], how: How) -> dict[str, list[int]]:
    """Adapter -> numbers of the examples; only adapters that have any."""
    found: dict[str, set[int]] = {}
    for one in seen:
        if one.how == how:
            found.setdefault(one.adapter, set()).update(one.numbers)
    return {name: sorted(numbers) for name, numbers in found.items()}


def as_data(seen: Sequence[Seen]) -> list[dict[str, Any]]:
    return [{**asdict(one), "numbers": list(one.numbers)} for one in seen]


def from_data(data: Sequence[Mapping[str, Any]]) -> tuple[Seen, ...]:
    """The inverse of `as_data`."""
    return tuple(Seen(one["adapter"], one["through"], one["how"], tuple(one["numbers"])) for one in data)


def _seen(adapter: str, through: str, how: How, numbers: Sequence[int]) -> Iterator[Seen]:
    if numbers:
        yield Seen(adapter, through, how, tuple(numbers))


def _lineage(home: Home, adapter: str, folder: Path) -> Iterator[tuple[str, Path, Recipe | None]]:
    """Name, files and recipe of the adapter and of its ancestors, each once. The recipes beside the files are followed,
    not the registry's records: a mix may come from another hub."""
    waiting, met = [(adapter, folder)], {folder}
    while waiting:
        name, place = waiting.pop(0)
        recipe = _recipe(place)
        yield name, place, recipe
        for parent in recipe.parents if recipe else ():
            try:
                address = parent_address(parent.address, parent.commit, parent.folder)
                with home.read() as session:
                    found = locate_pinned(session, address)
                above = found.directory(home)
            except (HubError, StorageError):
                continue  # not in this home, so that nothing is known of it
            if above not in met:
                met.add(above)
                waiting.append((address.adapter_id, above))


def _recipe(folder: Path) -> Recipe | None:
    """None also for a stranger's that cannot be read: `mixhub verify` is what says so."""
    try:
        return read_recipe(folder / RECIPE_FILE) if (folder / RECIPE_FILE).is_file() else None
    except BadRecipe:
        return None


def _searched_on(home: Home, search: Mapping[str, Any], examples: Examples) -> list[int]:
    """By the digest of all examples, and row by row where the search was run in this home."""
    if search.get("examples_sha256") == examples.digest:
        return list(range(1, len(examples) + 1))
    try:
        with home.read() as session:
            row = searches.find(session, str(search.get("id")))
    except StorageError:
        return []
    if row.examples_digest != search.get("examples_sha256"):
        return []
    return overlap(examples, frozenset(map(row_digest, examples_of(row.config["examples"]))))


def _listed(numbers: Sequence[int], most: int = 10) -> str:
    return ", ".join(map(str, numbers[:most])) + (" ..." if len(numbers) > most else "")
