"""The gate: nothing replaces the base without evidence, and simple things are not replaced by luck."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compose.gate import decide, exceeds_chance

EXAMPLES = 16
NOISE = np.random.default_rng(0).normal(0, 0.2, EXAMPLES)
BASE = np.full(EXAMPLES, 1.0)


def test_a_clear_gain_is_kept_and_said() -> None:
    gate = decide(["mix"], "base", {"mix": BASE - 0.5 + NOISE, "base": BASE, "single": BASE - 0.1 + NOISE}, folds=4)
    assert gate.kept == "mix" and "and was kept" in gate.sentence and "4 folds" in gate.sentence


def test_a_gain_that_may_be_luck_is_refused_and_the_base_kept() -> None:
    lucky = BASE + NOISE - NOISE.mean() - 0.01
    gate = decide(["mix"], "base", {"mix": lucky, "base": BASE}, folds=4)
    [mix, base] = gate.estimates
    assert mix.loss < base.loss and 0.5 < mix.ahead_of_base < 0.9
    assert gate.kept == "base" and "no evidence of a gain, so base was kept" in gate.sentence


def test_what_can_do_little_harm_needs_less_evidence() -> None:
    error = float(NOISE.std() / np.sqrt(len(NOISE)))
    for gain, safe, kept in ((0.8, ["mix"], "mix"), (0.8, [], "base"), (0.2, ["mix"], "base")):
        lucky = BASE + NOISE - NOISE.mean() - gain * error
        assert decide(["mix"], "base", {"mix": lucky, "base": BASE}, safe=safe, folds=4).kept == kept


def test_a_hopeful_mix_beyond_chance_is_kept_if_it_is_surely_ahead_of_what_is_simpler() -> None:
    found = {"mix": BASE - 0.95 + 0.2 * NOISE, "base": BASE, "single": BASE - 0.7 + 0.2 * np.roll(NOISE, 1)}
    assert decide(["mix"], "base", found, hopeful={"mix": 10}, folds=4).kept == "mix"
    found["single"] = found["mix"] + 0.2 * np.roll(NOISE, 3)
    gate = decide(["mix"], "base", found, hopeful={"mix": 10}, folds=4)
    assert gate.kept == "single"


def test_one_adapter_that_is_surely_ahead_of_the_mix_is_kept() -> None:
    found = {"mix": BASE - 0.3 + NOISE, "base": BASE, "single": BASE - 0.8 + NOISE}
    assert decide(["mix"], "base", found, folds=4).kept == "single"


def test_a_bolder_mix_must_be_surely_ahead_of_the_one_before_it() -> None:
    found = {"one": BASE - 0.3 + NOISE, "other": BASE - 0.4 + NOISE, "base": BASE}
    assert decide(["one", "other"], "base", found, folds=4).kept == "other"
    found["other"] = found["one"] - 0.01 + np.roll(NOISE, 1) - NOISE.mean()
    assert found["other"].mean() < found["one"].mean()
    assert decide(["one", "other"], "base", found, folds=4).kept == "one"


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), examples=st.integers(2, 40))
def test_what_is_kept_never_has_a_higher_estimate_than_the_base_and_intervals_hold_their_mean(
    seed: int, examples: int
) -> None:
    random = np.random.default_rng(seed)
    held_out = {name: random.exponential(1.0, examples) for name in ("mix", "base", "single", "uniform")}
    gate = decide(["mix"], "base", held_out, safe=["uniform"], folds=4)
    estimates = {one.name: one for one in gate.estimates}
    assert estimates[gate.kept].loss <= estimates["base"].loss
    for name, one in estimates.items():
        assert one.loss == pytest.approx(held_out[name].mean()) and one.low <= one.loss <= one.high
    assert gate == decide(["mix"], "base", held_out, safe=["uniform"], folds=4)


def test_with_as_many_weights_as_examples_what_was_chosen_by_them_is_no_evidence() -> None:
    """Some direction through any noise is ahead on every example then."""
    gains = np.full(EXAMPLES, 1.0) + NOISE
    assert exceeds_chance(gains, 5, 0.9) and not exceeds_chance(gains, EXAMPLES, 0.9)
    found = {"mix": BASE - gains, "base": BASE}
    kept = [decide(["mix"], "base", found, hopeful={"mix": n}, folds=4).kept for n in (5, EXAMPLES)]
    assert kept == ["mix", "base"]
