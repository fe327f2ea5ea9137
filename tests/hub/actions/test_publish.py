"""Publishing a folder: revisions, versions, folders, facts, and the base that an adapter is bound to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compose.errors import IncompatibleAdapters
from hub.actions.bases import add as add_base
from hub.actions.find import find
from hub.actions.publish import publish
from hub.actions.show import show
from hub.address import parse_address as at
from hub.card_facts import UsageContract
from hub.errors import BadUpload, UnknownBase, UsageError
from hub.home import Home
from hub.locate import locate
from storage import adapters, revisions
from storage.adapters import AdapterFacts
from storage.errors import VersionTaken

Write = Callable[..., Path]


def facts(home: Home, address: str) -> AdapterFacts:
    with home.read() as session:
        pinned = locate(session, at(address))
        found = adapters.facts_of(session, pinned.revision, pinned.folder)
    assert found is not None
    return found


def commits(home: Home, address: str) -> list[str]:
    """Commit ids of main, oldest first."""
    with home.read() as session:
        return [r.commit_id for r in reversed(revisions.log(session, locate(session, at(address)).revision))]


def test_each_change_is_a_revision_with_the_next_version_and_main_moves(home: Home, write_lora: Write) -> None:
    done = [publish(home, write_lora(f"s{seed}", seed=seed), at("team/a")) for seed in range(3)]
    assert [d.version for d in done] == ["v1", "v2", "v3"] and all(d.created for d in done)
    assert commits(home, "team/a") == [d.commit_id for d in done]
    assert show(home, at("team/a")).commit_id == done[2].commit_id
    assert show(home, at("team/a@v1")).commit_id == done[0].commit_id


def test_unchanged_content_makes_no_revision_and_no_version(home: Home, write_lora: Write) -> None:
    folder = write_lora("a")
    first = publish(home, folder, at("team/a"))
    again = publish(home, folder, at("team/a"), message="nothing new")
    assert (again.created, again.version, again.commit_id) == (False, "v1", first.commit_id)
    assert [v.name for v in show(home, at("team/a")).versions] == ["v1"]
    assert commits(home, "team/a") == [first.commit_id]


def test_unchanged_content_gets_no_second_version_when_one_is_asked_for(home: Home, write_lora: Write) -> None:
    folder = write_lora("a")
    publish(home, folder, at("team/a"))
    assert publish(home, folder, at("team/a"), version="v1").created is False
    with pytest.raises(UsageError, match="team/a@v1 already"):
        publish(home, folder, at("team/a"), version="v9")
    assert [version.name for version in show(home, at("team/a")).versions] == ["v1"]


def test_going_back_to_old_content_is_a_new_revision_and_version(home: Home, write_lora: Write) -> None:
    one, two = write_lora("one", seed=1), write_lora("two", seed=2)
    done = [publish(home, folder, at("team/a")) for folder in (one, two, one)]
    assert [d.version for d in done] == ["v1", "v2", "v3"]
    assert len({d.commit_id for d in done}) == 3


def test_a_version_can_be_chosen_and_the_next_one_counts_on_from_it(home: Home, write_lora: Write) -> None:
    assert publish(home, write_lora("a", seed=1), at("team/a"), version="v7").version == "v7"
    assert publish(home, write_lora("b", seed=2), at("team/a")).version == "v8"


def test_a_version_that_is_taken_refuses_other_content_and_nothing_changes(home: Home, write_lora: Write) -> None:
    first = publish(home, write_lora("a", seed=1), at("team/a"))
    with pytest.raises(VersionTaken, match="v1"):
        publish(home, write_lora("b", seed=2), at("team/a"), version="v1")
    assert commits(home, "team/a") == [first.commit_id]
    assert publish(home, write_lora("c", seed=1), at("team/a"), version="v1").created is False


@pytest.mark.parametrize("version", ["1.0", "v0", "v01", "latest", "v-1"])
def test_a_version_of_another_form_is_refused(home: Home, write_lora: Write, version: str) -> None:
    with pytest.raises(UsageError, match="is not a version"):
        publish(home, write_lora("a"), at("team/a"), version=version)
    assert find(home) == []


def test_publishing_to_a_revision_is_refused(home: Home, write_lora: Write) -> None:
    with pytest.raises(UsageError, match="names a revision"):
        publish(home, write_lora("a"), at("team/a@v1"))


def test_one_folder_with_adapters_in_subfolders_lists_each_of_them(home: Home, write_lora: Write) -> None:
    write_lora("tree/left", r=1)
    done = publish(home, write_lora("tree/right", r=3).parent, at("team/many"))
    assert done.adapters == ("left", "right")
    assert [a.address for a in find(home)] == ["team/many/left", "team/many/right"]
    assert [facts(home, f"team/many/{side}@v1").ranks.popitem()[1] for side in ("left", "right")] == [1, 3]


def test_publishing_to_one_folder_keeps_the_others_with_their_facts(
    home: Home, write_lora: Write, tiny_t5: Path
) -> None:
    publish(home, write_lora("one", seed=1, card="---\nlicense: mit\n---\n"), at("team/many/one"), base=str(tiny_t5))
    before = facts(home, "team/many/one")
    done = publish(home, write_lora("two", seed=2), at("team/many/two"))
    assert done.version == "v2"
    assert facts(home, "team/many/one") == before and before.licence == "mit"
    assert [a.address for a in find(home)] == ["team/many/one", "team/many/two"]
    changed = publish(home, write_lora("one2", seed=3), at("team/many/one"))
    assert changed.version == "v3" and facts(home, "team/many/one").licence is None
    assert facts(home, "team/many/one@v2") == before
    root = publish(home, write_lora("root", seed=4), at("team/many"))
    assert root.version == "v4"
    assert [a.address for a in find(home)] == ["team/many", "team/many/one", "team/many/two"]


def test_the_root_keeps_other_adapters_folders_unless_all_is_replaced(home: Home, write_lora: Write) -> None:
    publish(home, write_lora("in-folder", seed=1), at("team/many/one"))
    root = write_lora("root", seed=2)
    publish(home, root, at("team/many"))
    assert [a.address for a in find(home)] == ["team/many", "team/many/one"]
    publish(home, root, at("team/many"), replace_all=True)
    assert [a.address for a in find(home)] == ["team/many"]


def test_a_file_that_left_the_folder_leaves_the_repo(home: Home, write_lora: Write) -> None:
    folder = write_lora("a", card="hello")
    publish(home, folder, at("team/a"))
    (folder / "README.md").unlink()
    publish(home, folder, at("team/a"))
    with home.read() as session:
        assert {f.path for f in locate(session, at("team/a")).files} == {
            "adapter_config.json",
            "adapter_model.safetensors",
        }


def test_the_contract_comes_from_options_then_the_card_then_the_template_file(home: Home, write_lora: Write) -> None:
    card = (
        "---\nlicense: apache-2.0\npipeline_tag: text2text-generation\ntags: [lora, sql]\nmetrics: [accuracy]\n"
        "mixhub:\n  prompt_template: 'Q: {input}'\n  stop_strings: ['</s>']\n  suggested_weight: 0.8\n---\ntext"
    )
    folder = write_lora("a", card=card)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    publish(home, folder, at("team/a"), contract=UsageContract(suggested_weight=0.5, label_texts={"y": "yes"}))
    usage = facts(home, "team/a").usage
    assert (usage.prompt_template, usage.chat_template) == ("Q: {input}", "{{ messages }}")
    assert (usage.stop_strings, usage.suggested_weight) == (("</s>",), 0.5)
    assert usage.label_texts == {"y": "yes"}
    shown = show(home, at("team/a")).facts
    assert (shown["licence"], shown["tasks"], shown["metrics"]) == ("apache-2.0", "text2text-generation", "accuracy")
    assert shown["tags"] == "lora, sql" and shown["prompt template"] == "Q: {input}"


def test_what_was_said_once_is_kept_when_the_same_content_is_published_again(
    home: Home, write_lora: Write, tiny_t5: Path
) -> None:
    folder = write_lora("a")
    publish(home, folder, at("team/a"), base=str(tiny_t5), contract=UsageContract(suggested_weight=0.5))
    before = facts(home, "team/a")
    again = publish(home, folder, at("team/a"))
    assert not again.created and facts(home, "team/a") == before
    publish(home, folder, at("team/a"), contract=UsageContract(prompt_template="Q: {input}"))
    later = facts(home, "team/a")  # what was left open may be said later
    assert (later.usage.suggested_weight, later.usage.prompt_template) == (0.5, "Q: {input}")
    assert later.base_identity == before.base_identity


def test_an_adapter_without_a_known_base_is_unbound_and_this_is_said(home: Home, write_lora: Write) -> None:
    done = publish(home, write_lora("a"), at("team/a"))
    assert any("unbound" in note and "org/tiny-t5" in note for note in done.notes)
    found = facts(home, "team/a")
    assert (found.binding, found.base_identity, found.base_model_name) == ("unbound", None, "org/tiny-t5")
    assert (found.modules_matched, found.missing_modules) == (None, ())


def test_a_base_folder_binds_and_its_fit_is_counted(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    done = publish(home, write_lora("a"), at("team/a"), base=str(tiny_t5))
    found = facts(home, "team/a")
    assert done.notes == () and found.binding == "bound"
    assert (found.modules_matched, found.missing_modules, found.zero_delta) == (2, (), False)


def test_a_base_that_is_published_in_the_home_binds_by_its_name(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    publish(home, tiny_t5, at("org/tiny-t5"))
    assert publish(home, write_lora("a"), at("team/a")).notes == ()
    assert publish(home, write_lora("b", seed=1, base_model_name_or_path=None), at("team/b"), base="org/tiny-t5")
    digests = {facts(home, f"team/{name}").base_identity for name in "ab"}
    assert len(digests) == 1 and None not in digests
    assert show(home, at("org/tiny-t5")).facts["holds"] == "a base model"


def test_other_names_of_a_base_bind_to_the_same_identity(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    known = add_base(home, str(tiny_t5), known_as=["org/tiny-t5", "unsloth/tiny-t5-bnb-4bit", "/data/models/tiny"])
    written = ["org/tiny-t5", "unsloth/tiny-t5-bnb-4bit", "/data/models/tiny"]
    for i, name in enumerate(written):
        done = publish(home, write_lora(f"a{i}", seed=i, base_model_name_or_path=name), at(f"team/a{i}"))
        assert done.notes == ()
        assert facts(home, f"team/a{i}").base_identity == known.identity
    for name in written:
        assert len(find(home, base=name)) == 3
    assert find(home, base="never/heard") == []


def test_the_same_shapes_with_other_values_are_another_base(
    home: Home, write_lora: Write, tiny_t5: Path, other_base: Callable[..., Path], tmp_path: Path
) -> None:
    retrained = other_base(tmp_path / "retrained", seed=9)
    publish(home, write_lora("a"), at("team/a"), base=str(tiny_t5))
    publish(home, write_lora("b", seed=1), at("team/b"), base=str(retrained))
    assert facts(home, "team/a").base_identity != facts(home, "team/b").base_identity
    assert [a.address for a in find(home, base=str(retrained))] == ["team/b"]


def test_a_base_that_cannot_be_found_is_an_error(home: Home, write_lora: Write) -> None:
    with pytest.raises(UnknownBase, match="no/such-base") as caught:
        publish(home, write_lora("a"), at("team/a"), base="no/such-base")
    assert caught.value.remedy and find(home) == []


def test_an_adapter_none_of_whose_modules_is_in_the_base_is_refused(
    home: Home, write_lora: Write, tiny_t5: Path
) -> None:
    folder = write_lora("a", sites=["model.layers.0.self_attn.q_proj"])
    with pytest.raises(IncompatibleAdapters, match=r"none of its 1 modules.*self_attn.q_proj"):
        publish(home, folder, at("team/a"), base=str(tiny_t5))
    assert find(home) == []


def test_modules_that_the_base_lacks_are_noted_in_the_facts(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    lost = "encoder.block.7.layer.0.SelfAttention.q"
    folder = write_lora("a", sites=["encoder.block.0.layer.0.SelfAttention.q", lost])
    done = publish(home, folder, at("team/a"), base=str(tiny_t5))
    assert any("1 of 2 modules" in note and lost in note for note in done.notes)
    found = facts(home, "team/a")
    assert (found.modules_matched, found.missing_modules) == (1, (lost,))
    assert show(home, at("team/a")).facts["missing in base"] == lost


def test_an_adapter_whose_b_is_zero_is_stored_and_said_to_do_nothing(home: Home, write_lora: Write) -> None:
    site = "encoder.block.0.layer.0.SelfAttention.q"
    zero = {f"base_model.model.{site}.lora_B.weight": torch.zeros(16, 2)}
    done = publish(home, write_lora("a", sites=[site], tensors=zero), at("team/a"))
    assert any("changes nothing" in note for note in done.notes)
    assert facts(home, "team/a").zero_delta is True
    assert [a.state for a in find(home)] == ["no effect"]


@pytest.mark.parametrize(
    ("config", "named"),
    [({"use_qalora": True}, "QALoRA"), ({"peft_type": "OFT"}, "OFT"), ({"arrow_config": {"top_k": 1}}, "Arrow")],
)
def test_a_family_that_cannot_be_mixed_is_stored_with_the_reason(
    home: Home, write_lora: Write, config: dict[str, object], named: str
) -> None:
    done = publish(home, write_lora("a", **config), at("team/a"))
    found = facts(home, "team/a")
    assert found.usable is False and found.refusal is not None and named.lower() in found.refusal.lower()
    assert any("cannot be mixed" in note for note in done.notes)
    assert [a.state for a in find(home)] == ["not mixable"]


def test_a_snapshot_with_links_into_the_home_can_be_published_again(home: Home, write_lora: Write) -> None:
    publish(home, write_lora("a"), at("team/a"))
    with home.read() as session:
        snapshot = locate(session, at("team/a")).directory(home)
    assert publish(home, snapshot, at("team/copy")).version == "v1"


def test_weights_that_are_excluded_cannot_leave_an_adapter_without_them(home: Home, write_lora: Write) -> None:
    with pytest.raises(Exception, match=r"adapter_model\.safetensors"):
        publish(home, write_lora("a"), at("team/a"), exclude=["*.safetensors"])
    assert find(home) == []


def test_excluded_files_and_folders_are_not_published(home: Home, write_lora: Write) -> None:
    folder = write_lora("a", card="---\nlicense: mit\n---\n")
    (folder / "training_args.bin").write_bytes(b"pickle")
    shutil.copytree(folder, folder / "checkpoint-10")
    done = publish(home, folder, at("team/a"), exclude=["*.bin", "checkpoint-*"])
    with home.read() as session:
        paths = [f.path for f in locate(session, at("team/a")).files]
    assert paths == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert done.adapters == ("",)


def test_facts_name_the_digests_of_both_files(home: Home, write_lora: Write) -> None:
    import hashlib

    folder = write_lora("a", lora_alpha=6, use_rslora=True)
    publish(home, folder, at("team/a"))
    found = facts(home, "team/a")
    assert found.weights_sha256 == hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
    assert found.config_sha256 == hashlib.sha256((folder / "adapter_config.json").read_bytes()).hexdigest()
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (found.alpha, found.scaling_kind, set(found.ranks.values())) == (6, "rslora", {config["r"]})
    assert found.target_modules == ("q", "v") and found.parameter_count == 4 * 2 * 16


def test_a_folder_with_nothing_to_mix_is_refused_before_a_byte_is_stored_unless_it_goes_beside_adapters(
    home: Home, write_lora: Write, tmp_path: Path, contents: Callable[[], dict[str, object]]
) -> None:
    work = tmp_path / "work"
    (work / "notes").mkdir(parents=True)
    (work / "README.md").write_text("of the whole repo")
    (work / "notes" / "mixhub.sqlite").write_bytes(b"a database")
    (work / "notes" / "config.json").write_text("{}")
    before = contents()
    with pytest.raises(BadUpload, match=r"(?s)adapter_config\.json and adapter_model\.safetensors.*config\.json"):
        publish(home, work, at("team/a"))
    assert contents() == before
    publish(home, write_lora("a"), at("team/a/sub"))
    assert publish(home, work, at("team/a")).version == "v2"
    with pytest.raises(BadUpload, match="neither an adapter"):
        publish(home, work, at("team/a"), replace_all=True)
