"""Base models: make one known, give it more names, list them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from hub.base_lookup import require_base
from hub.home import Home
from storage import bases
from storage.adapter_search import find_adapters
from storage.bases import Base


@dataclass(frozen=True)
class KnownBase:
    identity: str
    digest: str
    """Over architecture and shapes only."""
    model_type: str
    parameter_count: int
    names: tuple[str, ...]
    adapters: int
    """How many adapters at the head of main are bound to it."""
    tensors_digest: str | None

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def add(home: Home, base: str, *, known_as: Sequence[str] = ()) -> KnownBase:
    """Record the base that `base` means here, and let every name of `known_as` mean it too.

    Names that adapters were trained under (`unsloth/x-bnb-4bit`, a path on another machine) bind those adapters when
    they are published. `Conflict` when a name means another base already.
    """
    found = require_base(home, base)
    with home.write() as session:
        row = found.record(session)
        for name in known_as:
            quantised = any(mark in name.lower() for mark in ("4bit", "8bit", "-bnb", "gptq", "awq"))
            row = bases.add_name(session, row, name, kind="quantised" if quantised else "hub")
        return _known(row, 0)


def list_all(home: Home) -> list[KnownBase]:
    """All bases of this home, oldest first."""
    with home.read() as session:
        bound = Counter(found.facts.base_identity for found in find_adapters(session))
        return [_known(row, bound[row.identity]) for row in bases.every(session)]


def _known(row: Base, adapters: int) -> KnownBase:
    return KnownBase(
        identity=row.identity,
        digest=row.facts.digest,
        model_type=str(row.facts.architecture.get("model_type", "")),
        parameter_count=row.facts.parameter_count,
        names=tuple(name.name for name in row.names),
        adapters=adapters,
        tensors_digest=row.facts.tensors_digest,
    )
