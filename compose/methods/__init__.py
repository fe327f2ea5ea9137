"""The merge methods: one pure function on one module each, and the literal table of them.

Every function takes `factors` (one per adapter; `None` where an adapter lacks the module, which is a zero delta) and as
many `weights`, and gives factors with scaling 1 in the dtype of the inputs (float32 as read). To add a method:
write a file with its formula and reference on top, and a row below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..adapter import Factors
from ..errors import BadMethod
from .exact import exact
from .lorahub import BALANCED, COMPAT, lorahub
from .peft_linear import peft_linear
from .svd import svd


@dataclass(frozen=True)
class Param:
    """One option of a method: `kind` "choice" (one of `choices`) or "rank" (a whole number from 1, or None)."""

    name: str
    kind: str
    default: str | int | None
    summary: str
    choices: tuple[str, ...] = ()

    def check(self, method: str, value: object) -> str | int | None:
        """`value` if this option can take it, else `BadMethod`."""
        if self.kind == "choice" and isinstance(value, str) and value in self.choices:
            return value
        if self.kind == "rank":
            if value is None:
                return None
            if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
                return value
        expected = f"one of {', '.join(self.choices)}" if self.kind == "choice" else "a whole number from 1"
        raise BadMethod(f"method {method!r}: {self.name} is {value!r}, expected {expected}")


@dataclass(frozen=True)
class MergeMethod:
    """One row: `level` is "factor" (element-wise, quadratic in w) or "delta" (linear in w)."""

    name: str
    function: Callable[..., Factors]
    level: str
    summary: str
    reference: str
    params: tuple[Param, ...] = ()
    truncates: bool = False
    """The result may keep less than the whole delta; merge() then reports the retained energy."""

    def resolve(self, given: Mapping[str, object]) -> dict[str, str | int | None]:
        """All options with their values; an unknown option or a bad value is `BadMethod`."""
        known = {param.name: param for param in self.params}
        for name in given:
            if name not in known:
                raise BadMethod(
                    f"method {self.name!r} has no option {name!r}",
                    remedy=f"its options: {', '.join(known) or 'none'}",
                )
        return {name: param.check(self.name, given.get(name, param.default)) for name, param in known.items()}


METHODS: dict[str, MergeMethod] = {
    "lorahub": MergeMethod(
        name="lorahub",
        function=lorahub,
        level="factor",
        summary="element-wise sum of A and of B; quadratic in the weights, f(w) = f(-w)",
        reference="arXiv 2307.13269",
        params=(Param("fold", "choice", BALANCED, "how the scalings come in", (BALANCED, COMPAT)),),
    ),
    "exact": MergeMethod(
        name="exact",
        function=exact,
        level="delta",
        summary="the weighted sum of the deltas, without loss; the ranks add up",
        reference="arXiv 2410.13025 (CAT), PEFT cat",
    ),
    "svd": MergeMethod(
        name="svd",
        function=svd,
        level="delta",
        summary="the weighted sum of the deltas, cut to a small rank by singular values",
        reference="Eckart and Young 1936, PEFT svd",
        params=(Param("rank", "rank", None, "rank to keep; default the largest input rank of the module"),),
        truncates=True,
    ),
    "peft-linear": MergeMethod(
        name="peft-linear",
        function=peft_linear,
        level="factor",
        summary="PEFT's linear combination, with its cross terms; to compare with",
        reference="PEFT 0.21 add_weighted_adapter",
    ),
}


def find_method(name: str) -> MergeMethod:
    """The row called `name`, or `BadMethod` listing the names there are."""
    if name not in METHODS:
        raise BadMethod(f"there is no merge method {name!r}", remedy=f"use one of: {', '.join(METHODS)}")
    return METHODS[name]
