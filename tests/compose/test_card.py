"""The card's front matter is YAML that hubs accept, whatever the texts hold; its table names every parent."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from compose.card import CardFacts, card_text
from compose.recipe import Parent, Recipe

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def front_matter(card: str) -> dict[str, object]:
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("\n---\n")[0])


def text(base: str | None = "google/flan-t5-large", recipe: Recipe | None = None, **facts: object) -> str:
    return card_text(CardFacts(**facts), base_model=base, task_type="SEQ_2_SEQ_LM", recipe=recipe)


def test_the_front_matter_names_base_library_and_tags() -> None:
    assert front_matter(text(license="apache-2.0", tags=("qa", "lora"))) == {
        "library_name": "peft",
        "base_model": "google/flan-t5-large",
        "license": "apache-2.0",
        "tags": ["lora", "merge", "mixhub", "qa"],
    }


@pytest.mark.parametrize("base", [None, "../llama-7b", "C:\\models\\llama", "/content/drive/x", "a/b/c", "a b"])
def test_a_base_that_is_no_name_stays_out_of_the_front_matter(base: str | None) -> None:
    assert "base_model" not in front_matter(text(base))


@given(tag=TEXT, title=TEXT, licence=TEXT)
def test_any_text_makes_valid_front_matter_and_one_heading(tag: str, title: str, licence: str) -> None:
    card = text(tags=(tag,), title=title, license=licence)
    found = front_matter(card)
    assert found["tags"][-1] == tag or tag in ("lora", "merge", "mixhub")
    assert found["license"] == licence
    assert sum(line.startswith("# ") for line in card.split("\n---\n", 1)[1].split("```")[0].splitlines()) <= 1


def test_the_table_has_a_row_per_parent_with_revision_and_weight() -> None:
    recipe = Recipe(
        (
            Parent("ns/a", 0.6, "0" * 64, "1" * 64, commit="abcdef0123456789" + "0" * 24),
            Parent("ns/b", -0.3, "0" * 64, "1" * 64, folder="sub|x"),
        ),
        method="svd",
        params={"rank": 8},
        search={"seed": 1},
    )
    card = text(recipe=recipe)
    assert "| `ns/a` | `abcdef012345` | +0.6000 |" in card
    assert "| `ns/b/sub/x` | `-` | -0.3000 |" in card
    assert "`svd` (rank=8). The weights were found by a search" in card
    assert "mixhub compose --recipe mixhub_recipe.json" in card
