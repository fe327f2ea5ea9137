"""The command line: exit codes, data on stdout, words on stderr, one JSON document with --json."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[..., Path]
Run = Callable[..., Any]
ISSUE = {
    "publish", "pull", "ls", "show", "compose", "search", "bench", "export", "promote", "rollback", "history", "delete",
    "db",
}  # fmt: skip


@pytest.fixture
def two(mixhub: Run, write_lora: Write, tiny_t5: Path) -> None:
    """team/a@v1 and team/b@v1, bound to one base."""
    for seed, name in enumerate("ab", start=1):
        assert mixhub("publish", write_lora(name, seed=seed, scale=0.2), f"team/{name}", "--base", tiny_t5).code == 0


def test_the_version_is_that_of_the_package(mixhub: Run) -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert mixhub("--version").out == f"mixhub {project['version']}\n"


def test_ctrl_c_while_the_commands_are_imported_is_an_interruption_too(
    mixhub: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pressed:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "hub.cli.commands":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "hub.cli.commands", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Pressed(), *sys.meta_path])
    ran = mixhub("ls")
    assert (ran.code, ran.out, ran.err) == (130, "", "interrupted\n")


def test_help_lists_the_commands_of_the_issue(mixhub: Run) -> None:
    from hub.cli.commands import COMMANDS, app_for

    for module, held in COMMANDS.items():
        own = app_for(held[-1])
        found = [c.name or c.callback.__name__ for c in own.registered_commands if c.callback]
        assert (*found, *[g.name for g in own.registered_groups]) == held, module
    app = app_for()
    names = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    groups = {g.name for g in app.registered_groups}
    later = {
        "base", "demo", "serve", "login", "user", "org", "token", "protect", "verify", "report", "reproduce", "backup",
        "restore",
    }  # fmt: skip
    assert ISSUE <= names | groups <= ISSUE | later
    text = mixhub("--help").out
    for name in ISSUE:
        assert re.search(rf"^\W*{name}\s", text, re.MULTILINE), name


def test_every_command_explains_itself_and_has_json(mixhub: Run) -> None:
    commands = [(name,) for name in ISSUE - {"db"}] + [("db", n) for n in ("upgrade", "check", "gc")]
    for command in [*commands, ("base", "add"), ("base", "ls")]:
        ran = mixhub(*command, "--help")
        assert ran.code == 0 and "--json" in ran.out, command


@pytest.mark.usefixtures("two")
def test_with_json_stdout_is_one_document_for_every_command(
    mixhub: Run, write_lora: Write, few_shot: Path, tiny_t5: Path, tmp_path: Path
) -> None:
    published = mixhub("publish", write_lora("a2", seed=5), "team/a", "-m", "better", "--json").json
    assert (published["address"], published["version"], published["created"]) == ("team/a@v2", "v2", True)
    pulled = mixhub("pull", "team/a@v1", tmp_path / "out", "--json").json
    assert sorted(pulled["files"]) == ["adapter_config.json", "adapter_model.safetensors"]
    assert [a["address"] for a in mixhub("ls", "--json").json] == ["team/a", "team/b"]
    shown = mixhub("show", "team/a", "--json").json
    assert [v["name"] for v in shown["versions"]] == ["v1", "v2"] and len(shown["modules"]) == 2
    mixed = mixhub("compose", "team/a@v1=0.5", "team/b=-0.5", "--as", "team/mix", "--json").json
    assert [p["weight"] for p in mixed["parts"]] == [0.5, -0.5] and mixed["version"] == "v1"
    found = mixhub("search", "team/a@v1", "team/b", "--examples", few_shot, "--budget", "4", "--json").json
    assert len(found["trials"]) == 4 and found["stopped"] is False
    exported = mixhub("export", "team/mix", "--to", tmp_path / "exp", "--json").json
    assert Path(exported["directory"]).is_dir() and exported["max_change"] == 0
    assert mixhub("promote", "team/a@v1", "prod", "--json").json["label"] == "v1"
    assert mixhub("promote", "team/a@v2", "prod", "--json").json["seq"] == 2
    assert mixhub("rollback", "team/a", "prod", "--json").json["label"] == "v1"
    assert len(mixhub("history", "team/a", "--json").json) == 3
    assert mixhub("base", "add", tiny_t5, "--known-as", "x/y", "--json").json["model_type"] == "t5"
    assert mixhub("base", "ls", "--json").json[0]["adapters"] == 3
    assert mixhub("db", "upgrade", "--json").json["schema"]
    assert mixhub("db", "check", "--deep", "--json").json["problems"] == []
    assert mixhub("db", "gc", "--json").json == {"removed_blobs": 0}
    assert mixhub("delete", "team/mix", "--json").code == 2  # it cannot ask
    assert "deleted" in mixhub("delete", "team/mix", "--json", "--yes").json["sentence"]
    assert mixhub("ls", "--json", "mix").json == []


@pytest.mark.usefixtures("two")
def test_json_is_what_every_parser_accepts_also_where_a_loss_is_not_finite(
    mixhub: Run, write_lora: Write, few_shot: Path, tiny_t5: Path
) -> None:
    wild = write_lora("wild", scale=1e25)
    assert mixhub("publish", wild, "team/wild", "--base", tiny_t5).code == 0
    ran = mixhub(
        "search", "team/wild", "team/a", "--examples", few_shot, "--budget", "5", "--method", "exact", "--json"
    )

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    found = json.loads(ran.out, parse_constant=refuse)
    assert next(t["loss"] for t in found["trials"] if t["kind"] == "single") is None


@pytest.mark.usefixtures("two")
def test_without_json_data_is_on_stdout_and_words_are_on_stderr(
    mixhub: Run, write_lora: Write, few_shot: Path, tmp_path: Path
) -> None:
    unbound = mixhub("publish", write_lora("u", base_model_name_or_path="no/base"), "team/u")
    assert unbound.out.startswith("published team/u@v1") and "unbound" in unbound.err and "unbound" not in unbound.out
    listed = mixhub("ls")
    assert "team/a" in listed.out and "team/u" in listed.out and listed.err == ""
    assert mixhub("ls", "nothing-like-it").err.startswith("nothing found")
    shown = mixhub("show", "team/a").out
    for said in ("versions", "v1", "modules", "EncDecAttention.v", "rank", "type"):
        assert said in shown
    mixhub("compose", "team/a=0.6", "team/b=-0.3", "--as", "team/mix")
    lineage = mixhub("show", "team/mix").out
    assert "made of (method lorahub)" in lineage and "+0.6" in lineage and "-0.3" in lineage
    assert "used in" in mixhub("show", "team/a").out
    found = mixhub("search", "team/a", "team/b", "--examples", few_shot, "--budget", "6", "--as", "team/found")
    for said in ("base", "uniform", "best single", "found (default search)", "evaluations", "seed 0"):
        assert said in found.out
    assert found.code == 0 and "--resume" in found.err
    assert mixhub("export", "team/mix", "--to", tmp_path / "e").out.startswith(str(tmp_path / "e"))
    assert "consistent" in mixhub("db", "check").out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["show", "team/none"], 1, "team/none"),
        (["pull", "team/a@v9"], 1, "v9"),
        (["publish", "/no/such/folder", "team/x"], 1, "/no/such/folder"),
        (["show", "no-namespace"], 2, "no-namespace"),
        (["compose", "team/a", "--as", "team/x"], 2, "team/a"),
        (["compose", "team/a=much", "--as", "team/x"], 2, "team/a=much"),
        (["compose", "team/a=", "--as", "team/x"], 2, "team/a="),
        (["compose", "=0.5", "--as", "team/x"], 2, "namespace/name"),
        (["compose", "team/a=nan", "--as", "team/x"], 2, "nan"),
        (["compose", "team/a=1"], 2, "--as"),
        (["compose"], 2, "--recipe"),
        (["compose", "team/a=1", "--as", "team/x", "--method", "magic"], 2, "magic"),
        (["compose", "--recipe", "x.json", "--as", "team/x", "--method", "exact"], 2, "--method"),
        (["compose", "--recipe", "missing.json", "--as", "team/x"], 1, "missing.json"),
        (["search", "team/a"], 2, "--examples"),
        (["search", "team/a", "--examples", "missing.jsonl"], 2, "missing.jsonl"),
        (["search", "team/a", "--examples", "x", "--bounds", "1"], 2, "--bounds"),
        (["search", "team/a", "--examples", "x", "--bounds", "2,1"], 2, "--bounds"),
        (["search", "--resume", "0123456789ab"], 1, "0123456789ab"),
        (["search", "--resume", "0123456789ab", "--budget", "40"], 2, "--budget"),
        (["search", "--resume", "0123456789ab", "--seed", "0", "--device", "cpu"], 2, "--seed, --device"),
        (["search", "--resume", "0123456789ab", "--as", "team/x", "--finish"], 2, "--as"),
        (["search", "--resume", "0123456789ab", "--allow-unbound"], 2, "--allow-unbound"),
        (["search", "--resume", "0123456789ab", "team/a"], 2, "adapters"),
        (["search", "team/a", "--examples", "x", "--finish"], 2, "--resume ID --finish"),
        (["search", "team/a", "--examples", "x", "--device", "nonsense"], 2, "--device cpu"),
        (["search", "team/a", "--examples", "x", "--ray-actors", "2"], 2, "--ray"),
        (["search", "team/a", "--examples", "x", "--ray", "--optimizer", "adam"], 2, "--optimizer fit"),
        (["search", "team/a", "--examples", "x", "--ray", "--device", "cuda:1"], 2, "--device cuda"),
        (["search", "team/a", "--examples", "x", "--budget", "2"], 2, "--budget 3"),
        (["promote", "team/a@v1", "main"], 2, "main"),
        (["rollback", "team/a", "prod"], 1, "prod"),
        (["delete", "team/a@v1@v2", "--yes"], 2, "v1@v2"),
        (["export", "team/a"], 2, "--to"),
        (["ls", "--limit", "0"], 2, "limit"),
        (["nonsense"], 2, "nonsense"),
    ],
)
@pytest.mark.usefixtures("two")
def test_errors_name_the_thing_on_stderr_with_their_exit_code(
    mixhub: Run, words: list[str], code: int, said: str
) -> None:
    ran = mixhub(*words)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err and "Traceback" not in ran.err
    if words[0] not in ("nonsense", "ls", "export"):  # these are typer's own
        assert ran.err.startswith("error:") and "try:" in ran.err
        as_json = mixhub(*words, "--json")
        document = json.loads(as_json.err)
        assert as_json.code == code and as_json.out == "" and set(document) == {"error", "message", "remedy"}


def test_deleting_asks_first(mixhub: Run, write_lora: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    mixhub("publish", write_lora("a"), "team/a")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert mixhub("delete", "team/a").code == 1
    assert "team/a" in mixhub("ls").out
    assert mixhub("delete", "team/a", "--yes").code == 0
    assert mixhub("ls", "--json").json == []


def test_db_check_has_exit_code_1_when_something_is_wrong(mixhub: Run, write_lora: Write, home_folder: Path) -> None:
    mixhub("publish", write_lora("a"), "team/a")
    assert mixhub("db", "check").code == 0
    for blob in (home_folder / "blobs").glob("??/*"):
        blob.unlink()
    broken = mixhub("db", "check")
    assert broken.code == 1 and "not consistent" in broken.out and "missing" in broken.out
    assert mixhub("db", "check", "--json").json["problems"]


def test_failures_of_the_machine_are_errors_not_tracebacks(
    mixhub: Run, write_lora: Write, home_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = write_lora("a")
    mixhub("publish", folder, "team/a")
    (tmp_path / "file").write_text("x")
    ran = mixhub("pull", "team/a", tmp_path / "file" / "below")
    assert ran.code == 1 and "file" in ran.err and "Traceback" not in ran.err
    (home_folder / "mixhub.sqlite").write_bytes(b"this is not a database" * 100)
    ran = mixhub("ls")
    assert ran.code == 1 and "database" in ran.err and "Traceback" not in ran.err
    for url in ("nonsense", "sqlite:////no/such/folder/x.sqlite"):
        monkeypatch.setenv("MIXHUB_DATABASE_URL", url)
        ran = mixhub("ls")
        assert ran.code == 1 and ran.err.startswith("error:"), url
    monkeypatch.delenv("MIXHUB_DATABASE_URL")
    monkeypatch.setenv("MIXHUB_HOME", str(tmp_path / "file"))
    ran = mixhub("ls")
    assert ran.code == 1 and ran.err.startswith("error:")


def test_an_empty_mixhub_home_is_not_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from hub.settings import Settings

    monkeypatch.setenv("MIXHUB_HOME", "")
    monkeypatch.chdir(tmp_path)
    assert Settings().directory == Path("~/.mixhub").expanduser()


def test_words_in_brackets_from_files_are_printed_as_they_are(mixhub: Run, write_lora: Write) -> None:
    card = "---\ntags: ['[red]x[/red]', 'a\\[b]', '[/]']\nlicense: '[bold]mit'\n---\n"
    mixhub("publish", write_lora("a", card=card), "team/a")
    shown = mixhub("show", "team/a").out
    for text in ("[red]x[/red]", "[/]", "[bold]mit", "a\\[b]"):
        assert text in shown


def test_a_mix_says_the_licences_of_its_parts_and_which_cannot_all_hold(mixhub: Run, write_lora: Write) -> None:
    for i, licence in enumerate(("mit", "gpl-2.0", "apache-2.0")):
        mixhub("publish", write_lora(f"p{i}", seed=i, card=f"---\nlicense: {licence}\n---\n"), f"team/p{i}")
    fits = mixhub("compose", "team/p0=1", "team/p1=1", "--as", "team/fits", "--allow-unbound", "--json")
    assert fits.json["licences"] == {"team/p0": "mit", "team/p1": "gpl-2.0"}
    assert "licence conflict" not in fits.out + fits.err
    clash = mixhub("compose", "team/p1=1", "team/p2=1", "--as", "team/clash", "--allow-unbound")
    assert clash.code == 0 and "licence conflict: apache-2.0 (team/p2) and gpl-2.0 (team/p1)" in clash.err
