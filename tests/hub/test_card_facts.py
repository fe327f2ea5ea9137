"""What is read from a model card, and how a broken card is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.card_facts import CardFacts, UsageContract, read_card
from hub.errors import BadUpload

CARD = """---
license: apache-2.0
base_model: [team/base]
pipeline_tag: text-classification
tags: [lora, emotion]
datasets: [go_emotions]
model-index:
- name: x
  results:
  - task: {type: text-classification, name: emotion}
    metrics: [{type: accuracy, value: 0.9}]
mixhub:
  prompt_template: "Text: {input}"
  label_texts: {yes: a yes, 1: one}
  stop_strings: ["\\n"]
  suggested_weight: 0.5
---
# A card
"""


def card(folder: Path, text: str) -> CardFacts:
    (folder / "README.md").write_text(text, encoding="utf-8")
    return read_card(folder)


def test_licence_base_tags_metrics_and_contract_come_from_the_front_matter(tmp_path: Path) -> None:
    facts = card(tmp_path, CARD)
    assert (facts.licence, facts.base_model) == ("apache-2.0", "team/base")
    assert ("task", "text-classification", "") in facts.tags and ("task", "emotion", "") in facts.tags
    assert ("metric", "accuracy", "0.9") in facts.tags and ("dataset", "go_emotions", "") in facts.tags
    assert facts.contract == UsageContract("Text: {input}", None, {"yes": "a yes", "1": "one"}, ("\n",), 0.5)


def test_the_jinja_file_is_the_chat_template_and_given_options_win(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    from_files = card(tmp_path, CARD).contract
    assert from_files.chat_template == "{{ messages }}"
    given = UsageContract(prompt_template="mine", suggested_weight=0.0).or_else(from_files)
    assert (given.prompt_template, given.suggested_weight, given.stop_strings) == ("mine", 0.0, ("\n",))


@pytest.mark.parametrize("text", ["", "no front matter", "---\n---\n", "\ufeff---\nlicense: mit\n---\n"])
def test_a_card_without_facts_is_fine(tmp_path: Path, text: str) -> None:
    assert card(tmp_path, text).base_model is None


@pytest.mark.parametrize(
    "text",
    [
        "---\nlicense: mit\n",
        "---\n: [\n---\n",
        "---\n- a\n---\n",
        "---\nx: !!python/object/apply:os.system [echo]\n---\n",
        "---\nmixhub: 3\n---\n",
        "---\nmixhub: {prompt: x}\n---\n",
        "---\nmixhub: {suggested_weight: heavy}\n---\n",
        "---\nmixhub: {label_texts: [a]}\n---\n",
        "---\nx: " + "[" * 100_000 + "\n---\n",
    ],
)
def test_a_broken_card_is_one_clear_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadUpload, match=r"README\.md"):
        card(tmp_path, text)
