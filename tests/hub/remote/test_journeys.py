"""The journeys of the README, on a home and on a server: the same commands, the same answers."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from compose import load_adapter, merge

Run = Callable[..., Any]
Write = Callable[..., Path]
Publish = Callable[[str], dict[str, Path]]
_numbers = itertools.count(1)


@pytest.fixture
def ns(place: str) -> str:
    """A namespace of this test's own."""
    return f"{place}{next(_numbers)}"


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_publish_and_pull(mixhub: Run, published: Publish, write_lora: Write, ns: str, tmp_path: Path) -> None:
    folders = published(ns)
    pulled = mixhub("pull", f"{ns}/a@v1", tmp_path / "out", "--json").json
    assert files(tmp_path / "out") == files(folders[f"{ns}/a"]) and pulled["files"] == sorted(pulled["files"])
    assert files(tmp_path / "out") == files(folders[f"{ns}/a"])
    assert mixhub("pull", f"{ns}/a", tmp_path / "out").code == 1, "it would overwrite"
    assert mixhub("pull", f"{ns}/a", tmp_path / "out", "--force").code == 0
    again = mixhub("publish", folders[f"{ns}/a"], f"{ns}/a", "--json").json
    assert (again["created"], again["versioned"], again["version"]) == (False, False, "v1")
    better = write_lora(f"{ns}-better", seed=7, base_model_name_or_path=f"{ns}/base")
    (better / "notes.txt").write_text("text")
    (better / "empty").write_bytes(b"")
    second = mixhub("publish", better, f"{ns}/a", "-m", "better", "--prompt-template", "Q: {input}", "--json").json
    assert (second["version"], second["created"], second["adapters"]) == ("v2", True, [""])
    listed = mixhub("ls", "--namespace", ns, "--json").json
    assert [(one["address"], one["version"], one["base"]) for one in listed] == [
        (f"{ns}/a", "v2", f"{ns}/base"), (f"{ns}/b", "v1", f"{ns}/base"),
    ]  # fmt: skip
    assert [one["address"] for one in mixhub("ls", "--namespace", ns, "--base", f"{ns}/base", "--json").json] == [
        f"{ns}/a", f"{ns}/b",
    ]  # fmt: skip
    shown = mixhub("show", f"{ns}/a", "--json").json
    assert shown["facts"]["prompt template"] == "Q: {input}" and shown["facts"]["message"] == "better"
    assert [v["name"] for v in shown["versions"]] == ["v1", "v2"] and "." not in shown["facts"]["created"]
    mixhub("pull", f"{ns}/a", tmp_path / "new")
    assert files(tmp_path / "new") == files(better), "what the folder did not bring is gone"


def test_a_folder_of_a_repo_is_an_adapter_of_its_own(
    mixhub: Run, published: Publish, write_lora: Write, ns: str, tmp_path: Path
) -> None:
    published(ns)
    inner = write_lora(f"{ns}-inner", seed=9, base_model_name_or_path=f"{ns}/base")
    assert mixhub("publish", inner, f"{ns}/a/deep/er", "--json").json["address"] == f"{ns}/a/deep/er@v2"
    assert mixhub("pull", f"{ns}/a/deep/er", tmp_path / "inner").code == 0
    assert files(tmp_path / "inner") == files(inner)
    mixed = mixhub("compose", f"{ns}/a/deep/er=1", f"{ns}/b=0.5", "--as", f"{ns}/mix", "--json")
    assert mixed.code == 0, mixed.err
    exported = mixhub("export", f"{ns}/a/deep/er", "--to", tmp_path / "plain", "--json")
    assert exported.json["address"] == f"{ns}/a/deep/er", exported.err
    assert mixhub("show", f"{ns}/a/deep", "--json").json["facts"]["adapters"] == f"{ns}/a/deep/er"


