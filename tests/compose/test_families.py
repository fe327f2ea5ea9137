"""Every kind of adapter that PEFT writes is either read or refused with its own name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from compose.description import describe_tensors
from compose.families import READ, family_table, find_refusal
from compose.peft_config import parse_config
from compose.refusals import AS_LORA, FIELDS, KEYS, TYPES
from compose.safetensors_header import TensorHeader

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
DUMPS = SHARED / "peft_dumps"

# file -> what the refusal must call it; `None`: it is read
EXPECTED: dict[str, str | None] = {
    "adalora": None,
    "adalora_pruned": None,
    "adaption_prompt": "adaption prompt",
    "boft": "BOFT",
    "dora": None,
    "dora_conv": None,
    "fourierft": "FourierFT",
    "hra": "HRA",
    "ia3": None,
    "ln_tuning": None,
    "loha": None,
    "loha_conv_eff": None,
    "lokr": None,
    "lokr_conv_eff": None,
    "lokr_decompose_both": None,
    "longlora_style": None,
    "lora_arrow_skip": None,
    "lora_bias_all": None,
    "lora_bias_lora_only": None,
    "lora_bias_param": None,
    "lora_conv": None,
    "lora_conv_groups": "grouped convolution",
    "lora_embedding": None,
    "lora_embedding_save_false": None,
    "lora_gpt2_conv1d": None,
    "lora_gpt2_embeddings": None,
    "lora_layer_replication": "layer_replication",
    "lora_layers_to_transform": None,
    "lora_llama": None,
    "lora_llama_alllinear": None,
    "lora_llama_regex": None,
    "lora_mha": None,
    "lora_mica": None,
    "lora_modules_to_save": None,
    "lora_olora": None,
    "lora_orthogonal": None,
    "lora_pissa": None,
    "lora_rank_alpha_pattern": None,
    "lora_save_embedding_layers_true": None,
    "lora_seqcls_modules_to_save_auto": None,
    "lora_t5_q_v": None,
    "lora_target_parameters": "target_parameters",
    "lora_tied_embed_lmhead": None,
    "lora_tied_ensure": None,
    "lora_trainable_tokens": None,
    "lora_trainable_tokens_tied": None,
    "lora_vocab_resized": None,
    "multitask_prompt": "Multitask prompt",
    "oft": "OFT",
    "other_frod": "FRoD",
    "other_glora": "GLoRA",
    "other_gralora": "GraLoRA",
    "other_hira": "HiRA",
    "other_lily": "Lily",
    "other_osf": "OSF",
    "other_peanut": "PeanuT",
    "other_pvera": "PVeRA",
    "other_randlora": "RandLoRA",
    "other_tinylora": "TinyLoRA",
    "other_unilora": "UniLoRA",
    "p_tuning": "P-tuning",
    "poly": "Poly",
    "prefix_tuning": "Prefix tuning",
    "prefix_tuning_projection": "Prefix tuning",
    "prompt_tuning": "Prompt tuning",
    "prompt_tuning_t5": "Prompt tuning",
    "rslora": None,
    "trainable_tokens": None,
    "vblora": "VB-LoRA",
    "vblora_topk_only": "VB-LoRA",
    "vera_no_projection": None,
    "vera_saved_projection": None,
}


def dumped(name: str) -> tuple[dict[str, Any], dict[str, TensorHeader]]:
    dump = json.loads((DUMPS / f"{name}.json").read_text())
    tensors = {
        key: TensorHeader(value["dtype"].removeprefix("torch."), tuple(value["shape"]))
        for key, value in dump["tensors"].items()
    }
    return dump["adapter_config"], tensors


@pytest.mark.shared
def test_the_expectations_cover_every_dump() -> None:
    names = {file.stem for file in DUMPS.glob("*.json") if not file.stem.startswith("_")}
    assert names == set(EXPECTED)
    assert len(names) == 72


@pytest.mark.shared
@pytest.mark.parametrize("name", EXPECTED)
def test_every_adapter_that_peft_saved_is_read_or_refused_by_name(name: str) -> None:
    raw, tensors = dumped(name)
    facts = describe_tensors(parse_config(raw, owner=name), tensors, name)
    expected = EXPECTED[name]
    assert facts.supported == (expected is None)
    if expected is None:
        known = {module.path for module in facts.modules}
        assert known or facts.extras or facts.peft_type == "VERA"  # whose shapes only the base tells
        assert bool(facts.needs_base) == name.startswith(("dora", "lora_olora", "lora_pissa", "vera"))
    else:
        assert facts.refusal is not None
        assert expected in facts.refusal.message
        assert facts.parameter_count > 0


@pytest.mark.shared
def test_every_public_config_is_read_or_refused_by_the_name_of_its_type() -> None:
    rows = json.loads((SHARED / "wild_configs" / "manifest.json").read_text())
    assert len(rows) == 83
    for row in rows:
        config = parse_config((SHARED / "wild_configs" / row["file"]).read_bytes(), owner=row["file"])
        refusal = find_refusal(config, {})
        if row["peft_type"] != "LORA":
            assert refusal == (None if row["peft_type"] in READ else TYPES[row["peft_type"]]), row
        else:
            marks = {"bdlora": "BD-LoRA", "kasa": "KaSA"}
            kind = Path(row["path"]).parent.name.rpartition("-")[2] if "dora" not in row["path"] else "dora"
            assert (refusal.family if refusal else None) == marks.get(kind), row


def test_every_type_that_peft_knows_is_in_the_table() -> None:
    from peft import PeftType

    assert {kind.value for kind in PeftType} == TYPES.keys() | READ
    assert not TYPES.keys() & READ


def test_where_the_way_out_is_conversion_peft_can_convert() -> None:
    """AS_LORA is promised only for types whose layers say that PEFT can turn them into LoRA."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.tuners.tuners_utils import BaseTunerLayer

    for kind, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items():
        if kind.value in TYPES:
            layers = [layer for layer in _subclasses(BaseTunerLayer) if layer.__module__.startswith(_package(tuner))]
            can = any(layer.supports_lora_conversion is not BaseTunerLayer.supports_lora_conversion for layer in layers)
            if TYPES[kind.value].remedy == AS_LORA:
                assert can, kind


