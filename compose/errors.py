"""Every error that `compose` raises on purpose.

One root, `ComposeError`; a child also inherits the standard exception that a caller would expect. A message names the
adapter (or file), the key, what was found and what was expected; `remedy` is the command or option that repairs it.
To add one: subclass the nearest child below, give it no behaviour.
"""

from __future__ import annotations


class ComposeError(Exception):
    """Root of all errors of this package. `remedy` may be empty; it is shown on a line of its own."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


class MalformedAdapter(ComposeError, ValueError):
    """The files are not a readable adapter: truncated, wrong shapes, NaN, keys that do not pair up."""


class UnsupportedAdapter(ComposeError, NotImplementedError):
    """A readable adapter of a family that cannot be mixed; the message names the family and why."""


class IncompatibleAdapters(ComposeError, ValueError):
    """Adapters that cannot be mixed with each other, or do not fit the base model."""


class BadExamples(ComposeError, ValueError):
    """A few-shot or label file that cannot be used; the message names the line."""


class BadWeights(ComposeError, ValueError):
    """Weights of the wrong number, or not finite."""


class BadMethod(ComposeError, ValueError):
    """A merge method that does not exist, or an option that it does not take."""


class BadRecipe(ComposeError, ValueError):
    """A recipe file that cannot be read, or whose inputs or result are not the recorded ones."""


class OutputExists(ComposeError, FileExistsError):
    """The folder to write to holds something already; nothing was written."""


class BaseModelError(ComposeError, ValueError):
    """A base model that cannot be read, or whose kind cannot be scored."""


class SearchError(ComposeError, ValueError):
    """A search that cannot start or cannot be resumed as asked."""


class MissingExtra(ComposeError, ImportError):
    """Something that an optional part of the installation is needed for; the remedy is the pip command."""
