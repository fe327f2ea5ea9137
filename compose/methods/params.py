"""The typed options of merge methods: checked from Python values, parsed from text, described for --help and docs."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from ..errors import BadMethod

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Param:
    """One option. `kind` is "choice" (one of `choices`), "rank" (a whole number from 1, or None), "number" (within
    `low` and `high`), "count" (a whole number from 0) or "flag"."""

    name: str
    kind: str
    default: Value
    summary: str
    choices: tuple[str, ...] = ()
    low: float = -1e6
    high: float = 1e6

    @property
    def expected(self) -> str:
        """What it takes, in words."""
        return {
            "choice": f"one of {', '.join(self.choices)}",
            "rank": "a whole number from 1",
            "number": f"a number from {self.low:g} to {self.high:g}",
            "count": "a whole number from 0",
            "flag": "true or false",
        }[self.kind]

    @property
    def schema(self) -> dict[str, object]:
        """The same as JSON Schema."""
        kinds: dict[str, dict[str, object]] = {
            "choice": {"type": "string", "enum": list(self.choices)},
            "rank": {"type": ["integer", "null"], "minimum": 1, "maximum": 2**31 - 1},
            "number": {"type": "number", "minimum": self.low, "maximum": self.high},
            "count": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
            "flag": {"type": "boolean"},
        }
        return {**kinds[self.kind], "default": self.default, "description": self.summary}

    def check(self, method: str, value: object) -> Value:
        """`value` if this option can take it, else `BadMethod`."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        if self.kind == "choice" and isinstance(value, str) and value in self.choices:
            return value
        if self.kind == "rank" and value is None:
            return None
        if (
            self.kind in ("rank", "count")
            and isinstance(value, int)
            and whole
            and 2**31 > value >= (self.kind == "rank")
        ):
            return value
        if self.kind == "flag" and isinstance(value, bool):
            return value
        if self.kind == "number" and isinstance(value, int | float) and not isinstance(value, bool):
            in_range = self.low <= value <= self.high and abs(value) < 2**1023  # also what no float can hold is out
            if in_range and isfinite(value):
                return float(value)
        raise BadMethod(f"method {method!r}: {self.name} is {value!r}, expected {self.expected}")

    def parse(self, method: str, text: str) -> Value:
        """The value that `text` on a command line means."""
        try:
            if self.kind in ("rank", "count"):
                return self.check(method, int(text))
            if self.kind == "number":
                return self.check(method, float(text))
        except ValueError as error:
            if isinstance(error, BadMethod):
                raise
            raise BadMethod(f"method {method!r}: {self.name} is {text!r}, expected {self.expected}") from error
        if self.kind == "flag":
            return self.check(method, {"true": True, "false": False}.get(text.lower(), text))
        return self.check(method, text)


def density(default: float = 0.5) -> Param:
    return Param("density", "number", default, "share of the entries that stays", low=0.0, high=1.0)


NORMALIZE = Param("normalize", "flag", True, "the mean of what agrees, not its sum")
SEED = Param("seed", "count", 0, "of the random masks")
SCALE = Param("scale", "number", 1.0, "factor of the whole")
RANK = Param("rank", "rank", None, "rank to keep; default the largest input rank of the module")
DENSE_RANK = Param("rank", "rank", None, "rank to keep of the dense result; default the sum of the input ranks")


def consensus(default: str) -> Param:
    return Param("consensus", "choice", default, "elect signs, or plainly add up", ("elect", "sum"))