def test_compose_and_remake_from_the_recipe(mixhub: Run, published: Publish, ns: str, tmp_path: Path) -> None:
    folders = published(ns)
    ran = mixhub("compose", f"{ns}/a=0.6", f"{ns}/b@v1=-0.3", "--as", f"{ns}/mix", "--method", "exact", "--json")
    assert ran.code == 0 and ran.json["method"] == "exact", ran.err
    mixhub("pull", f"{ns}/mix@v1", tmp_path / "mix")
    wanted = merge([load_adapter(folders[f"{ns}/{n}"]) for n in "ab"], [0.6, -0.3], method="exact").adapter
    found = load_adapter(tmp_path / "mix")
    for path, factors in wanted.modules.items():
        delta = factors.scaling * factors.B @ factors.A
        ours = found.modules[path]
        assert (ours.scaling * ours.B @ ours.A - delta).abs().max() < 1e-6
    recipe = json.loads((tmp_path / "mix" / "mixhub_recipe.json").read_text())
    commits = {a: mixhub("show", a, "--json").json["commit_id"] for a in (f"{ns}/a", f"{ns}/b")}
    assert {p["address"]: p["commit"] for p in recipe["parents"]} == commits
    remade = mixhub("compose", "--recipe", tmp_path / "mix", "--as", f"{ns}/again", "--json")
    assert remade.code == 0, remade.err
    mixhub("pull", f"{ns}/again", tmp_path / "again")
    assert (
        files(tmp_path / "again")["adapter_model.safetensors"] == files(tmp_path / "mix")["adapter_model.safetensors"]
    )
    assert [p["address"] for p in mixhub("show", f"{ns}/mix", "--json").json["parents"]] == [f"{ns}/a", f"{ns}/b"]
    assert [c["address"] for c in mixhub("show", f"{ns}/a", "--json").json["children"]] == [f"{ns}/mix", f"{ns}/again"]


def test_a_search_has_a_whole_recipe_and_can_be_finished(
    mixhub: Run, published: Publish, few_shot: Path, ns: str, tmp_path: Path
) -> None:
    published(ns)
    names = [f"{ns}/a@v1", f"{ns}/b"]
    words = ["search", *names, "--examples", few_shot, "--budget", "8", "--as", f"{ns}/found"]
    words += ["--optimizer", "Cobyla", "--method", "lorahub", "--no-gate", "--json"]
    ran = mixhub(*words)
    assert ran.code == 0, ran.err
    assert ran.json["adapters"] == names and len(ran.json["trials"]) == 8
    assert ran.json["published"]["address"] == f"{ns}/found@v1"
    mixhub("pull", f"{ns}/found", tmp_path / "found")
    recipe = json.loads((tmp_path / "found" / "mixhub_recipe.json").read_text())
    assert recipe["search"]["candidates"] == names and recipe["search"]["evaluations"] == 8
    used = {f"{ns}/{name}" for name in "ab"} & {p["address"] for p in recipe["parents"]}
    commits = {mixhub("show", a, "--json").json["commit_id"] for a in used}
    assert {p["commit"] for p in recipe["parents"]} == commits
    shown = mixhub("show", f"{ns}/found", "--json").json
    assert {p["address"] for p in shown["parents"]} == used
    assert shown["facts"]["base identity"] == mixhub("show", f"{ns}/a", "--json").json["facts"]["base identity"]
    assert mixhub("search", "--resume", ran.json["search"]).code == 1, "it is finished"
    assert mixhub(*words[:-3], "--preset", "nonsense", "--json").code == 2


def test_a_mix_is_verified_from_the_bytes_of_its_parts(
    mixhub: Run, published: Publish, few_shot: Path, place: str
) -> None:
    ns = f"{place}3"  # decides the random base: one that these adapters improve
    published(ns)
    words = ["search", f"{ns}/a", f"{ns}/b", "--examples", few_shot, "--budget", "8", "--as", f"{ns}/judged"]
    assert mixhub(*words, "--optimizer", "Cobyla", "--method", "lorahub", "--no-gate").code == 0
    assert mixhub("compose", f"{ns}/a=0.5", f"{ns}/b=0.25", "--as", f"{ns}/by-hand").code == 0
    for name in ("judged", "by-hand"):
        checked = mixhub("verify", f"{ns}/{name}", "--json")
        assert checked.code == 0 and checked.json["reproduced"] and checked.json["identical"], checked.err
    assert mixhub("verify", f"{ns}/judged", "--replay", "--json").json["replay"]["same"] == 8


