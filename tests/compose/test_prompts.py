"""Rows as the model should read them: templates around inputs, texts for labels, no token twice."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from compose.errors import BadExamples
from compose.examples import Example, Examples
from compose.prompts import MODEL, chatted, spoken, templated

ROWS = Examples((Example("2+2?", "4"), Example("a {b}", "pos", ("pos", "neg"))))
CHAT = "{{ bos_token }}{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}" + (
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tokenizer(*, begins: bool, chat: str | None = None) -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.WordLevel({"<s>": 0, "<unk>": 1}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    if begins:
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", unk_token="<unk>")
    made.chat_template = chat
    return made


def test_a_template_goes_around_every_input_and_leaves_other_braces_alone() -> None:
    rows = templated(ROWS, 'Q: {input} {"json": {}} A:')
    assert [row.input for row in rows] == ['Q: 2+2? {"json": {}} A:', 'Q: a {b} {"json": {}} A:']
    assert [(row.output, row.choices) for row in rows] == [(row.output, row.choices) for row in ROWS]
    with pytest.raises(BadExamples, match=r"does not contain \{input\}"):
        templated(ROWS, "Q:")


@pytest.mark.parametrize("begins", [True, False])
def test_a_chat_ends_where_the_answer_begins_and_its_first_token_is_there_once(begins: bool) -> None:
    for made, source in ((tokenizer(begins=begins), CHAT), (tokenizer(begins=begins, chat=CHAT), MODEL)):
        [first, _] = chatted(ROWS, made, source)
        assert first.input == ("" if begins else "<s>") + "<user> 2+2? <assistant>"
        assert made(first.input).input_ids.count(0) == 1


def test_a_chat_template_that_is_missing_or_broken_is_named_with_the_option() -> None:
    with pytest.raises(BadExamples, match=r"has no chat template\n.*--chat-template FILE"):
        chatted(ROWS, tokenizer(begins=True), MODEL)
    for broken in ("{% if %}", "{{ nothing.there.at_all }}", "{{ raise_exception('no system') }}"):
        with pytest.raises(BadExamples, match="cannot be rendered"):
            chatted(ROWS, tokenizer(begins=True), broken)


def test_labels_become_the_texts_that_stand_for_them() -> None:
    assert spoken(ROWS, {"pos": "a good one", "neg": "bad"}).rows == (
        ROWS.rows[0],
        Example("a {b}", "a good one", ("a good one", "bad")),
    )
