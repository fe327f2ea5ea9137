"""Licences of the parts of a mix that cannot all hold for it, as far as their names on model cards tell.

A mix is a changed version of every part. Words for people to check, and no legal advice: only what the licences say
plainly about themselves is here (the identifiers are those of https://huggingface.co/docs/hub/repositories-licenses).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

PASSED_ON = frozenset({
    "gpl", "gpl-2.0", "gpl-3.0", "agpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "osl-3.0", "eupl-1.1", "eupl-1.2",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "odbl",
})  # fmt: skip
"""Changed versions come under the same licence, without further terms."""
JOINED = frozenset({
    ("gpl-3.0", "agpl-3.0"), ("lgpl-3.0", "gpl-3.0"), ("lgpl-3.0", "agpl-3.0"), ("lgpl-2.1", "gpl-2.0"),
    ("lgpl-2.1", "gpl-3.0"), ("lgpl-2.1", "lgpl-3.0"), ("cc-by-sa-4.0", "gpl-3.0"), ("cc-by-sa-3.0", "cc-by-sa-4.0"),
    ("cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
})  # fmt: skip
"""What is under the first may be passed on under the second: the licences themselves, or their makers, say so."""
WITH_TERMS = (
    "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigscience-bloom-rail-1.0", "bigcode-openrail-m",
    "llama2", "llama3", "gemma",
)  # fmt: skip
"""Their rules of use are passed on too; later versions begin with the same words."""


def conflicts(licences: Mapping[str, str | None]) -> tuple[str, ...]:
    """One sentence for everything that stands against a mix of these parts (name -> licence, None: unknown)."""
    held: dict[str, list[str]] = {}
    for part, licence in licences.items():
        if licence:
            held.setdefault(licence.strip().lower(), []).append(part)
    return tuple(_found({licence: ", ".join(parts) for licence, parts in sorted(held.items())}))


def _found(held: Mapping[str, str]) -> Iterator[str]:
    for licence, parts in held.items():
        if "nd" in licence.split("-"):
            yield f"licence conflict: {licence} ({parts}) allows no changed version, and a mix is one"
    for a, b in combinations(held, 2):
        both = f"{a} ({held[a]}) and {b} ({held[b]})"
        if a in PASSED_ON and b in PASSED_ON:
            if (a, b) not in JOINED and (b, a) not in JOINED:
                yield f"licence conflict: {both} each want the mix under themselves alone"
        elif {a, b} == {"apache-2.0", "gpl-2.0"}:
            yield f"licence conflict: {both} cannot be combined; version 3 of the GPL could"
        elif any(one in PASSED_ON and _terms(other) - _terms(one) for one, other in ((a, b), (b, a))):
            yield f"licence conflict: of {both} one has terms that the other does not allow to be added"


def _terms(licence: str) -> set[str]:
    """What it forbids to those who only use it."""
    forbidden = {"commerce": "nc" in licence.split("-"), "some uses": licence.startswith(WITH_TERMS)}
    return {what for what, whether in forbidden.items() if whether}
