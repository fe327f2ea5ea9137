"""What `--groups` means for the modules that real models have."""

from __future__ import annotations

import json

import pytest

from compose.errors import BadWeights, SearchError
from compose.group_words import group_count, kind_of, module_groups
from compose.layer_weights import check_weight, weight_at
from compose.module_groups import ModuleGroups, by_adapter, column_names, stored_groups

LLAMA = [
    f"model.layers.{i}.{part}"
    for i in range(12)
    for part in ("self_attn.q_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.down_proj")
]
T5 = [
    f"{stack}.block.{i}.layer.{part}"
    for stack, parts in (
        ("decoder", ("0.SelfAttention.q", "1.EncDecAttention.v", "2.DenseReluDense.wo")),
        ("encoder", ("0.SelfAttention.q", "1.DenseReluDense.wi_0")),
    )
    for i in range(4)
    for part in parts
]
BERT = [
    f"encoder.layer.{i}.{part}"
    for i in range(2)
    for part in ("attention.self.query", "attention.output.dense", "intermediate.dense", "output.dense")
]


def members(groups: ModuleGroups, modules: list[str]) -> dict[str, list[str]]:
    return dict(zip(groups.names, groups.parts(modules), strict=True))


def test_layers_are_cut_into_neighbours_in_order_of_depth_as_evenly_as_can_be() -> None:
    groups = module_groups("layers:5", LLAMA)
    assert groups.names == ("layers 0-2", "layers 3-5", "layers 6-7", "layers 8-9", "layers 10-11")
    found = members(groups, LLAMA)
    assert {path.split(".")[2] for path in found["layers 10-11"]} == {"10", "11"}
    assert sum(map(len, found.values())) == len(LLAMA)
    assert module_groups("layers:12", LLAMA).names[:2] == ("layer 0", "layer 1")
    some = [path for path in LLAMA if int(path.split(".")[2]) in (3, 7, 8, 11)]
    assert module_groups("layers:2", some).names == ("layers 3-7", "layers 8-11"), "only adapted layers count"


def test_encoder_and_decoder_have_their_own_groups_the_encoder_first() -> None:
    groups = module_groups("layers:4", T5)
    assert groups.names == (
        "encoder layers 0-1", "encoder layers 2-3", "decoder layers 0-1", "decoder layers 2-3",
    )  # fmt: skip
    assert all(path.startswith("decoder.block.0") for path in members(groups, T5)["decoder layers 0-1"][:3])
    assert module_groups("layers:3", T5).names == ("encoder layers 0-1", "encoder layers 2-3", "decoder layers 0-3")
    decoder = [path for path in T5 if path.startswith("decoder")]
    assert module_groups("layers:4", [*decoder, T5[-1]]).names == (
        "encoder layer 3", "decoder layers 0-1", "decoder layer 2", "decoder layer 3",
    ), "by the number of adapted layers"  # fmt: skip
    with pytest.raises(SearchError, match=r"8 layers in 2 stacks.* cannot be cut into 1 groups(.|\n)*layers:2"):
        module_groups("layers:1", T5)


@pytest.mark.parametrize("modules", [LLAMA, T5, BERT], ids=["llama", "t5", "bert"])
@pytest.mark.parametrize("text", ["attn,mlp", "mlp,attn", "attn,other"])
def test_attention_and_feed_forward_are_told_apart_in_every_layer(modules: list[str], text: str) -> None:
    groups = module_groups(text, modules)
    attention = [path for path in sorted(modules) if "attn" in path.lower() or "attention" in path.lower()]
    assert groups.parts(sorted(modules))[text.split(",").index("attn")] == attention
    assert sum(map(len, groups.parts(modules))) == len(modules)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("transformer.h.0.attn.c_proj", "attn"), ("transformer.h.0.mlp.c_proj", "mlp"),
        ("model.decoder.layers.3.fc1", "mlp"), ("model.decoder.layers.3.encoder_attn.out_proj", "attn"),
        ("model.layers.0.block_sparse_moe.experts.3.w1", "mlp"), ("gpt_neox.layers.1.mlp.dense_4h_to_h", "mlp"),
        ("gpt_neox.layers.1.attention.dense", "attn"), ("model.layers.1.mlp.experts.0.up_proj", "mlp"),
        ("lm_head", None), ("backbone.layers.0.mixer.in_proj", None),
    ],
)  # fmt: skip
def test_kinds_by_the_names_that_models_give(path: str, kind: str | None) -> None:
    assert kind_of(path) == kind


def test_globs_are_tried_in_order_and_other_takes_the_rest() -> None:
    groups = module_groups("*.q_proj, *.self_attn.*, other", LLAMA)
    found = members(groups, LLAMA)
    assert {path.rpartition(".")[2] for path in found["*.self_attn.*"]} == {"v_proj"}
    assert all(".mlp." in path for path in found["other"])
    assert group_count("*.q_proj, *.self_attn.*, other") == 3 and group_count("layers:7") == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("attn,mlp", "1 adapted modules fit no group: lm_head(.|\n)*other"),
        ("layers:2", "fit no group: lm_head"),
        ("layers:13,other", "12 layers which cannot be cut into 13 groups(.|\n)*layers:12"),
        ("layers:0", "makes no group"),
        ("layers:2,attn", "goes with no other group"),
        ("other,attn", "comes last"),
        ("attn,attn", "twice"),
        ("depth", "no group of modules 'depth'(.|\n)*layers:4"),
        ("", "no group of modules ''"),
        ("*.k_proj,other", r"no adapted module belongs to the group '\*.k_proj'(.|\n)*model.layers.0"),
        ("*,other", "no adapted module is left"),
    ],
)
def test_what_cannot_be_meant_is_one_clear_error(text: str, said: str) -> None:
    with pytest.raises(SearchError, match=said):
        module_groups(text, [*LLAMA, "lm_head"])
    if text not in ("attn,mlp", "layers:2"):
        return
    assert module_groups(f"{text},other", [*LLAMA, "lm_head"]).globs[-1] == ("lm_head",)


@pytest.mark.parametrize("text", ["layers:4", "mlp,attn", "*.0.*,*"])
@pytest.mark.parametrize("modules", [T5, BERT], ids=["t5", "bert"])
def test_the_weights_of_a_row_are_ordinary_weights_by_globs(text: str, modules: list[str]) -> None:
    groups = module_groups(text if "layers" not in text or modules is T5 else "layers:2", modules)
    numbers = [0.25 * (number + 1) for number in range(len(groups))]
    one, equal = by_adapter([*numbers, *[0.5] * len(groups)], groups)
    assert equal == 0.5 and column_names(["a"], groups)[0] == f"a [{groups.names[0]}]"
    check_weight(one, "a")
    for path in modules:
        assert weight_at(one, path) == numbers[groups.group_of(path) or 0]
    assert stored_groups(json.loads(json.dumps(groups.as_dict()))) == groups
    assert len(one) <= 1 + len(modules)
    with pytest.raises(BadWeights):
        check_weight({**one, "x": 1.0}, "a")  # the rest comes last
