"""Examples as the model should read them: a prompt template, a chat template, texts in place of labels.

All three only rewrite rows, so that every scorer sees plain texts. Knows nothing of adapters or their contracts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .errors import BadExamples
from .examples import Example, Examples

MODEL = "model"
"""As a chat template: the one that comes with the base model's tokenizer."""


def templated(examples: Examples, template: str) -> Examples:
    """Inputs in the place of `{input}`; all other text of the template is taken as it is, braces too."""
    if "{input}" not in template:
        raise BadExamples(
            f"the prompt template {template!r} does not contain {{input}}",
            remedy='for example --template "Question: {input} Answer:", or --template none',
        )
    return _rewritten(examples, lambda text: template.replace("{input}", text))


def chatted(examples: Examples, tokenizer: Any, chat_template: str) -> Examples:
    """Inputs as the one message of a user, up to where the assistant's answer begins. `chat_template` is Jinja source
    (run in the sandbox of transformers) or `MODEL`. What the tokenizer adds itself is not there twice.
    """
    source = tokenizer.chat_template if chat_template == MODEL else chat_template
    if not source:
        raise BadExamples(
            "the base model's tokenizer has no chat template", remedy="give one: --chat-template FILE, or none"
        )
    from jinja2 import TemplateError

    def render(text: str) -> str:
        try:
            rendered: str = tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], chat_template=source, tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, TypeError) as error:
            raise BadExamples(
                f"the chat template cannot be rendered: {error}", remedy="--chat-template FILE, or none"
            ) from error
        begin = tokenizer.bos_token
        if begin and rendered.startswith(begin) and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]:
            return rendered.removeprefix(begin)
        return rendered

    return _rewritten(examples, render)


def spoken(examples: Examples, texts: Mapping[str, str]) -> Examples:
    """Outputs and choices that are labels become the texts that stand for them."""
    return Examples(
        tuple(
            Example(row.input, texts.get(row.output, row.output), tuple(texts.get(c, c) for c in row.choices))
            for row in examples
        )
    )


def _rewritten(examples: Examples, rewrite: Callable[[str], str]) -> Examples:
    return Examples(tuple(replace(row, input=rewrite(row.input)) for row in examples))
