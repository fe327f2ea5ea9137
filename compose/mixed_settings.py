"""What a search over methods needs, and what it cannot have: checked before anything is loaded, so without torch."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import SearchError

ONE_AT_A_TIME, SEVERAL = "Cobyla", "DiscreteOnePlusOne"
"""What searches over methods, where nobody says otherwise, with one worker and with several (`mixed_run.py`)."""


def mixed_optimizer(optimizer: str | None, methods: object, *, workers: int) -> str | None:
    """The optimizer, with the default of a search over methods; `methods` is None where there is only one."""
    if methods is None or optimizer is not None:
        return optimizer
    return ONE_AT_A_TIME if workers == 1 else SEVERAL


def check_methods(methods: Sequence[str], *, weights_only: bool, preset: str | None, grouped: bool) -> None:
    """`SearchError` for a preset, groups, or an optimizer that only searches weights."""
    one = "or name one --method without ranges"
    if preset is not None:
        raise SearchError(f"the preset {preset} has one method", remedy=f"leave --preset out, {one}")
    if grouped:
        raise SearchError(
            f"groups of modules are searched by one method, not by several or within a range ({', '.join(methods)})",
            remedy=f"leave --groups out, {one}",
        )
    if weights_only:
        raise SearchError(
            f"fit and adam search weights, not the method ({', '.join(methods)}) or an option within a range",
            remedy=f"--optimizer {ONE_AT_A_TIME}, {one}",
        )


def check_scorable(methods: Sequence[str], adapters: int, bounds: tuple[float, float]) -> None:
    """`SearchError` for a method that cannot mix so many adapters, or cannot have all of the weights."""
    if "slerp" not in methods:
        return
    if adapters > 2:
        raise SearchError(f"slerp goes between two adapters, not {adapters}", remedy="name two, or leave slerp out")
    if bounds[0] < 0:
        raise SearchError(f"slerp takes weights from 0, the search has {bounds[0]:g} too", remedy="use --non-negative")