def _package(tuner: type) -> str:
    return tuner.__module__.rpartition(".")[0] + "."


def _subclasses(cls: type) -> set[type]:
    return {cls}.union(*(_subclasses(child) for child in cls.__subclasses__()))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"init_lora_weights": "corda"}, "CorDA"),
        ({"init_lora_weights": "loftq"}, "LoftQ"),
        ({"init_lora_weights": "lora_ga"}, "LoRA-GA"),
        ({"init_lora_weights": "something new"}, "unknown init_lora_weights"),
        ({"kasa_config": {"x": 1}}, "KaSA"),
        ({"monteclora_config": {"x": 1}}, "MonteCLoRA"),
        ({"use_qalora": True}, "QALoRA"),
        ({"use_bdlora": {"x": 1}}, "BD-LoRA"),
        ({"alora_invocation_tokens": [1]}, "aLoRA"),
        ({"arrow_config": {"top_k": 2}}, "Arrow"),
        ({"enable_lora": [True, False]}, "before 0.2"),
        ({"peft_type": "BRAND_NEW"}, "'BRAND_NEW': unknown"),
        ({"peft_type": None}, "without peft_type"),
        ({"peft_type": None, "fine_tune_type": "lora"}, "MLX-LM"),
        ({"peft_type": None, "config": {}, "model_type": "bert"}, "AdapterHub"),
    ],
)
def test_marks_in_the_config_are_named(fields: dict[str, Any], said: str) -> None:
    refusal = find_refusal(parse_config({"peft_type": "LORA", **fields}, owner="a"), {})
    assert refusal is not None and said in refusal.message


@pytest.mark.parametrize("start", [True, False, None, "gaussian", "eva", "orthogonal", "mica"])
def test_starts_that_leave_the_base_alone_are_read(start: object) -> None:
    config = parse_config({"peft_type": "LORA", "init_lora_weights": start, "velora_config": {"x": 1}}, owner="a")
    assert find_refusal(config, {}) is None


def test_every_refusal_has_a_name_a_reason_and_a_way_out() -> None:
    rows = [*(row.refusal for row in FIELDS), *TYPES.values(), *(refusal for _, refusal in KEYS)]
    assert all(row.family and row.reason and row.remedy for row in rows)


def test_the_readme_has_the_table_of_this_file() -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    assert family_table() in readme, "python -m compose.families prints the new table"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("base_model.model.experts.base_layer.lora_A.weight", "target_parameters"),
        ("prompt_embeddings", "Prompt tuning"),
        ("controlnet_cond_embedding.conv_in.weight", "ControlNet"),
    ],
)
def test_tensors_that_are_no_factors_are_named(key: str, said: str) -> None:
    refusal = find_refusal(parse_config({"peft_type": "LORA"}, owner="a"), {key: (2,)})
    assert refusal is not None and re.search(said, refusal.message)


def test_a_grouped_convolution_is_recognised_by_its_factors() -> None:
    shapes = {"base_model.model.c.lora_A.weight": (4, 8, 3), "base_model.model.c.lora_B.weight": (6, 2, 1)}
    refusal = find_refusal(parse_config({"peft_type": "LORA"}, owner="a"), shapes)
    assert refusal is not None and "grouped convolution" in refusal.message
    plain = {**shapes, "base_model.model.c.lora_B.weight": (6, 4, 1)}
    assert find_refusal(parse_config({"peft_type": "LORA"}, owner="a"), plain) is None
