"""PEFT, transformers and the command line `hf`, each in a process of its own with nothing but HF_ENDPOINT set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def run_python(mode: str, live: Any, ann: Any, tmp_path: Path) -> Callable[..., str]:
    """Run a script as a user of the libraries would; gives what it printed."""

    def run(script: str, *words: str, **more: str) -> str:
        environment = environment_of(mode, live, ann, tmp_path) | more
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), *words], env=environment, capture_output=True, text=True,
            cwd=tmp_path, timeout=180,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


def environment_of(mode: str, live: Any, user: Any, tmp_path: Path) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_", "MIXHUB"))
    }
    switch = {"HF_HUB_DISABLE_XET": "1"} if mode == "lfs" else {}
    return kept | switch | {
        "HF_ENDPOINT": live.url, "HF_TOKEN": user.token, "HF_HOME": str(tmp_path / "hf_home"), "OMP_NUM_THREADS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "PYTHONWARNINGS": "ignore",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip


@pytest.mark.case(32, 33)
def test_peft_pushes_and_loads_the_exact_same_adapter(mode: str, run_python: Callable[..., str], ann: Any) -> None:
    """Two pushes, the first tagged v1: each revision gives its own logits, by four ways of loading."""
    script = """
        import sys, torch
        from huggingface_hub import HfApi
        from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
        from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
        from tokenizers import Tokenizer, models, pre_tokenizers

        user = sys.argv[1]
        base, repo = f"{user}/tiny-llama", f"{user}/tiny-lora"
        torch.manual_seed(0)
        config = LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                             num_attention_heads=2, num_key_value_heads=2)
        LlamaForCausalLM(config).push_to_hub(base)
        tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[UNK]": 2}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").push_to_hub(base)

        from transformers import AutoTokenizer
        assert AutoTokenizer.from_pretrained(base)("a b")["input_ids"] == [0, 1]
        ids = torch.arange(8)[None]
        model = AutoModelForCausalLM.from_pretrained(base)
        bare = model(ids).logits
        model = get_peft_model(model, LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
        wanted = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            for name, p in model.named_parameters():
                if "lora_" in name:
                    torch.nn.init.normal_(p, std=0.3)
            model.eval()
            wanted.append(model(ids).logits)
            model.push_to_hub(repo)
            if seed == 1:
                HfApi().create_tag(repo, tag="v1")
        assert not torch.allclose(wanted[0], wanted[1]) and not torch.allclose(wanted[0], bare)

        def fresh():
            return AutoModelForCausalLM.from_pretrained(base)

        def same(loaded, i):
            assert torch.equal(loaded.eval()(ids).logits, wanted[i]), i

        same(PeftModel.from_pretrained(fresh(), repo, revision="v1"), 0)
        same(PeftModel.from_pretrained(fresh(), repo), 1)
        same(AutoPeftModelForCausalLM.from_pretrained(repo), 1)
        loaded = fresh()
        loaded.load_adapter(repo, adapter_kwargs={"revision": "v1"})
        same(loaded, 0)
        same(AutoModelForCausalLM.from_pretrained(repo, adapter_kwargs={"revision": "v1"}), 0)
        info = HfApi().model_info(repo)
        assert f"base_model:adapter:{base}" in info.tags and info.library_name == "peft", info.tags
        assert "rank:4" in info.tags and info.pipeline_tag == "text-generation"
        assert {m.id for m in HfApi().list_models(filter=f"base_model:adapter:{base}")} == {repo}
        print("equal")
    """
    assert "equal" in run_python(script, ann.name)


@pytest.mark.case(34)
def test_a_base_that_is_only_in_the_cache_still_loads(
    mode: str, run_python: Callable[..., str], ann: Any, tmp_path: Path, tiny_t5: Path
) -> None:
    """The client asks the hub for the base too; the answer must not make it forget what it has."""
    folder = tmp_path / "hf_home" / "hub" / "models--meta--tiny"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    for file in tiny_t5.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    script = """
        from transformers import AutoModelForSeq2SeqLM
        print(type(AutoModelForSeq2SeqLM.from_pretrained("meta/tiny")).__name__)
        from huggingface_hub import HfApi
        print(HfApi().repo_exists("meta/tiny"))
    """
    assert run_python(script).split() == ["T5ForConditionalGeneration", "False"]


@pytest.mark.case(1, 36)
def test_the_hf_command(mode: str, live: Any, ann: Any, tmp_path: Path, adapter: Path) -> None:
    environment = environment_of(mode, live, ann, tmp_path)
    token = environment.pop("HF_TOKEN")
    hf = str(Path(sys.executable).parent / "hf")

    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run([hf, *words], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    repo = f"{ann.name}/cli"
    run("auth", "login", "--token", token)
    assert ann.name in run("auth", "whoami")
    run("repos", "create", repo, "--private")
    run("upload", repo, str(adapter), "--commit-message", "by hand")
    run("upload", repo, str(adapter / "README.md"), "README.md", "--revision", "new-branch")
    run("repos", "tag", "create", repo, "v1")
    assert "v1" in run("repos", "tag", "list", repo)
    run("repos", "tag", "create", repo, "other")
    run("repos", "tag", "delete", repo, "other", "--yes")
    assert "other" not in run("repos", "tag", "list", repo)
    run("repos", "branch", "create", repo, "dev")
    assert repo in run("repos", "ls")
    run("cp", f"hf://{repo}/labels.json", str(tmp_path / "copied.json"))
    assert (tmp_path / "copied.json").read_bytes() == (adapter / "labels.json").read_bytes()
    run("download", repo, "--revision", "v1", "--local-dir", str(tmp_path / "down"))
    assert (tmp_path / "down" / "adapter_config.json").read_bytes() == (adapter / "adapter_config.json").read_bytes()
    run("download", repo)
    assert "verified" in run("cache", "verify", repo).lower()
    assert repo in run("models", "ls", "--author", ann.name, "--format", "json")
    assert json.loads(_json_of(run("models", "info", repo)))["id"] == repo
    run("repos", "delete-files", repo, "labels.json")
    run("repos", "settings", repo, "--gated", "auto")
    run("repos", "branch", "delete", repo, "new-branch")
    run("repos", "move", repo, f"{repo}-moved")
    assert "pickle" in run("upload", f"{repo}-moved", str(_pickle(tmp_path)), "weights.bin", code=1)
    run("repos", "delete", f"{repo}-moved", "--yes")
    run("download", f"{repo}-moved", code=1)


def _json_of(text: str) -> str:
    return text[text.index("{") : text.rindex("}") + 1]


def _pickle(folder: Path) -> Path:
    path = folder / "weights.bin"
    path.write_bytes(b"\x80\x04K\x01.")
    return path


def test_adapters_in_folders_and_an_x_lora_of_them_load_with_the_exact_logits(
    mode: str, run_python: Callable[..., str], ann: Any
) -> None:
    """X-LoRA names its adapters by repo; their folders are found with HfFileSystem, as PEFT does it."""
    script = """
        import sys, torch
        from huggingface_hub import HfApi, HfFileSystem
        from peft import LoraConfig, PeftModel, XLoraConfig, get_peft_model
        from transformers import LlamaConfig, LlamaForCausalLM

        user = sys.argv[1]
        torch.manual_seed(0)
        base = LlamaForCausalLM(LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                                            num_attention_heads=2, num_key_value_heads=2, use_cache=False))
        base.save_pretrained("base")
        ids = torch.arange(8)[None]

        def fresh():
            return LlamaForCausalLM.from_pretrained("base")

        config = dict(r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"])
        api, both = HfApi(), f"{user}/both"
        api.create_repo(both)
        wanted = {}
        for seed, name in enumerate(("first", "second"), 1):
            model = get_peft_model(fresh(), LoraConfig(**config))
            torch.manual_seed(seed)
            for key, p in model.named_parameters():
                if "lora_" in key:
                    torch.nn.init.normal_(p, std=0.3)
            wanted[name] = model.eval()(ids).logits
            model.save_pretrained(name)
            api.upload_folder(repo_id=both, folder_path=name, path_in_repo=name)
            model.push_to_hub(f"{user}/{name}")
        for name in wanted:
            assert torch.equal(PeftModel.from_pretrained(fresh(), both, subfolder=name)(ids).logits, wanted[name])
        listed = [one["name"] for one in HfFileSystem().ls(both) if one["type"] == "directory"]
        assert listed == [f"{both}/first", f"{both}/second"], listed

        adapters = {str(i): f"{user}/{name}" for i, name in enumerate(wanted)}
        mixing = XLoraConfig(task_type="CAUSAL_LM", hidden_size=16, xlora_depth=1, adapters=adapters)
        model = get_peft_model(fresh(), mixing)
        logits = model.eval()(input_ids=ids).logits
        assert not torch.equal(logits, base(ids).logits)
        model.push_to_hub(f"{user}/x")
        model.save_pretrained("x")

        def loaded(place, adapters):
            plain = fresh()
            torch.manual_seed(7)  # PEFT 0.21 draws the classifier anew, also for what was saved on this machine
            return PeftModel.from_pretrained(plain, place, adapters=adapters).eval()(input_ids=ids).logits

        here = loaded("x", {str(i): name for i, name in enumerate(wanted)})
        assert torch.equal(loaded(f"{user}/x", adapters), here)
        print("equal", HfApi().model_info(f"{user}/x").tags)
    """
    out = run_python(script, ann.name)
    assert "equal" in out and "xlora" in out
