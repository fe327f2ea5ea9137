"""Groups of modules from what a person writes: `layers:4`, `attn,mlp`, `attn,mlp,other`, or globs over module paths.

layers:N   the adapted layers in N groups of neighbours, in order of depth, sizes as even as can be. Where there are
           several stacks (encoder and decoder) no group spans two: each stack has its share of the N, by its number of
           adapted layers and at least one, the encoder first.
attn, mlp  projections of attention, and of the feed-forward part with its experts, by the names that models give them.
other      what fits none of the others.
a glob     a text with `*`, `?` or a dot, as in the files of `mixhub compose --weights`.

Every adapted module must belong to a group, and every group must have one: nothing is left out without a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

from .errors import SearchError
from .module_groups import ModuleGroups, no_group

OTHER = "other"
LAYERS = re.compile(r"layers:(\d{1,4})")
ATTENTION = re.compile(
    r".*(attn|attention).*|[qkvo]_?(proj|lin)?|out_proj|qkv(_proj)?|wqkv|query|key|value|query_key_value|rel_attn",
    re.IGNORECASE,
)
FEED_FORWARD = re.compile(
    r".*(mlp|ffn|feed_?forward|moe|experts?).*|ff|dense\w+dense|intermediate|output|fc_?(\d|in|out)|lin[12]"
    r"|(up|down|gate|gate_up)_proj|w[io](_\d)?|w[123]|dense_(h_to_4h|4h_to_h)",
    re.IGNORECASE,
)
KINDS = {"attn": ATTENTION, "mlp": FEED_FORWARD}
EXAMPLE = "--groups layers:4, --groups attn,mlp or --groups '*.q_proj,*.v_proj,other'"

Group = tuple[str, list[str], list[str]]
"""Name, modules, globs that were thought of for them."""


def group_count(text: str) -> int:
    """How many groups `text` asks for. `SearchError` where it means nothing."""
    return sum(int(found[1]) if (found := LAYERS.fullmatch(word)) else 1 for word in _words(text))


def module_groups(text: str, modules: Iterable[str]) -> ModuleGroups:
    """The groups that `text` says for the adapted `modules` (paths). `SearchError` names what does not fit."""
    paths = sorted(set(modules))
    words = _words(text)
    found: list[Group] = []
    left = paths
    for word in (word for word in words if word != OTHER):
        cut = LAYERS.fullmatch(word)
        groups = _layers(left, int(cut[1])) if cut else [_matching(word, left)]
        for name, members, _ in groups:
            if not members:
                raise SearchError(f"no adapted module belongs to the group {name!r}", remedy=_has(paths))
        found += groups
        taken = {path for _, members, _ in groups for path in members}
        left = [path for path in left if path not in taken]
    if OTHER in words:
        if not left:
            raise SearchError("no adapted module is left for the group 'other'", remedy="leave it out")
        found.append((OTHER, left, left))
    elif left:
        raise no_group(left)
    return _told_apart(found)


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not (LAYERS.fullmatch(word) or word in (*KINDS, OTHER) or _is_glob(word)):
            raise SearchError(f"there is no group of modules {word!r}", remedy=f"for example {EXAMPLE}")
        if word == "layers:0":
            raise SearchError("layers:0 makes no group", remedy=f"for example {EXAMPLE}")
    if len(set(words)) < len(words):
        raise SearchError(f"--groups {text} names a group twice", remedy="name it once")
    if any(LAYERS.fullmatch(word) for word in words) and set(words[1:]) - {OTHER}:
        raise SearchError("layers:N goes with no other group but 'other'", remedy=f"for example {EXAMPLE}")
    if OTHER in words[:-1]:
        raise SearchError("the group 'other' comes last", remedy=f"for example {EXAMPLE}")
    return words


def _is_glob(word: str) -> bool:
    return any(sign in word for sign in "*?.")


def _has(paths: Sequence[str]) -> str:
    return f"the adapters change {', '.join(paths[:5])}{' ...' if len(paths) > 5 else ''}"


# --- by kind and by glob --------------------------------------------------------------------------------------------


def _matching(word: str, paths: Sequence[str]) -> Group:
    if word not in KINDS:
        return word, [path for path in paths if fnmatchcase(path, word)], [word]
    members = [path for path in paths if kind_of(path) == word]
    return word, members, list(dict.fromkeys(_glob_of_kind(path, KINDS[word]) for path in members))


def kind_of(path: str) -> str | None:
    """attn, mlp, or neither; attention wins, so that BERT's `attention.output.dense` belongs to it."""
    inside = _inside(path)
    return next((kind for kind, names in KINDS.items() if any(names.fullmatch(one) for one in inside)), None)


