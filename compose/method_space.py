"""A search over the merge method: which methods, with which of their options fixed and which within a range.

To an optimizer and a scorer a candidate is one row of numbers: its N weights and then `columns` more, the position of
its method and the value of every searched option (0 for a method that does not have it). So all that works on weight
rows works on these as well, and two candidates are the same where their rows are. A row of the N weights alone is
mixed by `plain`, the method under which the baselines are scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .errors import BadMethod
from .methods import find_method
from .methods.params import Param, Value

FAITHFUL = ("exact", "lorahub")
"""Methods under which one adapter at weight 1 is that adapter, whatever their options."""
NUMERIC = ("number", "rank", "count")

Given = Mapping[str, object]
"""Option -> a value, or a pair (low, high); `ties.density` is that of one method only."""


@dataclass(frozen=True)
class Range:
    """Values from `low` to `high`, both included; `whole`: only whole numbers. `start` is where a search begins."""

    low: float
    high: float
    whole: bool
    start: float


@dataclass(frozen=True)
class MethodChoice:
    """One method that a search may choose: options that are given, and options that are searched."""

    name: str
    fixed: Mapping[str, Value] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """One way to mix: a method with its options, of which those that are not named have their defaults."""

    method: str
    params: Mapping[str, Value]


@dataclass(frozen=True)
class MethodSpace:
    """The ways to mix that a search may choose from. Make it by `MethodSpace.of`."""

    choices: tuple[MethodChoice, ...]

    @classmethod
    def of(cls, methods: Sequence[str], params: Given | None = None) -> MethodSpace:
        """Every option belongs to all of `methods` that have it. `BadMethod` for an unknown method or option, a value
        that its option cannot have, or a range of an option that is no number."""
        if len(set(methods)) != len(methods) or not methods:
            raise BadMethod(f"the methods {', '.join(methods) or '(none)'}: name each once")
        given = dict(params or {})
        for key in given:
            _check_key(key, methods)
        return cls(tuple(_choice(name, given) for name in methods))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(choice.name for choice in self.choices)

    @cached_property
    def searched(self) -> tuple[str, ...]:
        """The options that have a range under any method, in order of the alphabet: a column each."""
        return tuple(sorted({name for choice in self.choices for name in choice.ranges}))

    @property
    def settled(self) -> bool:
        """Whether there is nothing to choose."""
        return len(self.choices) == 1 and not self.searched

    @property
    def columns(self) -> int:
        """How many numbers follow the weights in a row."""
        return 1 + len(self.searched)

    @cached_property
    def plain(self) -> Setting:
        """What the baselines are mixed by: the first method that leaves a single adapter as it is, else the first."""
        return self.starts[next((i for i, choice in enumerate(self.choices) if choice.name in FAITHFUL), 0)]

    @cached_property
    def starts(self) -> tuple[Setting, ...]:
        """Every method, with what is searched of its options where a search begins."""
        return tuple(
            self.decode(
                [number, *(choice.ranges[name].start if name in choice.ranges else 0.0 for name in self.searched)]
            )
            for number, choice in enumerate(self.choices)
        )

    def decode(self, columns: Sequence[float]) -> Setting:
        """What the numbers after the weights mean."""
        choice = self.choices[int(columns[0])]
        values = dict(zip(self.searched, columns[1:], strict=True))
        found: dict[str, Value] = {
            name: int(values[name]) if one.whole else float(values[name]) for name, one in choice.ranges.items()
        }
        return Setting(choice.name, {**choice.fixed, **found})

    def encode(self, method: str | None, params: Mapping[str, Value] | None) -> tuple[float, ...]:
        """The numbers after the weights; the opposite of `decode`. No method: `plain`."""
        if method is None:
            return self.encode(self.plain.method, self.plain.params)
        if method not in self.names:
            raise BadMethod(f"the method {method!r} is none of those of this search: {', '.join(self.names)}")
        number = self.names.index(method)
        ranges, held = self.choices[number].ranges, params or {}
        if missing := [name for name in ranges if not isinstance(held.get(name), int | float)]:
            raise BadMethod(f"method {method!r}: this search gives {', '.join(missing)} a value, which is missing")
        return (float(number), *(float(held[name] or 0) if name in ranges else 0.0 for name in self.searched))

    def widened(self, weights: NDArray[np.float64], setting: Setting | None = None) -> NDArray[np.float64]:
        """(K, N) weights -> (K, N + columns) rows, all mixed by `setting`, by default `plain`."""
        chosen = setting or self.plain
        columns = np.array(self.encode(chosen.method, chosen.params))
        return np.concatenate([weights, np.repeat(columns[None, :], len(weights), axis=0)], axis=1)

    def as_dict(self) -> dict[str, object]:
        """For a recipe: method -> its options, a range as [low, high]."""
        return {
            choice.name: {**choice.fixed, **{name: [one.low, one.high] for name, one in choice.ranges.items()}}
            for choice in self.choices
        }


def parse_given(methods: Sequence[str], texts: Mapping[str, str]) -> dict[str, object]:
    """Options as texts, from a command line: `density` -> `0.5` or `0.2:0.8`, typed as the methods want them."""
    found: dict[str, object] = {}
    for key, text in texts.items():
        method, param = _check_key(key, methods)[0]
        parts = text.split(":")
        if len(parts) == 1:
            found[key] = param.parse(method, text)
        elif len(parts) == 2:
            _require_numeric(method, param, text)
            found[key] = tuple(param.parse(method, part) for part in parts)
        else:
            raise BadMethod(f"{key} is {text!r}", remedy=f"write --param {key}=LOW:HIGH")
    return found


def _check_key(key: str, methods: Sequence[str]) -> list[tuple[str, Param]]:
    """The methods that an option is for, with its row in their tables; `BadMethod` where there is none."""
    owner, dot, name = key.rpartition(".")
    if dot and owner not in methods:
        raise BadMethod(f"the option {key!r} is of a method that is not searched", remedy=f"--method {owner},...")
    named = [owner] if dot else list(methods)
    owners = [(method, param) for method in named for param in find_method(method).params if param.name == name]
    if not owners:
        known = sorted({param.name for method in named for param in find_method(method).params})
        what = f"method {named[0]!r} has" if len(named) == 1 else f"none of the methods {', '.join(named)} has"
        raise BadMethod(f"{what} no option {name!r}", remedy=f"options: {', '.join(known) or 'none'}")
    return owners


def _choice(name: str, given: Given) -> MethodChoice:
    row = find_method(name)
    fixed: dict[str, Value] = {}
    ranges: dict[str, Range] = {}
    for param in row.params:
        key = f"{name}.{param.name}" if f"{name}.{param.name}" in given else param.name
        if key not in given:
            continue
        value = given[key]
        if isinstance(value, (list, tuple)):
            ranges[param.name] = _range(name, param, value)
        else:
            fixed[param.name] = param.check(name, value)
    return MethodChoice(name, fixed, ranges)


def _range(method: str, param: Param, value: Sequence[object]) -> Range:
    _require_numeric(method, param, value)
    ends = [end for end in (param.check(method, one) for one in value) if isinstance(end, int | float)]
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise BadMethod(
            f"method {method!r}: {param.name} is {list(value)}, expected a lower and an upper number",
            remedy=f"write --param {param.name}=LOW:HIGH",
        )
    low, high = float(ends[0]), float(ends[1])
    whole = param.kind != "number"
    middle = (low + high) // 2 if whole else (low + high) / 2
    default = param.default
    usual = isinstance(default, int | float) and not isinstance(default, bool) and low <= default <= high
    return Range(low, high, whole, float(default) if usual and default is not None else middle)


def _require_numeric(method: str, param: Param, value: object) -> None:
    if param.kind not in NUMERIC:
        raise BadMethod(
            f"method {method!r}: {param.name} is {value!r}, but only numbers can have a range",
            remedy=f"--param {param.name}=VALUE, {param.expected}",
        )
