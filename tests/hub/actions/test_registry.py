"""Looking and tidying: ls, show, delete, bases, and the checks of a home."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hub.actions import database
from hub.actions.aliases import promote
from hub.actions.bases import add, list_all
from hub.actions.compose import Part, compose, remake
from hub.actions.delete import delete
from hub.actions.export import export
from hub.actions.find import find
from hub.actions.publish import publish
from hub.actions.pull import pull
from hub.actions.show import show
from hub.address import parse_address as at
from hub.card_facts import UsageContract
from hub.errors import UsageError
from hub.home import Home
from hub.settings import Settings
from storage.errors import Conflict, NotFound, PinnedRevision, VersionTaken

Write = Callable[..., Path]


def settings(home: Home) -> Settings:
    return Settings(home=home.directory, database_url="", blobs_url="")


def blob_of(home: Home, address: str, name: str) -> Path:
    """The file that holds the bytes of one published file."""
    from hub.locate import locate

    with home.read() as session:
        file = locate(session, at(address)).file(name)
    assert file is not None
    path = home.blobs.local_path(file.sha256)
    assert path is not None
    return path


def test_ls_filters_by_words_base_task_tag_and_namespace(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    sql = "---\npipeline_tag: text2text-generation\ntags: [sql, demo]\n---\n"
    publish(home, write_lora("a", seed=1, card=sql), at("team/sql"), base=str(tiny_t5))
    publish(home, write_lora("b", seed=2, r=4, base_model_name_or_path="x/y"), at("team/poems"))
    publish(home, write_lora("c", seed=3, card=sql, base_model_name_or_path="x/z"), at("other/sql"))
    found = {
        "all": find(home), "text": find(home, text="sql"), "words": find(home, text="team sql"),
        "base": find(home, base=str(tiny_t5)), "task": find(home, task="text2text-generation"),
        "tag": find(home, tag="SQL"), "namespace": find(home, namespace="team"),
        "both": find(home, tag="sql", namespace="team"),
        "none": find(home, text="nothing"), "limit": find(home, limit=2),
    }  # fmt: skip
    addresses = {what: [a.address for a in hits] for what, hits in found.items()}
    assert addresses == {
        "all": ["other/sql", "team/poems", "team/sql"], "text": ["other/sql", "team/sql"], "words": ["team/sql"],
        "base": ["team/sql"], "task": ["other/sql", "team/sql"], "tag": ["other/sql", "team/sql"],
        "namespace": ["team/poems", "team/sql"], "both": ["team/sql"], "none": [], "limit": ["other/sql", "team/poems"],
    }  # fmt: skip
    poems = found["namespace"][0]
    assert (poems.rank, poems.version, poems.base, poems.base_as_written, poems.state) == (4, "v1", None, "x/y", "ok")


def test_show_has_the_table_of_modules_with_their_shapes(home: Home, write_lora: Write) -> None:
    publish(home, write_lora("a", r=3), at("team/a"))
    modules = show(home, at("team/a")).modules
    assert [(m.rank, m.in_features, m.out_features, m.dtype) for m in modules] == [(3, 16, 16, "float32")] * 2
    assert [m.path.rpartition(".")[2] for m in modules] == ["v", "q"]


def test_a_deleted_version_is_never_given_to_other_content(home: Home, write_lora: Write) -> None:
    one = write_lora("one", seed=1)
    publish(home, one, at("team/a"))
    publish(home, write_lora("two", seed=2), at("team/a"))
    delete(home, at("team/a@v1"))
    assert [v.name for v in show(home, at("team/a")).versions] == ["v2"]
    with pytest.raises(VersionTaken, match="v1"):
        publish(home, write_lora("three", seed=3), at("team/a"), version="v1")
    assert publish(home, write_lora("four", seed=4), at("team/a")).version == "v3"


def test_a_repo_made_again_under_a_deleted_name_goes_on_counting(home: Home, write_lora: Write) -> None:
    publish(home, write_lora("one", seed=1), at("team/a"))
    delete(home, at("team/a"))
    assert find(home) == []
    assert publish(home, write_lora("two", seed=2), at("team/a")).version == "v2"
    assert [v.name for v in show(home, at("team/a")).versions] == ["v2"]


def test_only_versions_and_whole_repos_can_be_deleted(home: Home, write_lora: Write) -> None:
    publish(home, write_lora("a"), at("team/a/folder"))
    for address in ("team/a/folder", "team/a@main", "team/a/folder@v1"):
        with pytest.raises(UsageError):
            delete(home, at(address))
    for address in ("team/none", "team/a@v9"):
        with pytest.raises(NotFound):
            delete(home, at(address))
    assert len(find(home)) == 1


def test_bases_are_listed_with_their_names_and_adapters(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    made = add(home, str(tiny_t5), known_as=["org/tiny-t5", "unsloth/tiny-t5-bnb-4bit"])
    publish(home, write_lora("a"), at("team/a"))
    [known] = list_all(home)
    assert known.identity == made.identity and known.adapters == 1 and known.model_type == "t5"
    assert set(known.names) == {str(tiny_t5), "org/tiny-t5", "unsloth/tiny-t5-bnb-4bit"}
    assert known.tensors_digest is not None


def test_a_name_means_one_base_only(home: Home, tiny_t5: Path, other_base: Callable[..., Path], tmp_path: Path) -> None:
    add(home, str(tiny_t5), known_as=["org/tiny-t5"])
    with pytest.raises(Conflict, match="org/tiny-t5"):
        add(home, str(other_base(tmp_path / "wide", d_model=24)), known_as=["org/tiny-t5"])
    assert len(list_all(home)) == 1


def test_check_finds_a_removed_blob_and_deep_check_an_altered_one(home: Home, write_lora: Write) -> None:
    publish(home, write_lora("a"), at("team/a"))
    assert database.check(settings(home), deep=True).problems == ()
    blob = blob_of(home, "team/a", "adapter_model.safetensors")
    content = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert database.check(settings(home)).problems == ()
    [problem] = database.check(settings(home), deep=True).problems
    assert blob.name in problem
    blob.write_bytes(content[:-1])
    assert len(database.check(settings(home)).problems) == 1
    blob.unlink()
    [problem] = database.check(settings(home)).problems
    assert blob.name in problem and "missing" in problem
    blob.write_bytes(content)
    assert database.check(settings(home), deep=True).problems == ()


def test_gc_removes_leftovers_and_nothing_that_is_used(home: Home, write_lora: Write) -> None:
    publish(home, write_lora("a"), at("team/a"))
    (home.directory / "blobs" / "incoming").mkdir(exist_ok=True)
    (home.directory / "blobs" / "incoming" / "half").write_bytes(b"half a blob")
    stray = home.blobs.put_stream([b"nobody knows me"])
    assert len(database.check(settings(home)).notes) == 2
    assert database.collect_garbage(settings(home), hours=24) == 0
    assert database.collect_garbage(settings(home), hours=0) == 2
    assert home.blobs.size(stray.sha256) is None
    report = database.check(settings(home), deep=True)
    assert (report.problems, report.notes) == ((), ())
    assert database.collect_garbage(settings(home), hours=0) == 0


def test_upgrading_is_repeatable_and_a_new_home_is_set_up_by_it(home: Home, tmp_path: Path) -> None:
    import migrations

    assert database.upgrade(settings(home)) == migrations.HEAD == database.upgrade(settings(home))
    new = Settings(home=tmp_path / "new", database_url="", blobs_url="")
    empty = database.check(new)
    assert empty.problems == () and "empty" in empty.notes[0]
    database.upgrade(new)
    report = database.check(new)
    assert (report.problems, report.notes) == ((), ())
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0


def test_a_repo_that_an_alias_names_is_deleted_only_by_force(home: Home, write_lora: Write) -> None:
    publish(home, write_lora("a"), at("team/a"))
    promote(home, at("team/a@v1"), "prod")
    with pytest.raises(PinnedRevision, match="team/a@prod"):
        delete(home, at("team/a"))
    delete(home, at("team/a"), force=True)
    assert find(home) == []


def test_a_mix_is_remade_after_its_parents_repo_was_deleted(home: Home, write_lora: Write, tmp_path: Path) -> None:
    publish(home, write_lora("a", seed=1), at("team/a"))
    publish(home, write_lora("b", seed=2), at("team/b"))
    mixed = compose(home, [Part(at("team/a"), 0.5), Part(at("team/b"), -1.0)], at("team/mix"), allow_unbound=True)
    files = pull(home, at("team/mix"), tmp_path / "mix").directory
    delete(home, at("team/b"))
    again = remake(home, files, at("team/again"))
    assert mixed.published.created and again.published.created
    first, second = (show(home, at(name)).facts["weights sha256"] for name in ("team/mix", "team/again"))
    assert first == second


def test_what_was_said_of_published_bytes_cannot_be_changed_behind_the_version(
    home: Home, write_lora: Write, tiny_t5: Path, other_base: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_lora("a")
    publish(home, folder, at("team/a"), base=str(tiny_t5), contract=UsageContract(suggested_weight=0.5))
    before = show(home, at("team/a@v1"))
    with pytest.raises(UsageError, match="a revision never changes"):
        publish(home, folder, at("team/a"), base=str(other_base(tmp_path / "other", seed=1)))
    with pytest.raises(UsageError, match=r"suggested weight 0\.5"):
        publish(home, folder, at("team/a"), contract=UsageContract(suggested_weight=0.9))
    assert show(home, at("team/a@v1")) == before


def test_a_base_can_have_a_second_version_and_adapters_stay_bound_to_the_first(
    home: Home, write_lora: Write, tiny_t5: Path, other_base: Callable[..., Path], tmp_path: Path
) -> None:
    publish(home, tiny_t5, at("team/base"))
    publish(home, write_lora("a", seed=1), at("team/a"), base="team/base")
    assert publish(home, other_base(tmp_path / "tuned", seed=1), at("team/base")).version == "v2"
    publish(home, write_lora("b", seed=2), at("team/b"), base="team/base")
    identities = [show(home, at(name)).facts["base identity"] for name in ("team/a", "team/b")]
    assert identities[0] != identities[1]
    export(home, at("team/a"), tmp_path / "fused", fused=True)  # the first version's files are still found
