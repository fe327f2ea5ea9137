"""Families, methods and exports through the command line: options arrive, recipes keep them, bases are found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from compose.peft_files import read_adapter

Write = Callable[..., Path]
Mixhub = Callable[..., Any]
Q, V = "encoder.block.0.layer.0.SelfAttention.q", "decoder.block.0.layer.1.EncDecAttention.v"


@pytest.fixture
def pair(write_lora: Write, tiny_t5: Path, mixhub: Mixhub) -> None:
    for seed, name in enumerate("ab", 1):
        ran = mixhub("publish", write_lora(name, seed=seed), f"team/{name}", "--base", tiny_t5)
        assert ran.code == 0, ran.err


def pulled(mixhub: Mixhub, address: str, folder: Path) -> Path:
    ran = mixhub("pull", address, folder, "--json")
    assert ran.code == 0, ran.err
    return folder


@pytest.mark.usefixtures("pair")
def test_a_method_with_options_is_recorded_and_remade_bit_for_bit(mixhub: Mixhub, tmp_path: Path) -> None:
    options = ["--method", "dare-ties", "--param", "density=0.7", "--param", "seed=5", "--max-rank", 3]
    ran = mixhub("compose", "team/a=0.6", "team/b=0.4", "--as", "team/mix", *options, "--json")
    assert ran.code == 0, ran.err
    assert 0 < ran.json["retained_energy"] < 1
    made = pulled(mixhub, "team/mix", tmp_path / "mix")
    recipe = json.loads((made / "mixhub_recipe.json").read_text())
    assert recipe["params"] == {"density": 0.7, "normalize": True, "seed": 5, "rank": None}
    assert recipe["max_rank"] == 3 and read_adapter(made).max_rank == 3
    again = mixhub("compose", "--recipe", made / "mixhub_recipe.json", "--as", "team/again", "--json")
    assert again.code == 0, again.err
    one, two = (
        folder / "adapter_model.safetensors" for folder in (made, pulled(mixhub, "team/again", tmp_path / "again"))
    )
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.usefixtures("pair")
def test_weights_come_from_a_file_by_globs_and_are_remade(mixhub: Mixhub, tmp_path: Path) -> None:
    weights = tmp_path / "mix.yaml"
    weights.write_text('team/a: 0.5\nteam/b:\n  "encoder.*": -0.25\n  "*": 2.0\n')
    ran = mixhub("compose", "--weights", weights, "--as", "team/mix", "--method", "exact", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["parts"][1]["weight"] == {"encoder.*": -0.25, "*": 2.0}
    made = pulled(mixhub, "team/mix", tmp_path / "mix")
    a, b, mix = (read_adapter(folder) for folder in (tmp_path / "a", tmp_path / "b", made))
    for path, weight in ((Q, -0.25), (V, 2.0)):
        expected = 0.5 * a.modules[path].delta() + weight * b.modules[path].delta()
        torch.testing.assert_close(mix.modules[path].delta(), expected, rtol=1e-5, atol=1e-5)
    again = mixhub("compose", "--recipe", made / "mixhub_recipe.json", "--as", "team/again")
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["team/a=1", "--method", "ties", "--param", "density=2"], "density is 2.0, expected a number from 0 to 1"),
        (["team/a=1", "--method", "ties", "--param", "colour=red"], "has no option 'colour'"),
        (["team/a=1", "--param", "fold"], "is no NAME=VALUE"),
        (["team/a=1", "--policy", "heads=drop"], "no kind of tensor 'heads'"),
        (["team/a=1", "--weights", "mix.yaml"], "give adapters with weights, or --weights, or --recipe"),
        (["--weights", "missing.yaml"], "cannot be read as YAML"),
    ],
)
@pytest.mark.usefixtures("pair")
def test_what_is_asked_wrongly_is_said(mixhub: Mixhub, words: list[str], said: str) -> None:
    ran = mixhub("compose", *words, "--as", "team/mix")
    assert ran.code in (1, 2) and said in " ".join(ran.err.split())


def test_the_help_lists_every_method_with_its_options(mixhub: Mixhub) -> None:
    ran = mixhub("compose", "--help")
    assert ran.code == 0
    for said in ("core-space", "density: share of the entries that stays", "arXiv 2306.01708"):
        assert said in ran.out


def test_dora_is_mixed_with_the_base_that_it_is_bound_to(
    mixhub: Mixhub, write_lora: Write, tiny_t5: Path, tmp_path: Path
) -> None:
    magnitude = {f"base_model.model.{site}.lora_magnitude_vector": torch.rand(16) + 1 for site in (Q, V)}
    folder = write_lora("dora", tensors=magnitude, use_dora=True)
    assert mixhub("publish", folder, "team/unbound").code == 0
    refused = mixhub("compose", "team/unbound=1", "--as", "team/mix", "--allow-unbound")
    assert refused.code == 1 and "--base" in refused.err
    published = mixhub("publish", folder, "team/dora", "--base", tiny_t5)
    assert "needs its base model" in " ".join(published.err.split())
    ran = mixhub("compose", "team/dora=1", "--as", "team/mix", "--method", "exact", "--max-rank", 8, "--json")
    assert ran.code == 0 and 0 < ran.json["retained_energy"] < 1, ran.err
    made = pulled(mixhub, "team/mix", tmp_path / "mix")
    recipe = json.loads((made / "mixhub_recipe.json").read_text())
    assert recipe["base"] and recipe["max_rank"] == 8
    again = mixhub("compose", "--recipe", made / "mixhub_recipe.json", "--as", "team/again")
    assert again.code == 0, again.err
    fused = mixhub("export", "team/dora", "--to", tmp_path / "fused", "--fused", "--json")
    assert fused.code == 0, fused.err
    weight = load_file(tiny_t5 / "model.safetensors")[f"{Q}.weight"]
    tensors = load_file(folder / "adapter_model.safetensors")
    changed = (
        weight + 2.0 * tensors[f"base_model.model.{Q}.lora_B.weight"] @ tensors[f"base_model.model.{Q}.lora_A.weight"]
    )
    expected = (magnitude[f"base_model.model.{Q}.lora_magnitude_vector"] / changed.norm(dim=1))[:, None] * changed
    torch.testing.assert_close(load_file(tmp_path / "fused" / "model.safetensors")[f"{Q}.weight"], expected)


def test_heads_that_differ_need_a_policy_which_the_recipe_keeps(
    mixhub: Mixhub, write_lora: Write, tiny_t5: Path, tmp_path: Path
) -> None:
    norm = "encoder.final_layer_norm"
    for seed, name in enumerate("ab", 2):  # the base has ones, and a copy of the base is no change
        own = {f"base_model.model.{norm}.weight": torch.full((16,), float(seed))}
        folder = write_lora(name, seed=seed, tensors=own, modules_to_save=["final_layer_norm"])
        assert mixhub("publish", folder, f"team/{name}", "--base", tiny_t5).code == 0
    words = ["compose", "team/a=0.5", "team/b=0.5", "--as", "team/mix"]
    refused = mixhub(*words)
    assert refused.code == 1 and "take_from:ADAPTER" in refused.err
    ran = mixhub(*words, "--policy", "modules_to_save=take_from:team/b")
    assert ran.code == 0, ran.err
    made = pulled(mixhub, "team/mix", tmp_path / "mix")
    assert json.loads((made / "mixhub_recipe.json").read_text())["policies"] == {"modules_to_save": "take_from:2"}
    assert read_adapter(made).replaced[f"{norm}.weight"].values.tolist() == [3.0] * 16
    again = mixhub("compose", "--recipe", made / "mixhub_recipe.json", "--as", "team/again")
    assert again.code == 0, again.err
    averaged = mixhub(*words[:-1], "team/mean", "--policy", "modules_to_save=delta_average")
    assert averaged.code == 0, averaged.err
    value = read_adapter(pulled(mixhub, "team/mean", tmp_path / "mean")).replaced[f"{norm}.weight"].values
    start = load_file(tiny_t5 / "model.safetensors")[f"{norm}.weight"]
    torch.testing.assert_close(value, start + 0.5 * (2 - start) + 0.5 * (3 - start))


@pytest.mark.usefixtures("pair")
def test_an_export_for_vllm_is_cut_and_says_how_to_start_it(mixhub: Mixhub, tmp_path: Path) -> None:
    assert mixhub("compose", "team/a=1", "team/b=1", "--as", "team/mix", "--method", "exact").code == 0
    ran = mixhub("export", "team/mix", "--to", tmp_path / "out", "--profile", "vllm", "--max-rank", 2, "--json")
    assert ran.code == 0, ran.err
    assert set(ran.json["retained"]) == {Q, V} and 0 < ran.json["retained_energy"] < 1
    assert "--max-lora-rank 8" in ran.json["commands"][0]
    assert ran.json["commands"][0] in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.usefixtures("pair")
def test_an_export_is_pushed_as_one_commit(mixhub: Mixhub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    class Api:
        def __init__(self, endpoint: str | None = None) -> None:
            self.endpoint = asked["endpoint"] = endpoint

        def create_repo(self, repo_id: str, **options: Any) -> Any:
            asked["options"] = options
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> Any:
            asked["message"] = commit_message
            asked["files"] = sorted(file.name for file in folder_path.iterdir())
            return type("Commit", (), {"commit_url": f"{self.endpoint}/{repo_id}/commit/1"})

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    ran = mixhub("export", "team/a", "--push", "me/copy", "--endpoint", "http://hub.test", "--private", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["pushed"] == "http://hub.test/me/copy/commit/1"
    assert asked["endpoint"] == "http://hub.test" and asked["options"] == {"private": True, "exist_ok": True}
    assert asked["files"] == ["README.md", "adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.usefixtures("pair")
def test_a_base_that_gguf_is_not_written_for_gets_the_command_that_does(mixhub: Mixhub, tmp_path: Path) -> None:
    ran = mixhub("export", "team/a", "--to", tmp_path / "out", "--profile", "gguf")
    said = " ".join(ran.err.split())
    assert ran.code == 1 and "the base is t5" in said and "convert_lora_to_gguf.py --base" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("pair")
def test_a_push_that_fails_says_why_and_an_export_needs_a_target(mixhub: Mixhub) -> None:
    ran = mixhub("export", "team/a", "--push", "me/copy", "--endpoint", "http://127.0.0.1:9")
    assert ran.code == 1 and "cannot push to me/copy at http://127.0.0.1:9" in " ".join(ran.err.split())
    assert mixhub("export", "team/a").code == 2


def test_adapters_that_are_not_of_linear_layers_are_not_searched(
    mixhub: Mixhub, write_lora: Write, tiny_t5: Path, few_shot: Path
) -> None:
    for seed, name in enumerate("ab", 1):
        embedding = {
            "base_model.model.shared.lora_embedding_A": torch.ones(2, 384),
            "base_model.model.shared.lora_embedding_B": torch.ones(16, 2),
        }
        folder = write_lora(name, seed=seed, tensors=embedding)
        assert mixhub("publish", folder, f"team/{name}", "--base", tiny_t5).code == 0
    ran = mixhub("search", "team/a", "team/b", "--examples", few_shot, "--budget", 8)
    assert ran.code == 1 and "embedding layers, which are not scored" in " ".join(ran.err.split())


def test_prompts_are_averaged_when_asked_for_and_remade(mixhub: Mixhub, tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 3.0)):
        folder = tmp_path / name
        folder.mkdir()
        save_file({"prompt_embeddings": torch.full((2, 4), value)}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text('{"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2}')
        published = mixhub("publish", folder, f"team/{name}")
        assert published.code == 0 and "changes no weight" in " ".join(published.err.split())
    words = ["compose", "team/a=3", "team/b=1", "--as", "team/mean", "--allow-unbound"]
    refused = mixhub(*words)
    assert refused.code == 1 and "--method prompt-mean" in " ".join(refused.err.split())
    ran = mixhub(*words, "--method", "prompt-mean", "--json")
    assert ran.code == 0, ran.err
    made = pulled(mixhub, "team/mean", tmp_path / "mean")
    assert load_file(made / "adapter_model.safetensors")["prompt_embeddings"].unique().tolist() == [1.5]
    again = mixhub("compose", "--recipe", made / "mixhub_recipe.json", "--as", "team/again")
    assert again.code == 0, again.err
    odd = mixhub(*words, "--method", "prompt-mean", "--param", "density=1")
    assert odd.code in (1, 2) and "'prompt-mean' has no option 'density'" in " ".join(odd.err.split())
    cut = mixhub(*words, "--method", "prompt-mean", "--max-rank", 1)
    assert cut.code in (1, 2) and "changes of weights" in " ".join(cut.err.split())


def test_convolutions_that_the_file_keeps_flat_are_told_by_the_base(mixhub: Mixhub, tmp_path: Path) -> None:
    base, folder = tmp_path / "base", tmp_path / "loha"
    base.mkdir()
    folder.mkdir()
    save_file({"conv.weight": torch.zeros(6, 3, 3, 3)}, base / "model.safetensors")
    (base / "config.json").write_text('{"model_type": "pico"}')
    generator = torch.Generator().manual_seed(1)
    parts = {f"hada_w{i}_{x}": shape for i in (1, 2) for x, shape in (("a", (6, 2)), ("b", (2, 27)))}
    tensors = {f"base_model.model.conv.{p}": torch.randn(shape, generator=generator) for p, shape in parts.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LOHA", "r": 2, "alpha": 2}')
    assert mixhub("publish", folder, "team/loha", "--base", base).code == 0
    assert mixhub("compose", "team/loha=0.5", "--as", "team/mix", "--method", "exact").code == 0
    ran = mixhub("export", "team/mix", "--to", tmp_path / "out")
    assert ran.code == 0, ran.err
    [factors] = read_adapter(tmp_path / "out").modules.values()
    assert factors.kernel == (3, 3)
    a1, b1, a2, b2 = tensors.values()
    torch.testing.assert_close(factors.delta(), 0.5 * (a1 @ b1) * (a2 @ b2), rtol=1e-5, atol=1e-5)
    again = mixhub("compose", "--recipe", pulled(mixhub, "team/mix", tmp_path / "mix"), "--as", "team/again")
    assert again.code == 0, again.err


def test_pissa_is_mixed_and_exported_with_its_initial_factors_instead_of_the_base(
    mixhub: Mixhub, write_lora: Write, tmp_path: Path
) -> None:
    trained, before, other = (
        write_lora(name, seed=seed, init_lora_weights="pissa_niter_4") for seed, name in enumerate(("a", "a0", "b"), 1)
    )
    assert mixhub("publish", trained, "team/a").code == 0
    words = ["compose", "team/a=0.5", "--as", "team/mix", "--method", "exact", "--allow-unbound"]
    refused = mixhub(*words)
    assert refused.code == 1 and "--base" in refused.err
    strange = mixhub(*words, "--initial", f"team/z={before}")
    assert strange.code in (1, 2) and "team/z is not in this mix" in " ".join(strange.err.split())
    ran = mixhub(*words, "--initial", f"team/a={before}", "--json")
    assert ran.code == 0, ran.err
    mix = read_adapter(pulled(mixhub, "team/mix", tmp_path / "mix"))
    exported = mixhub("export", "team/a", "--to", tmp_path / "out", "--initial", before)
    assert exported.code == 0, exported.err
    plain = read_adapter(tmp_path / "out")
    after, start = (load_file(folder / "adapter_model.safetensors") for folder in (trained, before))
    for site in (Q, V):
        a, b = (f"base_model.model.{site}.lora_{x}.weight" for x in "AB")
        expected = 2.0 * (after[b] @ after[a] - start[b] @ start[a])
        torch.testing.assert_close(plain.modules[site].delta(), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(mix.modules[site].delta(), 0.5 * expected, rtol=1e-5, atol=1e-5)
    remake = ["compose", "--recipe", tmp_path / "mix", "--as", "team/again"]
    for wrong, said in (([], "are not given"), (["--initial", f"team/a={other}"], "not the recorded ones")):
        failed = mixhub(*remake, *wrong)
        assert failed.code == 1 and said in " ".join(failed.err.split())
    again = mixhub(*remake, "--initial", f"team/a={before}")
    assert again.code == 0, again.err


def test_initial_factors_of_plain_lora_are_refused(mixhub: Mixhub, write_lora: Write) -> None:
    assert mixhub("publish", write_lora("a"), "team/a").code == 0
    ran = mixhub("compose", "team/a=1", "--as", "team/mix", "--allow-unbound", "--initial", f"team/a={write_lora('b')}")
    assert ran.code == 1 and "leave out --initial" in " ".join(ran.err.split())
