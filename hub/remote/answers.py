"""What a server's answers are as the data that the same action gives without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from hub.actions.aliases import Move
from hub.actions.compose import Composed, Part
from hub.actions.find import Listed
from hub.actions.publish import Published
from hub.actions.show import Shown
from hub.address import parse_address


def listed(data: Any) -> list[Listed]:
    return TypeAdapter(list[Listed]).validate_python(data)


def shown(data: Any) -> Shown:
    found = TypeAdapter(Shown).validate_python(data)
    return replace(found, facts={**found.facts, "created": datetime.fromisoformat(str(found.facts["created"]))})


def move(data: Mapping[str, Any]) -> Move:
    return Move(
        data["alias"], data["seq"], data["action"], data["label"], data["commit"], data["actor"],
        datetime.fromisoformat(data["at"]),
    )  # fmt: skip


def published(data: Mapping[str, Any]) -> Published:
    return Published(
        parse_address(data["address"]), data["commit"], data["version"], data["created"], data["versioned"],
        tuple(data["adapters"]), tuple(data["notes"]),
    )  # fmt: skip


def composed(data: Mapping[str, Any]) -> Composed:
    parts = tuple(Part(parse_address(part["address"]), part["weight"]) for part in data["parts"])
    return Composed(
        published(data),
        parts,
        data["method"],
        data["retained_energy"],
        tuple(data["notes"]),
        data["gauge_affinity"],
        licences=data["licences"],
    )
