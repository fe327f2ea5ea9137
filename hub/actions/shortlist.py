"""From thousands of adapters to those whose descriptions are like the examples, by a sentence encoder on this machine:
scoring them all alone costs an evaluation each, a description next to nothing. Only done when an encoder is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compose.examples import Examples
from hub.address import Address

if TYPE_CHECKING:
    from compose.preselect import Considered
    from storage.adapters import AdapterFacts

TIMES = 5
"""So many times the adapters to select are left for scoring: a description is a weaker witness than the loss."""
LONGEST_CARD = 2000
_FRONT_MATTER = re.compile(r"\A\ufeff?---\n.*?\n---\n", re.DOTALL)


def shortlist(
    candidates: Mapping[Address, AdapterFacts | None],
    folder_of: Callable[[Address], Path],
    examples: Examples,
    encoder: Path,
    *,
    count: int,
    device: str = "cpu",
) -> tuple[list[Address], list[Considered]]:
    """Those of `candidates` whose description is most like the examples, TIMES `count` of them, and the others with
    their reason. `folder_of` gives an adapter's files, `encoder` is the folder of a sentence encoder."""
    from compose.embedding import embed
    from compose.preselect import Considered

    most = TIMES * count
    if len(candidates) <= most:
        return list(candidates), []
    addresses = list(candidates)
    texts = [description(address, candidates[address], folder_of(address)) for address in addresses]
    rows = [f"{row.input} {row.output}" for row in examples]
    points = embed([*texts, *rows], encoder, device=device)
    likeness = points[: len(texts)] @ points[len(texts) :].mean(axis=0)
    order = sorted(range(len(addresses)), key=lambda i: (-likeness[i], str(addresses[i])))
    kept = {addresses[i] for i in order[:most]}
    dropped = [
        Considered(
            str(addresses[i]), False, None,
            f"description is number {place} of {len(addresses)} in likeness to the examples ({likeness[i]:.2f}); the "
            f"first {most} were scored",
        )
        for place, i in enumerate(order[most:], most + 1)
    ]  # fmt: skip
    return [address for address in addresses if address in kept], dropped


def description(address: Address, facts: AdapterFacts | None, folder: Path) -> str:
    """What is said of an adapter in words: its name, tags, label texts, and the start of its card."""
    words: list[str] = [re.sub(r"[/_.-]+", " ", address.adapter_id)]
    if facts is not None:
        words += [tag.name for tag in facts.tags if tag.kind in ("task", "dataset", "tag")]
        words += (facts.usage.label_texts or {}).values()
    card = folder / "README.md"
    if card.is_file():
        words.append(_FRONT_MATTER.sub("", card.read_text(encoding="utf-8", errors="replace"))[:LONGEST_CARD])
    return " ".join(_unique(words))


def _unique(words: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(" ".join(word.split()) for word in words))
