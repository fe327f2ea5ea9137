"""The usage contract of a search: what the adapters say, made one and reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub.errors import UsageError
from hub.search_usage import SearchUsage, choose_usage, stored_usage
from storage.adapters import Usage

Q, ASK = "Q: {input}", "Ask: {input}"


def test_what_all_agree_on_is_taken_and_told() -> None:
    usage, [note] = choose_usage([("a", Usage(prompt_template=Q)), ("b", Usage()), ("c", Usage(prompt_template=Q))])
    assert usage == SearchUsage(template=Q)
    assert "prompt template of a, c" in note and "--template none" in note


def test_different_contracts_are_reported_and_the_most_named_is_taken() -> None:
    parts = [("a", Usage(prompt_template=ASK)), ("b", Usage(prompt_template=Q)), ("c", Usage(prompt_template=Q))]
    usage, [note] = choose_usage(parts)
    assert usage.template == Q
    assert "different prompt templates" in note and f'"{ASK}" (a)' in note and f'"{Q}" (b, c)' in note
    assert f'"{Q}" is used' in note and "--template" in note
    tied, _ = choose_usage(parts[:2])
    assert tied.template == ASK, "the first named on a tie"


def test_options_win_over_contracts(tmp_path: Path) -> None:
    parts = [("a", Usage(prompt_template=Q, chat_template="theirs"))]
    assert choose_usage(parts, template="none", chat_template="none") == (SearchUsage(), ())
    chat = tmp_path / "chat.jinja"
    chat.write_text("{{ messages }}")
    assert choose_usage(parts, template=ASK, chat_template=str(chat))[0] == SearchUsage(ASK, "{{ messages }}")
    assert choose_usage(parts, template=ASK, chat_template="model")[0] == SearchUsage(ASK, "model")


def test_label_texts_are_taken_only_when_they_cover_the_outputs() -> None:
    parts = [("a", Usage(label_texts={"pos": "good", "neg": "bad"}, stop_strings=("\n",)))]
    covered, notes = choose_usage(parts, outputs=["pos", "pos"])
    assert covered == SearchUsage(label_texts={"pos": "good", "neg": "bad"}, stop=("\n",)) and len(notes) == 2
    assert choose_usage(parts, outputs=["pos", "maybe"])[0].label_texts is None


def test_a_bad_option_is_refused() -> None:
    with pytest.raises(UsageError, match=r"does not contain \{input\}"):
        choose_usage([], template="Q:")
    with pytest.raises(UsageError, match=r"--chat-template nowhere\.jinja"):
        choose_usage([], chat_template="nowhere.jinja")


def test_what_is_stored_is_read_back() -> None:
    for usage in (SearchUsage(), SearchUsage(Q, "model", {"a": "b"}, ("\n", "###"))):
        assert stored_usage(json.loads(json.dumps(usage.as_dict()))) == usage
