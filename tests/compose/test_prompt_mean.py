"""Prompts of one type and shape are averaged on request; PEFT loads the mean. Everything else is said."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from compose.errors import BadMethod, BadWeights, IncompatibleAdapters, MalformedAdapter
from compose.prompt_mean import Prompt, mean_prompt, mix_prompts, read_prompt, save_prompt

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
KINDS = {"prompt": "PromptTuningConfig", "prefix": "PrefixTuningConfig", "p-tuning": "PromptEncoderConfig"}


@pytest.fixture
def trained(tiny_model: Callable[[str], nn.Module], tmp_path: Path) -> Callable[..., Path]:
    """A prompt of random values that PEFT saved for the tiny Llama."""

    def make(kind: str, seed: int, *, tokens: int = 3) -> Path:
        import peft

        sizes: dict[str, Any] = {"encoder_hidden_size": 8} if kind == "p-tuning" else {}
        config = getattr(peft, KINDS[kind])(task_type="CAUSAL_LM", num_virtual_tokens=tokens, **sizes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = peft.get_peft_model(tiny_model("llama"), config)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.prompt_encoder.parameters():
                parameter.normal_(std=0.5)
        folder = tmp_path / f"{kind}-{seed}-{tokens}"
        model.save_pretrained(folder)
        return folder

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_peft_loads_the_mean_and_computes_with_it(
    kind: str,
    trained: Callable[..., Path],
    tiny_model: Callable[[str], nn.Module],
    logits: Callable[[nn.Module], Tensor],
    tmp_path: Path,
) -> None:
    from peft import PeftModel

    folders = [trained(kind, seed) for seed in (1, 2)]
    mean = mix_prompts(folders, [3.0, 1.0], names=["a", "b"], into="mean", params={})
    report = save_prompt(mean, tmp_path / "mean")
    assert report.max_change < 1e-7
    values = [load_file(folder / "adapter_model.safetensors")["prompt_embeddings"] for folder in folders]
    expected = PeftModel.from_pretrained(tiny_model("llama"), folders[0])
    with torch.no_grad():
        expected.prompt_encoder["default"].embedding.weight.copy_(0.75 * values[0] + 0.25 * values[1])
    loaded = PeftModel.from_pretrained(tiny_model("llama"), tmp_path / "mean")
    torch.testing.assert_close(logits(loaded), logits(expected), rtol=1e-5, atol=1e-5)
    alone = logits(PeftModel.from_pretrained(tiny_model("llama"), folders[0]))
    assert (logits(loaded) - alone).abs().max() > 1e-3


def prompt(name: str, value: float, *, shape: tuple[int, int] = (2, 4), kind: str = "PROMPT_TUNING") -> Prompt:
    return Prompt(name, kind, torch.full(shape, value), torch.float32, {"peft_type": kind})


def test_the_mean_does_not_depend_on_the_order_nor_on_the_size_of_the_weights() -> None:
    one, two = prompt("one", 1.0), prompt("two", 5.0)
    for found in (mean_prompt([one, two], [3, 1]), mean_prompt([two, one], [0.1, 0.3])):
        torch.testing.assert_close(found.values, torch.full((2, 4), 2.0))
    assert torch.equal(mean_prompt([two], [-7.0]).values, two.values)
    half = mean_prompt([one, replace(two, dtype=torch.float16)], [1, 1])
    assert half.dtype == torch.float32


@pytest.mark.parametrize(
    ("second", "weights", "error", "said"),
    [
        (prompt("b", 1.0, shape=(3, 4)), [1, 1], IncompatibleAdapters, r"shape \[3, 4\], a is"),
        (prompt("b", 1.0, kind="P_TUNING"), [1, 1], IncompatibleAdapters, "b: is P_TUNING"),
        (prompt("b", 1.0), [1, -1], BadWeights, "sum to 0"),
        (prompt("b", 1.0), [1], BadWeights, "one number per prompt"),
        (prompt("b", 1.0), [1, {"*": 1.0}], BadWeights, "no modules to weigh apart"),
    ],
)
def test_what_has_no_mean_is_said(second: Prompt, weights: list[Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        mean_prompt([prompt("a", 1.0), second], weights)


def test_only_prompts_are_read(write_adapter: Callable[..., Path]) -> None:
    with pytest.raises(IncompatibleAdapters, match="it is LORA"):
        read_prompt(write_adapter(name="lora"))
    for number, tensors in enumerate(
        (
            {"prompt_embeddings": torch.ones(2, 3, 4)},
            {"prompt_embeddings": torch.ones(2, 3), "other": torch.ones(1)},
            {"prompt_embeddings": torch.full((2, 3), float("nan"))},
        )
    ):
        folder = write_adapter(tensors, name=f"bad-{number}", peft_type="PREFIX_TUNING")
        with pytest.raises(MalformedAdapter, match="prompt_embeddings"):
            read_prompt(folder)
    with pytest.raises(BadMethod, match="no option 'density'"):
        mix_prompts([], [], names=[], into="x", params={"density": 1})
