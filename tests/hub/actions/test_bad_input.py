"""Bad input: one clear error that names the thing, and a home in which not a row and not a blob has changed."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from compose.errors import (
    BadExamples,
    BadMethod,
    BadWeights,
    ComposeError,
    IncompatibleAdapters,
    MalformedAdapter,
    SearchError,
)
from hub.actions import database
from hub.actions.compose import Part, compose
from hub.actions.publish import publish
from hub.actions.search_plan import SearchOptions, new_plan
from hub.address import parse_address as at
from hub.card_facts import UsageContract
from hub.contract_options import read_contract
from hub.errors import BadUpload, HubError, UnknownBase, UsageError
from hub.home import Home
from hub.settings import Settings
from storage.errors import InvalidName, NotFound, StorageError

Write = Callable[..., Path]
Contents = Callable[[], dict[str, object]]
SITE = "base_model.model.encoder.block.0.layer.0.SelfAttention.q"


@pytest.fixture(autouse=True)
def nothing_changes(home: Home, write_lora: Write, contents: Contents) -> Iterator[None]:
    """One good adapter is there; whatever the test does, the home is the same afterwards, and consistent."""
    publish(home, write_lora("good", seed=99), at("team/good"))
    before = contents()
    yield
    assert contents() == before
    report = database.check(Settings(home=home.directory, database_url="", blobs_url=""), deep=True)
    assert (report.problems, report.notes) == ((), ())


def refused(home: Home, folder: Path, *, named: str, kind: type[Exception]) -> None:
    """Publishing fails with an error of this kind which names both the adapter and the thing."""
    with pytest.raises(kind, match=named) as caught:
        publish(home, folder, at("team/bad"))
    assert isinstance(caught.value, HubError | ComposeError | StorageError)
    assert "bad" in caught.value.message or folder.name in caught.value.message


def test_truncated_weights(home: Home, write_lora: Write) -> None:
    folder = write_lora("bad")
    weights = folder / "adapter_model.safetensors"
    for keep in (0, 7, 8, 60, weights.stat().st_size - 1):
        weights.write_bytes(weights.read_bytes()[:keep])
        refused(home, folder, named="adapter_model.safetensors", kind=MalformedAdapter)


@pytest.mark.parametrize("length", [2**63, 2**40, 10**9])
def test_a_header_that_claims_to_be_huge(home: Home, write_lora: Write, length: int) -> None:
    folder = write_lora("bad")
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}" * 100)
    refused(home, folder, named="header", kind=MalformedAdapter)


def test_a_header_of_many_nested_brackets(home: Home, write_lora: Write) -> None:
    folder = write_lora("bad")
    header = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    refused(home, folder, named="adapter_model.safetensors", kind=MalformedAdapter)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite(home: Home, write_lora: Write, value: float) -> None:
    spoilt = torch.ones(16, 2)
    spoilt[3, 1] = value
    folder = write_lora("bad", tensors={f"{SITE}.lora_B.weight": spoilt})
    refused(home, folder, named=r"lora_B", kind=MalformedAdapter)


def test_empty_tensors_of_deepspeed_zero_3(home: Home, write_lora: Write) -> None:
    folder = write_lora(
        "bad", tensors={f"{SITE}.lora_A.weight": torch.zeros(0), f"{SITE}.lora_B.weight": torch.zeros(0)}
    )
    with pytest.raises(MalformedAdapter, match="empty") as caught:
        publish(home, folder, at("team/bad"))
    assert "ZeRO-3" in caught.value.remedy


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        ({f"{SITE}.lora_B.weight": torch.ones(16, 3)}, "lora_B is"),
        ({f"{SITE}.lora_A.weight": torch.ones(3, 16), f"{SITE}.lora_B.weight": torch.ones(16, 3)}, "rank 3"),
        ({f"{SITE}.lora_A.weight": torch.ones(32), f"{SITE}.lora_B.weight": torch.ones(32)}, "two dimensions"),
        ({f"{SITE}.lora_A.weight": torch.ones(2, 16, dtype=torch.int64)}, "int64"),
        ({"base_model.model.x.lora_A.weight": torch.ones(2, 16)}, "no lora_B"),
    ],
)
def test_shapes_that_do_not_go_together(home: Home, write_lora: Write, tensors: dict[str, Any], named: str) -> None:
    refused(home, write_lora("bad", tensors=tensors), named=named, kind=MalformedAdapter)


def test_shapes_that_do_not_fit_the_base(home: Home, write_lora: Write, tiny_t5: Path) -> None:
    wide = {f"{SITE}.lora_A.weight": torch.ones(2, 32), f"{SITE}.lora_B.weight": torch.ones(16, 2)}
    folder = write_lora("bad", sites=[], tensors=wide)
    with pytest.raises(IncompatibleAdapters, match=r"none of its 1 modules.*SelfAttention\.q"):
        publish(home, folder, at("team/bad"), base=str(tiny_t5))


def test_keys_that_belong_to_no_factor(home: Home, write_lora: Write) -> None:
    folder = write_lora("bad", tensors={"totally.unrelated": torch.ones(2)})
    with pytest.raises(ComposeError, match=r"totally\.unrelated"):
        publish(home, folder, at("team/bad"))


@pytest.mark.parametrize(
    ("name", "content"), [("adapter_model.bin", b"anything"), ("notes.txt", b"\x80\x04\x95pickle"), ("x.pt", b"PK")]
)
def test_pickles(home: Home, write_lora: Write, name: str, content: bytes) -> None:
    folder = write_lora("bad")
    (folder / name).write_bytes(content)
    with pytest.raises(BadUpload, match=name) as caught:
        publish(home, folder, at("team/bad"))
    assert f"--exclude '{name}'" in caught.value.remedy


def test_a_pickle_in_place_of_the_weights(home: Home, write_lora: Write) -> None:
    folder = write_lora("bad")
    torch.save({"x": torch.ones(1)}, folder / "adapter_model.safetensors")
    with pytest.raises(BadUpload, match=r"adapter_model\.safetensors: a pickle"):
        publish(home, folder, at("team/bad"))


def test_links_that_lead_out_of_the_folder(home: Home, write_lora: Write, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("key")
    for name, target in (("a", "secret"), ("b", "secrets")):
        folder = write_lora(f"bad-{name}")
        (folder / "inside").symlink_to(tmp_path / target)
        refused(home, folder, named="inside", kind=BadUpload)


@pytest.mark.parametrize("name", ["back\\slash", "new\nline", "C:drive", "del\x7f"])
def test_file_names_that_may_not_be_paths(home: Home, write_lora: Write, name: str) -> None:
    folder = write_lora("bad")
    (folder / name).write_text("x")
    with pytest.raises(InvalidName, match="path of a file"):
        publish(home, folder, at("team/bad"))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '"LORA"', '{"peft_type": 3}', '{"peft_type": "LORA", "r": "x"}', '{"peft_type": "LORA", "r": -1}',
     '{"peft_type": "LORA", "r": 1e999, "lora_alpha": 1}', '{"peft_type": "LORA", "r": 2, "lora_alpha": NaN}',
     "[" * 99_999],
)  # fmt: skip
def test_a_malformed_config(home: Home, write_lora: Write, text: str) -> None:
    folder = write_lora("bad")
    (folder / "adapter_config.json").write_text(text)
    refused(home, folder, named="adapter_config.json|team/bad", kind=MalformedAdapter)


@pytest.mark.parametrize(
    ("card", "named"),
    [
        ("---\nlicense: mit\n", "no closing"),
        ("---\n a: [\n---\n", "not valid YAML"),
        ("---\nmixhub: 3\n---\n", "not a mapping"),
        ("---\nmixhub:\n  suggested_weight: much\n---\n", "suggested_weight"),
        ("---\nmixhub:\n  colour: red\n---\n", "colour"),
        ("---\ntags: ['" + "x" * 300 + "']\n---\n", "tag"),
        ('---\nlicense: "a\\0b"\n---\n', "NUL"),
    ],
)
def test_a_malformed_card(home: Home, write_lora: Write, card: str, named: str) -> None:
    with pytest.raises((BadUpload, InvalidName), match=named):
        publish(home, write_lora("bad", card=card), at("team/bad"))


@pytest.mark.parametrize(
    "address",
    ["sql", "team/", "/sql", "team//sql", "../up/sql", "team/..", "a b/c", "team/sql@", "team/-x", "te--am/x", "@v1",
     "team/x.git", "team/ü", "a" * 97 + "/b"],
)  # fmt: skip
def test_a_name_that_is_not_namespace_slash_name(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        at(address)
    assert address in caught.value.message and caught.value.remedy


def test_no_folder_and_an_empty_folder(home: Home, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "missing", tmp_path / "empty"):
        refused(home, folder, named=folder.name, kind=BadUpload)


def test_mixing_what_is_not_there(home: Home) -> None:
    for address in ("team/none", "team/good@v9", "team/good/folder", "nobody/good", "team/good@prod"):
        with pytest.raises(NotFound) as caught:
            compose(home, [Part(at(address), 1.0)], at("team/mix"))
        assert caught.value.remedy


def test_adapters_whose_base_is_unknown(home: Home) -> None:
    with pytest.raises(IncompatibleAdapters, match=r"team/good.*unknown \(org/tiny-t5\)") as caught:
        compose(home, [Part(at("team/good"), 1.0)], at("team/mix"))
    assert "--allow-unbound" in caught.value.remedy


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(home: Home, weight: float) -> None:
    with pytest.raises(BadWeights, match=str(weight)):
        compose(home, [Part(at("team/good"), weight)], at("team/mix"), allow_unbound=True)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"method": "magic"}, "magic"), ({"params": {"rank": 3}}, "rank"), ({"dtype": "int8"}, "int8"),
     ({"method": "svd", "params": {"rank": 0}}, "rank"), ({"params": {"fold": "wide"}}, "fold")],
)  # fmt: skip
def test_a_method_option_or_dtype_that_does_not_exist(home: Home, options: dict[str, Any], named: str) -> None:
    with pytest.raises(BadMethod, match=named):
        compose(home, [Part(at("team/good"), 1.0)], at("team/mix"), allow_unbound=True, **options)


def test_the_same_adapter_twice(home: Home) -> None:
    with pytest.raises(UsageError, match=r"team/good@v1 and team/good are the same"):
        compose(home, [Part(at("team/good"), 1.0), Part(at("team/good@v1"), 1.0)], at("team/mix"), allow_unbound=True)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "holds no examples"),
        ("\n\n", "holds no examples"),
        ('{"input": "a", "output": "b"}\nnot json\n', "line 2"),
        ('{"input": "a"}\n', "line 1 has no 'output'"),
        ('{"input": "a", "output": ""}\n', "line 1: 'output' is empty"),
        ('{"input": 3, "output": "b"}\n', "line 1: 'input' is 3"),
        ("[1]\n", "line 1 is a list"),
    ],
)
def test_examples_that_cannot_be_used(home: Home, tmp_path: Path, tiny_t5: Path, text: str, named: str) -> None:
    path = tmp_path / "few.jsonl"
    path.write_text(text)
    with pytest.raises(BadExamples, match=named):
        new_plan(home, [at("team/good")], path, base=str(tiny_t5), allow_unbound=True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"a": "one"}', '{"a": "one", "b": 3}', '{"a": "x", "a": "y"}'])
def test_labels_that_cannot_be_used(home: Home, tmp_path: Path, tiny_t5: Path, few_shot: Path, text: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(BadExamples, match=r"labels\.json"):
        new_plan(home, [at("team/good")], few_shot, labels=path, base=str(tiny_t5), allow_unbound=True)


def test_searching_with_a_base_that_is_unknown_or_not_that_of_the_adapters(home: Home, few_shot: Path) -> None:
    with pytest.raises(IncompatibleAdapters, match="unknown"):
        new_plan(home, [at("team/good")], few_shot)
    with pytest.raises(UnknownBase) as caught:
        new_plan(home, [at("team/good")], few_shot, allow_unbound=True)
    assert "--base" in caught.value.remedy
    with pytest.raises(UnknownBase, match="no/where"):
        new_plan(home, [at("team/good")], few_shot, base="no/where", allow_unbound=True)


def test_a_search_whose_result_could_not_be_published_does_not_start(home: Home, few_shot: Path, tiny_t5: Path) -> None:
    with pytest.raises(UsageError, match="names a revision"):
        new_plan(home, [at("team/good")], few_shot, into=at("team/new@v1"), base=str(tiny_t5), allow_unbound=True)


def test_a_budget_below_the_baselines_does_not_start_and_the_smallest_is_named(
    home: Home, few_shot: Path, tiny_t5: Path
) -> None:
    with pytest.raises(SearchError, match="budget of 2 is too small") as caught:
        new_plan(
            home, [at("team/good")], few_shot, base=str(tiny_t5), allow_unbound=True, options=SearchOptions(budget=2)
        )
    assert "--budget 3" in caught.value.remedy


def test_the_contract_of_a_card_cannot_be_overridden_with_nonsense() -> None:
    for options in ({"prompt_template": "no placeholder"}, {"suggested_weight": float("nan")}):
        with pytest.raises(UsageError):
            read_contract(**options)
    assert read_contract() == UsageContract()


def test_labels_of_the_contract_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    for text in ("", "[]", "{}", json.dumps({"a": 1})):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"labels\.json"):
            read_contract(labels=path)
    with pytest.raises(UsageError, match=r"missing\.json"):
        read_contract(labels=tmp_path / "missing.json")