def _inside(path: str) -> list[str]:
    """The components of a path within its layer; all of them where it is in none."""
    layer = _layer_of(path)
    return path.removeprefix(layer.path).strip(".").split(".") if layer else path.split(".")


def _glob_of_kind(path: str, names: re.Pattern[str]) -> str:
    """By the first component that says the kind: `*.self_attn.*`, or `*.fc1` where that is the module itself."""
    inside = _inside(path)
    at = next(i for i, one in enumerate(inside) if names.fullmatch(one))
    return f"*.{inside[at]}" if at == len(inside) - 1 else f"*.{inside[at]}.*"


# --- by depth -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """`stack` is the path of the list of layers, such as `encoder.block`."""

    stack: str
    number: int

    @property
    def path(self) -> str:
        return f"{self.stack}.{self.number}" if self.stack else str(self.number)


def _layer_of(path: str) -> _Layer | None:
    """By the first number in the path: later ones count sublayers or experts."""
    parts = path.split(".")
    at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return None if at is None else _Layer(".".join(parts[:at]), int(parts[at]))


def _layers(paths: Sequence[str], count: int) -> list[Group]:
    members: dict[_Layer, list[str]] = {}
    for path in paths:
        if layer := _layer_of(path):
            members.setdefault(layer, []).append(path)
    stacks: dict[str, list[_Layer]] = {}
    for layer in sorted(members, key=lambda one: ("decoder" in one.stack, one.stack, one.number)):
        stacks.setdefault(layer.stack, []).append(layer)
    shares = _shares([len(layers) for layers in stacks.values()], count)
    name = _names_of_stacks(list(stacks))
    found = []
    for (stack, layers), share in zip(stacks.items(), shares, strict=True):
        for part in _cut(layers, share):
            first, last = part[0].number, part[-1].number
            told = f"{name(stack)}layer{'' if first == last else 's'} {first}{'' if first == last else f'-{last}'}"
            inside = [path for layer in part for path in members[layer]]
            globs = [f"{layer.path}.*" for layer in part]
            found.append((told, inside, globs))
    return found


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """`count` groups for stacks of so many layers: one each, and every further one to the stack whose groups are
    longest, the first of them on a tie."""
    if not len(sizes) <= count <= sum(sizes):
        several = f" in {len(sizes)} stacks, each of which needs a group," if len(sizes) > 1 else ""
        possible = max(len(sizes), min(count, sum(sizes)))
        raise SearchError(
            f"the adapters change {sum(sizes)} layers{several} which cannot be cut into {count} groups",
            remedy=f"--groups layers:{possible}" if sizes else "group them by globs: --groups '*.q_proj,other'",
        )
    shares = [1] * len(sizes)
    for _ in range(count - len(sizes)):
        at = max(range(len(sizes)), key=lambda i: (sizes[i] / shares[i], -i))
        shares[at] += 1
    return shares


def _cut(layers: Sequence[_Layer], count: int) -> list[Sequence[_Layer]]:
    """Neighbours together, the first parts one longer where it does not come out even."""
    size, more = divmod(len(layers), count)
    ends = [i * size + min(i, more) for i in range(count + 1)]
    return [layers[start:end] for start, end in pairwise(ends)]


def _names_of_stacks(stacks: Sequence[str]) -> Callable[[str], str]:
    def name(stack: str) -> str:
        if len(stacks) == 1:
            return ""
        part = next((one for one in stack.split(".") if one in ("encoder", "decoder")), stack)
        return f"{part} "

    return name


# --- globs ----------------------------------------------------------------------------------------------------------


def _told_apart(found: Sequence[Group]) -> ModuleGroups:
    """The short globs where they put every module into its group; whole paths where they do not."""
    names = tuple(name for name, _, _ in found)
    groups = ModuleGroups(names, tuple(tuple(globs) for _, _, globs in found))
    expected = {path: number for number, (_, members, _) in enumerate(found) for path in members}
    if all(groups.group_of(path) == number for path, number in expected.items()):
        return groups
    return ModuleGroups(names, tuple(tuple(members) for _, members, _ in found))
