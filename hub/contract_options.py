"""The usage contract as given by options of `publish`; what is not given is left to the card."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from hub.card_facts import UsageContract
from hub.errors import UsageError


def read_contract(
    *,
    prompt_template: str = "",
    labels: Path | None = None,
    stop: Sequence[str] | None = None,
    suggested_weight: float | None = None,
) -> UsageContract:
    """A contract from options. `UsageError` for a template without `{input}`, a bad label file or a bad weight."""
    if prompt_template and "{input}" not in prompt_template:
        raise UsageError("--prompt-template does not contain {input}", remedy='for example: "Question: {input}"')
    if suggested_weight is not None and not math.isfinite(suggested_weight):
        raise UsageError(f"--suggested-weight is {suggested_weight}, expected a finite number")
    return UsageContract(
        prompt_template=prompt_template or None,
        label_texts=_label_texts(labels) if labels else None,
        stop_strings=tuple(stop) if stop else None,
        suggested_weight=suggested_weight,
    )


def _label_texts(path: Path) -> dict[str, str]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--labels {path}: {error}", remedy='expected JSON such as {"pos": "a good review"}'
        ) from error
    if not isinstance(data, dict) or not data or not all(isinstance(v, str) for v in data.values()):
        raise UsageError(f"--labels {path}: expected a JSON object, label to text")
    return data
