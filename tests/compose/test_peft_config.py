"""Configs are checked, not trusted; and the scaling of each module is the one that PEFT uses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from compose.errors import MalformedAdapter
from compose.peft_config import parse_config

PLAIN = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}


def test_unknown_fields_and_nulls_are_passed_over() -> None:
    config = parse_config({**PLAIN, "from_the_future": [1], "rank_pattern": None, "use_rslora": None}, owner="a")
    assert config.scaling_of("any", 4) == 2.0
    assert config.raw["from_the_future"] == [1]


def test_bytes_with_a_byte_order_mark_and_crlf_are_read() -> None:
    config = parse_config(b"\xef\xbb\xbf" + json.dumps(PLAIN, indent=1).replace("\n", "\r\n").encode(), owner="a")
    assert (config.r, config.lora_alpha) == (4, 8.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("r", "x"),
        ("r", 0),
        ("r", -1),
        ("r", 2.5),
        ("r", True),
        ("lora_alpha", "16"),
        ("lora_alpha", float("nan")),
        ("lora_alpha", 10**400),
        ("use_rslora", "yes"),
        ("fan_in_fan_out", 1),
        ("rank_pattern", [4]),
        ("rank_pattern", {"q": "4"}),
        ("rank_pattern", {"(": 4}),
        ("alpha_pattern", {"q": None}),
        ("base_model_name_or_path", 3),
        ("revision", {}),
        ("task_type", ["CAUSAL_LM"]),
        ("peft_type", 7),
    ],
)
def test_a_field_of_a_wrong_type_is_named(field: str, value: Any) -> None:
    with pytest.raises(MalformedAdapter) as caught:
        parse_config({**PLAIN, field: value}, owner="ns/name")
    assert field in caught.value.message
    assert caught.value.message.startswith("ns/name")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"r": NaN}', "NaN is no JSON value"),
        ('{"r": -Infinity}', "-Infinity is no JSON value"),
        (r'{"task_type": "\ud800"}', "is not JSON"),
        (r'{"task_type": "a\u0000b"}', "zero character"),
        ("[]", "holds a list"),
        ("3", "holds a int"),
        ("version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ],
)
def test_what_is_no_json_object_is_refused(text: str, said: str) -> None:
    with pytest.raises(MalformedAdapter, match=said):
        parse_config(text, owner="a")


PATTERNS = [
    {"rank_pattern": {"q_proj": 6}, "alpha_pattern": {"v_proj": 3}},
    {"rank_pattern": {r"layers\.0\..*q_proj": 2, "q_proj": 5}, "use_rslora": True},
    {"rank_pattern": {"q_proj": 5, r"layers\.0\..*q_proj": 2}, "alpha_pattern": {r"layers\.1\.self_attn\.q_proj": 7}},
    {"rank_pattern": {"self_attn.q_proj": 3}, "alpha_pattern": {"model.layers.0.self_attn.v_proj": 5}},
    {"rank_pattern": {r"^model\.layers\.1\.self_attn\.v_proj$": 3}, "use_rslora": True},
]


@pytest.mark.parametrize("settings", PATTERNS, ids=range(len(PATTERNS)))
def test_ranks_and_scalings_are_those_of_peft(tiny_model: Callable[[str], nn.Module], settings: dict[str, Any]) -> None:
    from peft import LoraConfig, get_peft_model

    peft_config = LoraConfig(target_modules=["q_proj", "v_proj"], r=4, lora_alpha=8, **settings)
    model = get_peft_model(tiny_model("llama"), peft_config)
    config = parse_config({**PLAIN, **settings}, owner="a")
    layers = {name.removeprefix("base_model.model."): m for name, m in model.named_modules() if hasattr(m, "lora_A")}
    assert len(layers) == 4
    for path, layer in layers.items():
        rank = layer.r["default"]
        assert config.rank_of(path) == rank
        assert config.scaling_of(path, rank) == pytest.approx(layer.scaling["default"], rel=1e-12)


def test_a_pattern_meets_a_path_only_at_a_dot_and_at_its_end() -> None:
    config = parse_config({**PLAIN, "rank_pattern": {"proj": 9, "q_proj": 2}}, owner="a")
    assert [config.rank_of(path) for path in ("q_proj", "a.q_proj", "a.xq_proj", "a.q_proj.b", "a.proj")] == [
        2,
        2,
        4,
        4,
        9,
    ]


def test_a_config_that_is_not_there_is_named(tmp_path: Path) -> None:
    from compose.peft_config import read_config

    with pytest.raises(MalformedAdapter, match=r"ns/name: has no adapter_config\.json"):
        read_config(tmp_path / "adapter_config.json", owner="ns/name")
