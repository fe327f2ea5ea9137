"""Rows that an adapter was trained on are found among examples by digest, whatever their spacing."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose.errors import BadExamples
from compose.examples import Example
from compose.training_rows import (
    TRAINING_ROWS_FILE,
    overlap,
    read_training_rows,
    training_rows_text,
)

ROWS = [Example("Is it good?", "yes"), Example("ﬁne  day", "no\n"), Example("x", "y")]


def written(folder: Path, text: str) -> Path:
    (folder / TRAINING_ROWS_FILE).write_text(text, encoding="utf-8")
    return folder


def test_examples_that_were_trained_on_are_found_and_others_are_not(tmp_path: Path) -> None:
    digests = read_training_rows(written(tmp_path, training_rows_text(ROWS)), owner="ns/a")
    assert digests is not None and len(digests) == 3
    asked = [Example("Is it bad?", "yes"), Example("fine day", " no"), Example("x", "Y"), Example("x", "y")]
    assert overlap(asked, digests) == [2, 4], "spacing and ligatures do not count, case and output do"


def test_the_file_holds_no_text_of_the_rows_and_does_not_depend_on_their_order() -> None:
    text = training_rows_text(ROWS)
    assert text == training_rows_text([*ROWS[::-1], ROWS[0]])
    assert "good" not in text and len(text.splitlines()) == 4


def test_an_adapter_without_the_file_says_nothing_and_a_damaged_file_names_its_line(tmp_path: Path) -> None:
    assert read_training_rows(tmp_path, owner="ns/a") is None
    with pytest.raises(BadExamples, match=r"ns/a: mixhub_training_rows\.txt line 2 is 'oops'"):
        read_training_rows(written(tmp_path, "# header\noops\n"), owner="ns/a")