def test_a_search_by_groups_is_published_with_weights_by_globs_and_verified(
    mixhub: Run, published: Publish, few_shot: Path, ns: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(ns)

    def best_mix(run: Any) -> Any:
        return min((trial for trial in run._ledger.trials if trial.kind == "ask"), key=lambda trial: trial.loss)

    monkeypatch.setattr("compose.adam_run.AdamRun.choose", best_mix)  # also where a random adapter alone is better
    words = ["search", f"{ns}/a", f"{ns}/b", "--examples", few_shot, "--budget", "26", "--as", f"{ns}/by-groups"]
    ran = mixhub(*words, "--optimizer", "adam", "--method", "lorahub", "--groups", "layers:2", "--no-gate", "--json")
    assert ran.code == 0 and ran.json["groups"] == ["encoder layer 0", "decoder layer 0"], ran.err
    mixhub("pull", f"{ns}/by-groups", tmp_path / "found")
    parents = json.loads((tmp_path / "found" / "mixhub_recipe.json").read_text())["parents"]
    weights = dict(zip(ran.json["adapters"], zip(*[iter(ran.json["weights"])] * 2, strict=True), strict=True))
    assert any(parent["layers"] for parent in parents)
    for parent in parents:
        lower, upper = weights[parent["address"]]
        globs = list((parent["layers"] or {}).items())[:2]
        assert globs == ([] if lower == upper else [("encoder.block.0.*", lower), ("decoder.block.0.*", upper)])
    checked = mixhub("verify", f"{ns}/by-groups", "--replay", "--json")
    assert checked.json["reproduced"] and checked.json["identical"] and checked.json["score"]["agrees"], checked.err
    assert checked.json["replay"]["same"] == 26
    assert mixhub("verify", f"{ns}/a").code == 1, "it was not mixed"


def test_export_plain_and_fused(mixhub: Run, published: Publish, ns: str, tmp_path: Path) -> None:
    published(ns)
    plain = mixhub("export", f"{ns}/a@v1", "--to", tmp_path / "plain", "--profile", "vllm", "--json")
    assert plain.code == 0 and plain.json["max_change"] == 0 and plain.json["address"] == f"{ns}/a@v1", plain.err
    assert load_adapter(tmp_path / "plain").modules
    fused = mixhub("export", f"{ns}/a", "--to", tmp_path / "fused", "--fused", "--json")
    assert fused.code == 0 and fused.json["fused"], fused.err
    assert {"config.json", "model.safetensors"} <= files(tmp_path / "fused").keys()
    assert mixhub("export", f"{ns}/a", "--to", tmp_path / "plain").code == 1, "it is not empty"


def test_aliases_and_deletes(mixhub: Run, published: Publish, write_lora: Write, ns: str, tmp_path: Path) -> None:
    published(ns)
    second = write_lora(f"{ns}-second", seed=5, base_model_name_or_path=f"{ns}/base")
    mixhub("publish", second, f"{ns}/a")
    assert mixhub("promote", f"{ns}/a@v1", "prod", "--json").json["label"] == "v1"
    assert mixhub("promote", f"{ns}/a", "prod", "--json").json["seq"] == 2
    assert mixhub("rollback", f"{ns}/a", "prod", "--json").json["label"] == "v1"
    assert mixhub("promote", f"{ns}/a", "staging", "--json").json["label"] == "v2"
    assert mixhub("protect", f"{ns}/a", "prod", "--role", "admin", "--json").json == {"alias": "prod", "role": "admin"}
    moves = mixhub("history", f"{ns}/a", "--json").json
    assert [(m["alias"], m["action"], m["label"]) for m in moves] == [
        ("prod", "promote", "v1"), ("prod", "promote", "v2"), ("prod", "rollback", "v1"), ("staging", "promote", "v2"),
    ]  # fmt: skip
    assert mixhub("history", f"{ns}/a@staging", "--json").json == moves[3:]
    assert mixhub("pull", f"{ns}/a@prod", tmp_path / "prod").code == 0
    pinned = mixhub("delete", f"{ns}/a@v1", "--yes")
    assert pinned.code == 1 and "prod" in pinned.err
    assert mixhub("delete", f"{ns}/a", "--yes").code == 1, "aliases name it"
    assert mixhub("delete", f"{ns}/b@v1", "--yes", "--json").json["address"] == f"{ns}/b@v1"
    assert mixhub("show", f"{ns}/b@v1").code == 1
    assert mixhub("delete", f"{ns}/a", "--yes", "--force").code == 0
    assert [one["address"] for one in mixhub("ls", "--namespace", ns, "--json").json] == [f"{ns}/b"]


@pytest.mark.parametrize(
    ("words", "code", "kind", "said"),
    [
        (["show", "{ns}/none"], 1, None, "{ns}/none"),
        (["pull", "{ns}/a@v9"], 1, "NotFound", "v9"),
        (["publish", "/no/such/folder", "{ns}/x"], 1, "BadUpload", "/no/such/folder"),
        (["publish", "{bad}", "{ns}/x"], 1, "BadUpload", "weights.bin"),
        (["publish", "{torn}", "{ns}/x"], 1, "MalformedAdapter", "{ns}/x"),
        (["publish", "{alien}", "{ns}/x"], 1, "IncompatibleAdapters", "--base"),
        (["publish", "{alien}", "{ns}/x", "--version", "first"], 2, "UsageError", "v1, v2"),
        (["publish", "{alien}", "{ns}/x", "--base", "no/where"], 1, "UnknownBase", "no/where"),
        (["compose", "{ns}/a=1", "{ns}/a@v1=1", "--as", "{ns}/x"], 2, "UsageError", "same adapter"),
        (["compose", "{ns}/a=1", "--as", "{ns}/x", "--method", "magic"], 2, "BadMethod", "magic"),
        (["compose", "{ns}/base=1", "--as", "{ns}/x"], 1, "NotFound", "holds no adapter"),
        (["export", "{ns}/base", "--to", "never"], 1, "NotFound", "holds no adapter"),
        (["search", "{ns}/a", "--examples", "{few}", "--budget", "2"], 2, "SearchError", "--budget 3"),
        (["search", "{ns}/none", "--examples", "{few}"], 1, None, "{ns}/none"),
        (["promote", "{ns}/a@v1", "main"], 2, "InvalidName", "main"),
        (["rollback", "{ns}/a", "prod"], 1, "NotFound", "mixhub promote"),
        (["delete", "{ns}/a/deep", "--yes"], 2, "UsageError", "folder"),
        (["delete", "{ns}/a@main", "--yes"], 2, "UsageError", "main"),
        (["protect", "{ns}/a", "prod", "--role", "god"], 2, "UsageError", "god"),
    ],
)
def test_errors_are_the_same_and_change_nothing(
    mixhub: Run, shop: tuple[str, dict[str, str]], words: list[str], code: int, kind: str | None, said: str
) -> None:
    ns, known = shop
    ran = mixhub(*(word.format_map(known) for word in words), "--json")
    assert (ran.code, ran.out) == (code, ""), ran.err
    error = json.loads(ran.err)
    assert error["error"] == kind or (kind is None and error["error"] in ("NotFound", "RepoNotFound"))
    assert said.format_map(known) in error["message"] + error["remedy"]
    assert "\n" not in error["message"] and error["remedy"]
    assert [one["address"] for one in mixhub("ls", "--namespace", ns, "--json").json] == [f"{ns}/a", f"{ns}/b"]
    assert mixhub("show", f"{ns}/x").code == 1, "a refused publication leaves no repo behind"


_shops: dict[str, str] = {}


@pytest.fixture
def shop(place: str, published: Publish, write_lora: Write, few_shot: Path) -> tuple[str, dict[str, str]]:
    """A namespace with a base and two adapters, and folders that nobody wants. On the server, one for all tests."""
    ns = _shops.get(place, f"shop{next(_numbers)}")
    if place == "home" or place not in _shops:
        published(ns)
    _shops[place] = ns
    bad, torn = write_lora("bad"), write_lora("torn")
    (bad / "weights.bin").write_bytes(b"\x80\x02pickle")
    weights = torn / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    alien = write_lora("alien", sites=["decoder.nowhere.q"], base_model_name_or_path=f"{ns}/base")
    return ns, {"ns": ns, "bad": str(bad), "torn": str(torn), "alien": str(alien), "few": str(few_shot)}


def masked(data: Any, folder: Path) -> Any:
    if isinstance(data, dict):
        return {key: "-" if key in ("seconds", "actor") else masked(value, folder) for key, value in data.items()}
    if isinstance(data, list):
        return [masked(value, folder) for value in data]
    if isinstance(data, str):
        text = data.replace(str(folder), "FOLDER")
        return re.sub(r"\b[0-9a-f]{12,64}\b|\d{4}-\d\d-\d\d[ T][\d:]{8}\+00:00", "ID", text)
    return data


def test_every_answer_is_the_same_document_on_both(
    mixhub: Run, published: Publish, few_shot: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Ids, times and where things lie are masked; all else is equal."""

    def told(where: str) -> list[Any]:
        out = tmp_path / where
        found = ["search", "both/a", "both/b", "--examples", few_shot, "--budget", "6", "--as", "both/found"]
        commands = [
            ["ls", "--namespace", "both"], ["show", "both/a"], ["show", "both/base"], ["pull", "both/a", out / "a"],
            ["compose", "both/a=0.5", "both/b=0.25", "--as", "both/mix"], ["show", "both/mix"], found,
            ["show", "both/found"], ["export", "both/mix", "--to", out / "plain"], ["promote", "both/a@v1", "prod"],
            ["history", "both/a"], ["delete", "both/mix", "--yes"], ["show", "both/a"],
        ]  # fmt: skip
        answers = []
        for command in commands:
            ran = mixhub(*command, "--json")
            assert ran.code == 0, (command, ran.err)
            answers.append(masked(ran.json, out))
        return answers

    published("both")
    at_home = told("home")
    request.getfixturevalue("on_server")
    for name in ("base", "a", "b"):
        assert mixhub("publish", tmp_path / f"both-{name}", f"both/{name}").code == 0
    for one, other in zip(at_home, told("server"), strict=True):
        assert one == other


@pytest.mark.parametrize("place", ["server"], indirect=True)
def test_stock_clients_see_what_the_commands_did(
    mixhub: Run, published: Publish, ns: str, served: Any, tmp_path: Path
) -> None:
    folders = published(ns)
    mixhub("promote", f"{ns}/a@v1", "prod")
    api = HfApi(endpoint=served.url, token=served.token)
    assert {tag.name for tag in api.list_repo_refs(f"{ns}/a").tags} == {"v1"}
    got = Path(api.snapshot_download(f"{ns}/a", revision="prod", local_dir=tmp_path / "got"))
    weights = "adapter_model.safetensors"
    assert (got / weights).read_bytes() == (folders[f"{ns}/a"] / weights).read_bytes()
    api.upload_file(repo_id=f"{ns}/a", path_or_fileobj=b"words", path_in_repo="more.txt")
    mixhub("pull", f"{ns}/a", tmp_path / "pulled")
    assert (tmp_path / "pulled" / "more.txt").read_bytes() == b"words"
