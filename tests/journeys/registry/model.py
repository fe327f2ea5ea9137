"""The registry as a few dictionaries: what an operation makes of them, or that it is refused.

Written from what is promised to users, not from the code. The state is plain data: names of live repos, and by the
uuid of a repo its refs, moves of aliases, guards; all commits by id; former names; and by name of a repo the versions
that were there once.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from typing import Any

from storage.revisions import File, tree_digest

State = dict[str, Any]
Op = dict[str, Any]

OBSERVED = ("repos", "open", "refs", "moves", "guards", "former", "graves", "commits", "adapters")
NEW_REPO, NEW_COMMITS = "the-new-repo", ("new-commit-1", "new-commit-2")
EMPTY: State = {name: {} for name in (*OBSERVED, "brought")}


class Refused(Exception):
    """The operation must be refused, and change nothing."""


def after(state: State, op: Op) -> State:
    """The state after the operation, with placeholders for ids that only the hub can give. Raises Refused."""
    new = copy.deepcopy(state)
    VERBS[op["verb"]](new, op)
    return new


def view(state: State) -> State:
    """The part of it that can be seen."""
    live = set(state["repos"].values())
    seen = {name: state[name] for name in OBSERVED}
    for name in ("open", "refs", "moves", "guards"):
        seen[name] = {uuid: found for uuid, found in state[name].items() if uuid in live}
    seen["former"] = {name: uuid for name, uuid in state["former"].items() if uuid in live}
    trees = {name: state["commits"][state["refs"][uuid]["main"][1]][2] for name, uuid in state["repos"].items()}
    seen["adapters"] = sorted(name for name, files in trees.items() if "adapter_config.json" in files)
    return seen


def bind(state: State, known: State, seen: State) -> State:
    """The state with the ids that the hub gave in place of the placeholders, parents first."""
    text = json.dumps(state)
    uuids = set(seen["repos"].values()) - {commit[0] for commit in known["commits"].values()}
    fresh = seen["commits"].keys() - known["commits"].keys()
    for uuid in uuids:
        text = text.replace(NEW_REPO, uuid)
    for placeholder, commit_id in zip(
        NEW_COMMITS, sorted(fresh, key=lambda one: (seen["commits"][one][1] in fresh, one)), strict=False
    ):
        text = text.replace(placeholder, commit_id)
    bound: State = json.loads(text)
    return bound


def sha256_of(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def _named(state: State, name: str) -> str:
    """A live repo by its name."""
    if name not in state["repos"]:
        raise Refused
    return str(state["repos"][name])


def _found(state: State, name: str) -> str:
    """A live repo by its name or a former one."""
    former = state["former"].get(name)
    if name in state["repos"] or former not in state["repos"].values():
        return _named(state, name)
    return str(former)


def _name_of(state: State, uuid: str) -> str:
    return next(name for name, one in state["repos"].items() if one == uuid)


def _commit_at(state: State, uuid: str, at: str) -> str:
    """What a branch, tag, alias or commit id names."""
    if at in state["refs"][uuid]:
        return str(state["refs"][uuid][at][1])
    if at in state["moves"][uuid]:
        return str(state["moves"][uuid][at][-1][1])
    if state["commits"].get(at, [None])[0] == uuid:
        return at
    raise Refused


def _is_version(name: str) -> bool:
    return re.fullmatch(r"v[1-9]\d*", name) is not None


def _versions(state: State, uuid: str) -> dict[int, str]:
    return {int(name[1:]): ref[1] for name, ref in state["refs"][uuid].items() if _is_version(name)}


def _digest(state: State, commit: str) -> str:
    files = state["commits"][commit][2].items()
    return tree_digest(File(path, 0, digest, "", mode) for path, (digest, mode) in files)


def _new_repo(state: State, name: str, visibility: str) -> str:
    if name in state["repos"]:
        raise Refused
    state["repos"][name] = NEW_REPO
    state["open"][NEW_REPO] = visibility
    for place in ("refs", "moves", "guards"):
        state[place][NEW_REPO] = {}
    return NEW_REPO


def _move_on(state: State, uuid: str, branch: str, files: dict[str, list[str]], commit: str = NEW_COMMITS[0]) -> bool:
    """A commit on top of the branch, unless it has these files already."""
    head = state["refs"][uuid].get(branch, [None, None])[1]
    if head is not None and state["commits"][head][2] == files:
        return False
    state["commits"][commit] = [uuid, head, files]
    state["refs"][uuid][branch] = ["branch", commit]
    return True


def _create(state: State, op: Op) -> None:
    _move_on(state, _new_repo(state, op["repo"], op["visibility"]), "main", {})


def _commit(state: State, op: Op) -> None:
    uuid = _found(state, op["repo"])
    kind, head = state["refs"][uuid].get(op["branch"], ["", ""])
    if kind != "branch":
        raise Refused
    before = state["commits"][head][2]
    files = copy.deepcopy(before)
    files.update({path: [sha256_of(content), "regular"] for path, content in op["puts"].items()})
    live = set(state["repos"].values())
    usable = set(state["brought"].get(_name_of(state, uuid).split("/")[0], ()))
    usable |= {sha256_of(content) for content in op["puts"].values()}
    usable |= {digest for repo, _, tree in state["commits"].values() if repo in live for digest, _ in tree.values()}
    for path, content in op["claims"].items():
        if sha256_of(content) not in usable:
            raise Refused
        files[path] = [sha256_of(content), "lfs"]
    for path, source in op["copies"].items():
        if source not in before:
            raise Refused
        files[path] = before[source]
    for path in op["deletes"]:
        if files.pop(path, None) is None:
            raise Refused
    if any(one.startswith(f"{other}/") for one in files for other in files):
        raise Refused
    _move_on(state, uuid, op["branch"], files)


def _publish(state: State, op: Op) -> None:
    uuid = state["repos"].get(op["repo"]) or _new_repo(state, op["repo"], "private")
    made = _move_on(state, uuid, "main", op["files"])
    head = state["refs"][uuid]["main"][1]
    if made or head not in _versions(state, uuid).values():
        _give(state, uuid, head, None)


def _give(state: State, uuid: str, commit: str, number: int | None) -> None:
    live, name = _versions(state, uuid), _name_of(state, uuid)
    gone = state["graves"].get(name, [])
    if number is None:
        number = max([0, *live, *(buried for buried, _ in gone)]) + 1
    if number in live:
        if _digest(state, live[number]) != _digest(state, commit):
            raise Refused
        return
    if any(buried == number and digest != _digest(state, commit) for buried, digest in gone):
        raise Refused
    state["refs"][uuid][f"v{number}"] = ["tag", commit]


def _version(state: State, op: Op) -> None:
    uuid = _found(state, op["repo"])
    _give(state, uuid, _commit_at(state, uuid, op["at"]), op["number"])


def _name(kind: str, state: State, op: Op) -> None:
    uuid = _found(state, op["repo"])
    commit = _commit_at(state, uuid, op["at"])
    if _is_version(op["name"]) or op["name"] in state["refs"][uuid] or op["name"] in state["moves"][uuid]:
        raise Refused
    state["refs"][uuid][op["name"]] = [kind, commit]


def _unname(kind: str, state: State, op: Op) -> None:
    here = state["refs"][_found(state, op["repo"])]
    if op["name"] == "main" or _is_version(op["name"]) or here.get(op["name"], [""])[0] != kind:
        raise Refused
    del here[op["name"]]


def _bury(state: State, name: str, numbers: list[int]) -> None:
    uuid = state["repos"][name]
    for number in numbers:
        digest = _digest(state, state["refs"][uuid][f"v{number}"][1])
        state["graves"].setdefault(name, []).append([number, digest])


def _delete_version(state: State, op: Op) -> None:
    uuid, name = _named(state, op["repo"]), f"v{op['number']}"
    if name not in state["refs"][uuid]:
        raise Refused
    if any(events[-1][1] == state["refs"][uuid][name][1] for events in state["moves"][uuid].values()):
        raise Refused
    _bury(state, op["repo"], [op["number"]])
    del state["refs"][uuid][name]


def _delete_repo(state: State, op: Op) -> None:
    uuid = _named(state, op["repo"])
    if state["moves"][uuid] and not op["force"]:
        raise Refused
    _bury(state, op["repo"], sorted(_versions(state, uuid)))
    del state["repos"][op["repo"]]


def _promote(state: State, op: Op) -> None:
    uuid = _found(state, op["repo"]) if op["who"] else _named(state, op["repo"])
    if op["who"] == "ann":  # who may write in team, and no more
        guarded = state["guards"][uuid].get(op["alias"]) == "admin"
        if guarded or not _name_of(state, uuid).startswith("team/"):
            raise Refused
    commit = _commit_at(state, uuid, op["at"])
    if op["alias"] in state["refs"][uuid] or op["alias"] == "main" or _is_version(op["alias"]):
        raise Refused
    events = state["moves"][uuid].setdefault(op["alias"], [])
    if not events or events[-1][1] != commit:
        events.append(["promote", commit, len(events) or None])


def _rollback(state: State, op: Op) -> None:
    events = state["moves"][_named(state, op["repo"])].get(op["alias"])
    if not events or events[-1][2] is None:
        raise Refused
    _, commit, previous = events[events[-1][2] - 1]
    events.append(["rollback", commit, previous])


def _protect(state: State, op: Op) -> None:
    guards = state["guards"][_named(state, op["repo"])]
    if op["alias"] == "main" or _is_version(op["alias"]):
        raise Refused
    guards.pop(op["alias"], None)
    if op["role"] == "admin":
        guards[op["alias"]] = "admin"


def _rename(state: State, op: Op) -> None:
    uuid = _found(state, op["repo"])
    old, new = _name_of(state, uuid), op["to"]
    if state["repos"].get(new, uuid) != uuid:
        raise Refused
    if old == new:
        return
    live = {number: _digest(state, commit) for number, commit in _versions(state, uuid).items()}
    if any(live.get(number, digest) != digest for number, digest in state["graves"].get(new, [])):
        raise Refused
    _bury(state, old, sorted(live))
    del state["repos"][old]
    state["repos"][new] = uuid
    state["former"][old] = uuid


def _duplicate(state: State, op: Op) -> None:
    source = _found(state, op["repo"])
    files = state["commits"][state["refs"][source]["main"][1]][2]
    uuid = _new_repo(state, op["to"], "private")
    _move_on(state, uuid, "main", {})
    _move_on(state, uuid, "main", copy.deepcopy(files), NEW_COMMITS[1])


def _open_or_close(state: State, op: Op) -> None:
    state["open"][_found(state, op["repo"])] = op["visibility"]


def _reclaim(state: State, op: Op) -> None:
    """Of deleted repos stay the commits that an alias ever named, and what they were built on."""
    del op
    live, kept = set(state["repos"].values()), set()
    for moves in state["moves"].values():
        for commit in (event[1] for events in moves.values() for event in events):
            while commit is not None and commit in state["commits"]:
                kept.add(commit)
                commit = state["commits"][commit][1]
    commits = state["commits"].items()
    state["commits"] = {commit: found for commit, found in commits if found[0] in live or commit in kept}


def _nothing(state: State, op: Op) -> None:
    del state, op


VERBS = {
    "create": _create,
    "commit": _commit,
    "publish": _publish,
    "branch": lambda state, op: _name("branch", state, op),
    "tag": lambda state, op: _name("tag", state, op),
    "version": _version,
    "delete branch": lambda state, op: _unname("branch", state, op),
    "delete tag": lambda state, op: _unname("tag", state, op),
    "delete version": _delete_version,
    "delete repo": _delete_repo,
    "promote": _promote,
    "rollback": _rollback,
    "protect": _protect,
    "rename": _rename,
    "duplicate": _duplicate,
    "open or close": _open_or_close,
    "gc": _nothing,
    "reclaim": _reclaim,
}
