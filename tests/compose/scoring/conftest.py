"""Tiny models of five shapes with a character tokenizer, all in float64: the real pipeline in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from compose.adapter import Factors, LoraAdapter
from compose.examples import Example, Examples
from compose.scoring import LoadedBase

ALPHABET = "abcdefghij "
VOCABULARY = {token: i for i, token in enumerate(["<pad>", "</s>", "<unk>", *ALPHABET])}


def char_tokenizer() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def t5() -> Any:
    config = T5Config(
        vocab_size=len(VOCABULARY), d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    return T5ForConditionalGeneration(config)


def llama() -> Any:
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=1,
    )
    return LlamaForCausalLM(config)


def mistral(window: int) -> Any:
    config = MistralConfig(**llama().config.to_diff_dict(), sliding_window=window)
    return MistralForCausalLM(config)


def gpt2() -> Any:
    config = GPT2Config(
        vocab_size=len(VOCABULARY), n_embd=16, n_layer=2, n_head=4, n_positions=64, bos_token_id=None, eos_token_id=1
    )
    return GPT2LMHeadModel(config)


def bert() -> Any:
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    return BertModel(config)


@dataclass(frozen=True)
class Family:
    """One model shape: how to build it, its kind, and which module names get adapters."""

    name: str
    build: Callable[[], Any]
    kind: Any
    targets: tuple[str, ...]

    def base(self, *, dtype: torch.dtype = torch.float64) -> LoadedBase:
        torch.manual_seed(5)
        model = self.build().to(dtype).eval().requires_grad_(False)
        return LoadedBase(model=model, tokenizer=char_tokenizer(), kind=self.kind, name=f"tiny-{self.name}")

    def adapters(self, model: Any, *, count: int = 3, rank: int = 2, scalings: tuple[float, ...]) -> list[LoraAdapter]:
        random = torch.Generator().manual_seed(11)

        def draw(*shape: int) -> torch.Tensor:
            return 0.3 * torch.randn(*shape, generator=random, dtype=torch.float64)

        adapters = []
        for i in range(count):
            modules = {}
            for path, module in model.named_modules():
                if path.endswith(self.targets):
                    conv = hasattr(module, "nf")
                    out, inner = (module.nf, module.nx) if conv else (module.out_features, module.in_features)
                    modules[path] = Factors(draw(rank, inner), draw(out, rank), scalings[i % len(scalings)])
            adapters.append(LoraAdapter(name=f"adapter-{i}", modules=modules))
        return adapters


FAMILIES = {
    family.name: family
    for family in (
        Family("t5", t5, "seq2seq", (".q", ".v", ".wo")),
        Family("llama", llama, "causal", ("q_proj", "v_proj", "down_proj")),
        Family("gpt2", gpt2, "causal", ("c_attn", "attn.c_proj")),
        Family("bert", bert, "encoder", ("query", "value")),
    )
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(params=["t5", "llama", "gpt2"])
def generating_family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture
def families() -> dict[str, Family]:
    return FAMILIES


@pytest.fixture
def sliding() -> Callable[[int], Family]:
    """A family whose models look back so many tokens and no further."""
    return lambda window: Family("mistral", lambda: mistral(window), "causal", ("q_proj", "v_proj", "down_proj"))


@pytest.fixture
def examples() -> Examples:
    """Inputs and outputs of different lengths, some equal, so that there is padding as well as none."""
    pairs = [("abcde", "edc"), ("fgh", "h"), ("abc jih", "ij"), ("jihgf", "fgh"), ("a", "abcdefg"), ("bcdef", "h")]
    return Examples(tuple(Example(i, o) for i, o in pairs))
