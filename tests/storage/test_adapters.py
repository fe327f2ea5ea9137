"""Bases, facts about adapters, and finding them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy.orm import Session

from storage import adapters, bases, repos
from storage.adapter_search import AdapterFilter, find_adapters
from storage.adapters import AdapterFacts, Module, Tag, Usage
from storage.bases import Base, BaseFacts, BaseName
from storage.errors import Conflict, InvalidName
from storage.repos import Repo
from storage.revisions import Revision

MakeRepo = Callable[..., Repo]
Commit = Callable[..., Revision]

T5 = BaseFacts("a" * 64, {"model_type": "t5", "d_model": 8}, {"shared.weight": (16, 8)}, 128)
GPT2 = BaseFacts("b" * 64, {"model_type": "gpt2"}, {"wte.weight": (16, 4)}, 64)

T5_IDENTITY = hashlib.sha256(f"{T5.digest} ".encode()).hexdigest()  # nobody read its values, it has no name

FACTS = AdapterFacts(
    base_identity=T5_IDENTITY,
    base_model_name="google/T5-small",
    base_model_revision="main",
    peft_type="LORA",
    task_type="SEQ_2_SEQ_LM",
    alpha=16.0,
    scaling_kind="lora",
    target_modules=("q", "v"),
    modules=(Module("enc.q", 4, 8, 8, "float32"), Module("enc.v", 8, 8, 8, "float32")),
    parameter_count=192,
    dtype="float32",
    modules_matched=1,
    missing_modules=("enc.v",),
    zero_delta=False,
    weights_sha256="1" * 64,
    config_sha256="2" * 64,
    licence="apache-2.0",
    usage=Usage("Q: {input}", "{{ messages }}", {"0": "no", "1": "yes"}, ("\n", "###"), 0.5),
    tags=(Tag("dataset", "sst2"), Tag("metric", "accuracy", "0.9"), Tag("tag", "english"), Tag("task", "sentiment")),
)


@pytest.fixture
def base(session: Session) -> Base:
    return bases.ensure_base(session, T5)


class TestBases:
    def test_one_base_has_many_names(self, session: Session, base: Base) -> None:
        for name, kind in (("t5-small", "hub"), ("/models/t5", "path"), ("unsloth/t5-4bit", "quantised")):
            named = bases.add_name(session, base, name, kind=kind)
            assert bases.find_base(session, name) == named
        assert named.names == (
            BaseName("/models/t5", "path"), BaseName("t5-small", "hub"), BaseName("unsloth/t5-4bit", "quantised"),
        )  # fmt: skip
        assert bases.ensure_base(session, T5, name="t5-small") == named
        assert bases.find_base(session, base.identity) == bases.find_base(session, base.identity[:12]) == named
        assert bases.find_base(session, base.identity[:11]) is None
        assert bases.find_base(session, "%" * 12) is None

    def test_a_name_means_one_base_but_a_path_may_come_to_mean_another(self, session: Session, base: Base) -> None:
        other = bases.ensure_base(session, GPT2)
        bases.add_name(session, base, "model", kind="hub")
        bases.add_name(session, base, "/model", kind="path")
        with pytest.raises(Conflict, match="model") as caught:
            bases.add_name(session, other, "model", kind="hub")
        assert (caught.value.expected, caught.value.found) == (base.identity, other.identity)
        with pytest.raises(Conflict):
            bases.add_name(session, other, "model", kind="path")
        moved = bases.add_name(session, other, "/model", kind="path")
        assert bases.find_base(session, "/model") == moved
        assert [known.facts.digest for known in bases.every(session)] == [T5.digest, GPT2.digest]

    def test_equal_values_are_one_base_whatever_the_name(self, session: Session) -> None:
        read = replace(T5, tensors_digest="c" * 64)
        one = bases.add_name(session, bases.ensure_base(session, read, name="org/t5"), "org/t5", kind="hub")
        mirror = bases.ensure_base(session, read, name="mirror/t5")
        assert mirror == one
        tuned = bases.ensure_base(session, replace(T5, tensors_digest="d" * 64), name="org/t5-tuned")
        assert tuned.identity != one.identity

    def test_values_that_nobody_read_are_believed_under_a_known_name_only(self, session: Session) -> None:
        base = bases.add_name(session, bases.ensure_base(session, T5, name="org/t5"), "org/t5", kind="hub")
        assert bases.ensure_base(session, T5, name="org/t5") == base
        assert bases.ensure_base(session, T5, name="org/t5-tuned").identity != base.identity

    def test_values_read_later_are_added_and_the_identity_stays(self, session: Session) -> None:
        base = bases.add_name(session, bases.ensure_base(session, T5, name="org/t5"), "org/t5", kind="hub")
        read = bases.ensure_base(session, replace(T5, tensors_digest="c" * 64), name="org/t5")
        assert (read.identity, read.facts.tensors_digest) == (base.identity, "c" * 64)
        assert bases.ensure_base(session, T5, name="org/t5") == read
        other = bases.ensure_base(session, replace(T5, tensors_digest="d" * 64), name="org/t5")
        assert other.identity != base.identity
        with pytest.raises(Conflict, match="org/t5"):
            bases.add_name(session, other, "org/t5", kind="hub")

    def test_names_that_an_index_cannot_keep_are_refused(self, session: Session, base: Base) -> None:
        for name in ("", "x" * 1025, "a\0b"):
            with pytest.raises(InvalidName):
                bases.add_name(session, base, name, kind="path")


class TestFacts:
    @pytest.mark.usefixtures("base")
    def test_facts_come_back_as_they_were(self, session: Session, make_repo: MakeRepo, commit: Commit) -> None:
        revision = commit(session, make_repo(session))
        adapters.record_facts(session, revision, FACTS)
        assert adapters.facts_of(session, revision) == FACTS
        assert (FACTS.ranks, FACTS.binding, FACTS.modules_missing) == ({"enc.q": 4, "enc.v": 8}, "bound", 1)
        assert adapters.facts_of(session, revision, "other") is None

    def test_the_least_that_is_known_can_be_recorded(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        revision = commit(session, make_repo(session))
        unusable = AdapterFacts(folder="x/y", usable=False, refusal="VeRA cannot be mixed yet")
        adapters.record_facts(session, revision, unusable)
        assert adapters.facts_of(session, revision, "x/y") == unusable
        assert unusable.binding == "unbound"

    @pytest.mark.usefixtures("base")
    def test_each_folder_has_its_own_facts_and_a_second_look_replaces_them(
        self, session: Session, make_repo: MakeRepo, commit: Commit
    ) -> None:
        revision = commit(session, make_repo(session))
        inner = replace(FACTS, folder="tasks/b", tags=())
        for facts in (FACTS, inner, replace(FACTS, zero_delta=True, tags=(Tag("tag", "new"),))):
            adapters.record_facts(session, revision, facts)
        assert adapters.folders_of(session, revision) == ["", "tasks/b"]
        assert adapters.facts_of(session, revision, "tasks/b") == inner
        assert adapters.facts_of(session, revision) == replace(FACTS, zero_delta=True, tags=(Tag("tag", "new"),))

    def test_facts_that_cannot_be_kept_are_refused(self, session: Session, make_repo: MakeRepo, commit: Commit) -> None:
        revision = commit(session, make_repo(session))
        plain = replace(FACTS, base_identity=None)
        for bad in (
            replace(plain, folder="../x"), replace(plain, base_identity="f" * 64), replace(plain, licence="a\0b"),
            replace(plain, usage=Usage(prompt_template="\ud800")), replace(plain, tags=(Tag("tag", "x" * 257),)),
            replace(plain, tags=(Tag("tag", "\0"),)),
        ):  # fmt: skip
            with pytest.raises(InvalidName):
                adapters.record_facts(session, revision, bad)
        assert adapters.folders_of(session, revision) == []


class TestFindAdapters:
    @pytest.fixture
    def hub(self, session: Session, base: Base, make_repo: MakeRepo, commit: Commit) -> dict[str, Repo]:
        """ann/multi holds two adapters; bob/secret is private; ann/old had an adapter in an earlier commit only."""
        bases.add_name(session, base, "t5-small", kind="hub")
        multi = make_repo(session, "multi", account="ann")
        revision = commit(session, multi, b"1")
        adapters.record_facts(session, revision, FACTS)
        modules = (Module("enc.q", 2, 8, 8, "float32"),)
        adapters.record_facts(session, revision, replace(FACTS, folder="b", modules=modules, tags=(), licence="MIT"))
        secret = make_repo(session, "secret", account="bob", visibility="private")
        facts = replace(FACTS, base_identity=None, task_type="CAUSAL_LM", tags=(Tag("task", "100%_math"),))
        adapters.record_facts(session, commit(session, secret, b"2"), facts)
        old = make_repo(session, "old", account="ann")
        adapters.record_facts(session, commit(session, old, b"3"), FACTS)
        commit(session, old, b"4")
        return {"multi": multi, "secret": secret, "old": old}

    @pytest.mark.parametrize(
        ("conditions", "expected"),
        [
            ({}, ["ann/multi", "ann/multi/b", "bob/secret"]),
            ({"account": "ANN"}, ["ann/multi", "ann/multi/b"]),
            ({"text": "t5 MULTI"}, ["ann/multi", "ann/multi/b"]),
            ({"text": "sentiment"}, ["ann/multi"]),
            ({"text": "ann/multi/b"}, ["ann/multi/b"]),
            ({"text": "100%_"}, ["bob/secret"]),
            ({"text": "%"}, ["bob/secret"]),
            ({"text": "nothing t5"}, []),
            ({"base": "t5-small"}, ["ann/multi", "ann/multi/b"]),
            ({"base": T5_IDENTITY}, ["ann/multi", "ann/multi/b"]),
            ({"base": "unknown"}, []),
            ({"task": "Sentiment"}, ["ann/multi"]),
            ({"task": "causal_lm"}, ["bob/secret"]),
            ({"tag": "english"}, ["ann/multi"]),
            ({"rank": 2}, ["ann/multi/b"]),
            ({"rank": 4}, []),
            ({"peft_type": "lora", "licence": "mit"}, ["ann/multi/b"]),
            ({"usable": False}, []),
            ({"readable_by": ()}, ["ann/multi", "ann/multi/b"]),
            ({"readable_by": ("Bob",)}, ["ann/multi", "ann/multi/b", "bob/secret"]),
        ],
    )
    def test_all_conditions_hold_for_what_is_found(
        self, session: Session, hub: dict[str, Repo], conditions: dict[str, object], expected: list[str]
    ) -> None:
        assert hub
        found = find_adapters(session, AdapterFilter(**conditions))  # type: ignore[arg-type]
        assert [adapter.address for adapter in found] == expected

    def test_a_page_is_a_slice_and_facts_belong_to_their_adapter(self, session: Session, hub: dict[str, Repo]) -> None:
        every = find_adapters(session)
        assert find_adapters(session, limit=1, offset=1) == every[1:2]
        assert every[0].facts == FACTS
        assert every[1].facts.licence == "MIT"
        assert hub["multi"].id == every[0].repo_id

    def test_deleted_repos_show_no_adapters(self, session: Session, hub: dict[str, Repo]) -> None:
        repos.delete(session, hub["multi"], actor="ann")
        assert [adapter.address for adapter in find_adapters(session)] == ["bob/secret"]


@pytest.mark.usefixtures("base")
def test_facts_of_chosen_folders_are_copied_whole_to_another_revision(
    session: Session, make_repo: MakeRepo, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "BATCH", 2)
    repo = make_repo(session)
    old, new = commit(session, repo, b"old"), commit(session, repo, b"new")
    bare = AdapterFacts(usable=False, refusal="a prompt")
    kept = [replace(FACTS, folder=folder) for folder in ("", "a", "b/c")]
    for facts in (*kept, replace(bare, folder="d"), replace(FACTS, folder="left out")):
        adapters.record_facts(session, old, facts)
    adapters.record_facts(session, new, replace(bare, folder="own"))
    adapters.copy_facts(session, old, new, ["d", "b/c", "", "a"])
    found = adapters.facts_of_all(session, [old.id, new.id])
    assert found[new.id] == [*kept, replace(bare, folder="d"), replace(bare, folder="own")]
    assert len(found[old.id]) == 5
    assert adapters.usable_folders_of(session, new) == ["", "a", "b/c"]
