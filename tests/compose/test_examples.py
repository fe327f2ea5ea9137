"""Reading few-shot examples and label texts: what is accepted, and that every refusal names its line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.errors import BadExamples
from compose.examples import Example, Examples, default_labels, read_examples, read_labels

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ROWS = st.lists(st.builds(Example, TEXT, TEXT.filter(lambda text: bool(text.strip()))), min_size=1, max_size=5)


def write(folder: Path, content: str | bytes, name: str = "few.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def test_rows_come_back_in_file_order(tmp_path: Path) -> None:
    path = write(tmp_path, '{"input": "b", "output": "B"}\n\n{"input": "a", "output": "A"}\n')
    assert read_examples(path).rows == (Example("b", "B"), Example("a", "A"))


@given(rows=ROWS)
def test_whatever_text_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Example]) -> None:
    lines = "\n".join(json.dumps({"input": r.input, "output": r.output}, ensure_ascii=False) for r in rows)
    path = write(tmp_path_factory.mktemp("rows"), lines)
    assert read_examples(path).rows == tuple(rows)


def test_a_byte_order_mark_and_crlf_change_nothing(tmp_path: Path) -> None:
    plain = write(tmp_path, '{"input": "a", "output": "A"}\n{"input": "b", "output": "B"}\n', "plain")
    odd = write(tmp_path, b'\xef\xbb\xbf{"output": "A", "input": "a"}\r\n{"input": "b", "output": "B", "x": 1}', "odd")
    assert read_examples(odd) == read_examples(plain)
    assert read_examples(odd).digest == read_examples(plain).digest


def test_the_digest_tells_every_change_apart() -> None:
    one = Examples((Example("a", "b"), Example("c", "d")))
    others = [
        Examples((Example("c", "d"), Example("a", "b"))),
        Examples((Example("a", "b"),)),
        Examples((Example("ab", ""), Example("c", "d"))),
        Examples((Example("a", "b"), Example("c", "D"))),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 5


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ("[1]", "line 2 is a list"),
        ('{"input": "a"}', "line 2 has no 'output'"),
        ('{"output": "a"}', "line 2 has no 'input'"),
        ('{"input": 1, "output": "a"}', "line 2: 'input' is 1"),
        ('{"input": "a", "output": null}', "line 2: 'output' is None"),
        ('{"input": "a", "output": " "}', "line 2: 'output' is empty"),
        ('{"input": "\\ud800", "output": "a"}', "line 2: 'input' holds half"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str, said: str) -> None:
    path = write(tmp_path, '{"input": "a", "output": "A"}\n' + line)
    with pytest.raises(BadExamples, match=r"few\.jsonl") as caught:
        read_examples(path)
    assert said in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(BadExamples, match="no examples"):
        read_examples(write(tmp_path, content))


def test_a_file_that_is_missing_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadExamples, match="cannot read"):
        read_examples(tmp_path / "none.jsonl")
    with pytest.raises(BadExamples, match="not UTF-8"):
        read_examples(write(tmp_path, b'{"input": "\xff", "output": "a"}'))


def test_labels_keep_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, '{"neg": "a bad one", "pos": "a good one"}')
    assert list(read_labels(path).items()) == [("neg", "a bad one"), ("pos", "a good one")]


@pytest.mark.parametrize("content", ["", "[]", '{"a": "x"}', '{"a": 1, "b": "x"}', '{"a": "", "b": "x"}', "{"])
def test_label_files_that_are_no_label_sets_are_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(BadExamples, match=r"labels\.json"):
        read_labels(write(tmp_path, content, "labels.json"))


def test_a_label_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadExamples, match="'a' twice"):
        read_labels(write(tmp_path, '{"a": "x", "a": "y"}', "labels.json"))


def test_without_a_file_the_labels_are_the_distinct_outputs() -> None:
    examples = Examples((Example("1", "b"), Example("2", "a"), Example("3", "b")))
    assert list(default_labels(examples).items()) == [("a", "a"), ("b", "b")]


def test_a_row_may_name_its_choices_and_its_digest_then_covers_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"input": "x", "output": "b", "choices": ["a", "b"]}\n{"input": "y", "output": "c"}\n')
    rows = read_examples(path)
    assert [row.choices for row in rows] == [("a", "b"), ()]
    plain = Examples((Example("x", "b"), Example("y", "c")))
    assert rows.digest != plain.digest
    assert plain.digest == hashlib.sha256(b'[["x","b"],["y","c"]]').hexdigest(), "as before there were choices"


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ('"ab"', "not a list"),
        ('["a"]', "two or more"),
        ('["a", "a"]', "all different"),
        ('["a", 1]', "not a text"),
        ('["a", " "]', "not empty"),
        ('["a", "c"]', "'b' is none of its choices"),
    ],
)
def test_choices_that_cannot_be_ranked_are_refused_with_their_line(tmp_path: Path, choices: str, words: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"input": "x", "output": "b", "choices": {choices}}}\n')
    with pytest.raises(BadExamples, match=rf"rows.jsonl line 1.*{words}"):
        read_examples(path)
