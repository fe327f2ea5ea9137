"""Models of every transformers release that is allowed are given their keys and values by the name they know."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache, GenerationMixin, LlamaConfig, LlamaForCausalLM

from compose.cache_argument import NAMES, cache_argument, given_cache


def renamed(input_ids: Any, cache: Any = None) -> Any:
    return input_ids, cache


def former(input_ids: Any, past_key_values: Any = None) -> Any:
    return input_ids, past_key_values


def unlisted(**given: Any) -> Any:
    return given


def test_a_call_says_itself_which_name_it_has() -> None:
    assert (cache_argument(renamed), cache_argument(former)) == ("cache", "past_key_values")


def test_one_that_lists_none_takes_the_name_of_the_installed_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GenerationMixin, "prepare_inputs_for_generation", former)
    assert cache_argument(unlisted) == "past_key_values"
    monkeypatch.setattr(GenerationMixin, "prepare_inputs_for_generation", renamed)
    assert cache_argument(unlisted) == "cache"


@pytest.mark.parametrize("name", NAMES)
def test_the_cache_of_a_call_is_found_under_any_name(name: str) -> None:
    held = DynamicCache()
    assert given_cache({name: held, "use_cache": True}) is held
    assert given_cache({name: None, "use_cache": True}) is None and given_cache({}) is None


def test_a_model_of_the_installed_library_goes_on_from_what_it_is_given_without_a_warning() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )  # one layer is enough to have states
    model = LlamaForCausalLM(config).eval()
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.inference_mode():
        whole = model(input_ids=ids, use_cache=False).logits
        cache = DynamicCache(config=config)
        model(input_ids=ids[:, :3], use_cache=True, **{cache_argument(model.forward): cache})
        assert cache.get_seq_length() == 3
        rest = model(input_ids=ids[:, 3:], use_cache=True, **{cache_argument(model.forward): cache}).logits
        torch.testing.assert_close(rest[0, 0], whole[0, 3])
        written = {"attention_mask": torch.ones(1, 4), "max_new_tokens": 1, "do_sample": False, "pad_token_id": 0}
        again = DynamicCache(config=config)
        model(input_ids=ids[:, :3], use_cache=True, **{cache_argument(model.forward): again})
        gone_on = model.generate(input_ids=ids, **{cache_argument(model.generate): again}, **written)
        assert torch.equal(gone_on, model.generate(input_ids=ids, **written))
