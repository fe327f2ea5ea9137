"""The string operations that the demo's models learn, and the examples made from them.

Every operation is a pure function on a lower-case string of 3 to 7 letters. A task applies one or two of them, from
left to right. An instruction names operations in the input: `upper+rotl: hello`; without one the input is the bare
string, and only an adapter can tell the model what to do.

A string belongs to exactly one split by a checksum of its letters, whatever the seed: a test string can occur in no
training batch and in no few-shot file, of any task.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

VOWELS = "aeiou"
CONSONANTS = "bcdfghjklmnpqrstvwxyz"
MIN_LETTERS, MAX_LETTERS = 3, 7

Split = Literal["train", "few", "test"]


def _shift(text: str) -> str:
    return "".join("a" if c == "z" else "A" if c == "Z" else chr(ord(c) + 1) if c.isalpha() else c for c in text)


def _star(text: str) -> str:
    return "".join("*" if c.lower() in VOWELS else c for c in text)


OPERATIONS: Mapping[str, Callable[[str], str]] = {
    "upper": str.upper,
    "cap": lambda s: s[:1].upper() + s[1:],
    "shift": _shift,
    "star": _star,
    "rev": lambda s: s[::-1],
    "rotl": lambda s: s[1:] + s[:1],
    "rotr": lambda s: s[-1:] + s[:-1],
    "swap": lambda s: s[-1:] + s[1:-1] + s[:1],
    "dbl": lambda s: "".join(c + c for c in s),
    "dropf": lambda s: s[1:],
    "dropl": lambda s: s[:-1],
    "wrap": lambda s: f"[{s}]",
    "dash": lambda s: s + "-",
    "size": lambda s: str(len(s)),
}
"""Name, as written in an instruction, to function."""

MEANINGS: Mapping[str, str] = {
    "upper": "every letter in upper case",
    "cap": "the first letter in upper case",
    "shift": "every letter replaced by the next of the alphabet (z becomes a)",
    "star": "every vowel replaced by *",
    "rev": "the letters in reverse order",
    "rotl": "the first letter moved to the end",
    "rotr": "the last letter moved to the front",
    "swap": "the first and the last letter exchanged",
    "dbl": "every letter twice",
    "dropf": "without the first letter",
    "dropl": "without the last letter",
    "wrap": "in square brackets",
    "dash": "with a dash at the end",
    "size": "the number of letters",
}


def apply(operations: Sequence[str], text: str) -> str:
    """`text` after the named operations, the first one first."""
    for name in operations:
        text = OPERATIONS[name](text)
    return text


def instructed(operations: Sequence[str], text: str) -> str:
    """`text` with an instruction that names `operations`; the bare text for none."""
    return f"{'+'.join(operations)}: {text}" if operations else text


def split_of(text: str) -> Split:
    """The only split that `text` may be used in: 1/8 of all strings are for tests, 1/8 for few-shot files."""
    bucket = zlib.crc32(text.encode()) % 8
    return "test" if bucket == 0 else "few" if bucket == 1 else "train"


def random_text(rng: random.Random, split: Split) -> str:
    """A random string of `split`; about 4 letters of 10 are vowels."""
    while True:
        letters = rng.randint(MIN_LETTERS, MAX_LETTERS)
        text = "".join(rng.choice(VOWELS if rng.random() < 0.4 else CONSONANTS) for _ in range(letters))
        if split_of(text) == split:
            return text


def distinct_rows(
    operations: Sequence[str], instruction: Sequence[str], *, count: int, split: Split, seed: int
) -> list[tuple[str, str]]:
    """`count` pairs (input, output) of different strings; the input carries `instruction`, the output is the truth."""
    rng = random.Random(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts.setdefault(random_text(rng, split))
    return [(instructed(instruction, text), apply(operations, text)) for text in texts]
