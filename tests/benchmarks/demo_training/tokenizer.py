"""The tokenizer of the demo's base model: one token for each operation of an instruction and for each character.

A stock `PreTrainedTokenizerFast`, so `AutoTokenizer.from_pretrained` needs none of this code. Whole operation names
keep the inputs short, which halves the time of the encoder; any printable ASCII character can be written.
"""

from __future__ import annotations

import string

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from demo_training.operations import OPERATIONS

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
MAX_TOKENS = 64


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, from nothing; `<pad>` is 0 and also starts the decoder, `</s>` is 1, as T5 has them."""
    printable = [c for c in string.printable if c.isprintable()]
    tokens = [PAD, END, UNKNOWN, *printable, ": ", *OPERATIONS]
    tokenizer = Tokenizer(WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=UNKNOWN))
    # An operation's name counts as one only where an instruction may have it: before `+` or `: `.
    names = "|".join(OPERATIONS)
    tokenizer.pre_tokenizer = Split(Regex(rf"\b(?:{names})(?=\+|: )|: |."), behavior="isolated")
    tokenizer.decoder = Fuse()
    tokenizer.post_processor = TemplateProcessing(single=f"$A {END}", special_tokens=[(END, tokens.index(END))])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
