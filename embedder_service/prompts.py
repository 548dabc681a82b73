"""Sentences in which a word embedding stands for an image: their tokens, and the place of the word. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cir.prompts import Slot, Template
from embedder_service.batching.jobs import Tokens

#: Word embeddings, float32 (n, token width).
Words = npt.NDArray[np.float32]
#: Sentences, (n,) records of `prompt_type`.
Prompts = npt.NDArray[np.void]

# Begin, end, and the image's word.
_OWN_TOKENS = 3


class WordTokenizer(Protocol):
    """A tokenizer of CLIP's kind: a sentence is `begin`, the ids of its words, and `end`."""

    context: int

    @property
    def begin(self) -> int:
        """Token before the words."""

    @property
    def end(self) -> int:
        """Token behind the words, the highest of all."""

    def words(self, text: str) -> list[int]:
        """Return the ids of all words of a text."""


def prompt_type(context: int, width: int) -> np.dtype[np.void]:
    """Return the record of one sentence: its tokens, the place of the word, and the word's embedding."""
    fields: list[Any] = [
        ("tokens", np.int64, (context,)),
        ("place", np.int64),
        ("word", np.float32, (width,)),
    ]
    return np.dtype(fields)


def tokenize_prompts(
    tokenizer: WordTokenizer, template: Template, texts: Sequence[str], words: Words
) -> tuple[Prompts, dict[int, int]]:
    """Return a sentence for each text and word embedding, and by place the tokens of texts that were cut.

    Words of the template are left out where the sentence would be longer than the context: they never cost
    any of the text. The text is cut where it does not fit even so.
    """
    parts = [part if isinstance(part, Slot) else tokenizer.words(part) for part in template.parts]
    own = sum(len(part) for part in parts if isinstance(part, list))
    room = tokenizer.context - _OWN_TOKENS
    prompts = np.zeros(len(texts), prompt_type(tokenizer.context, words.shape[1]))
    prompts["word"] = words
    cuts: dict[int, int] = {}
    for index, text in enumerate(texts):
        ids = tokenizer.words(text)
        if len(ids) > room:
            cuts[index] = len(ids) + _OWN_TOKENS
        tokens = [tokenizer.begin]
        for part in parts:
            if part is Slot.IMAGE:
                prompts["place"][index] = len(tokens)
                tokens.append(0)
            elif part is Slot.TEXT:
                tokens += ids[:room]
            elif len(ids) + own <= room:
                tokens += part
        tokens.append(tokenizer.end)
        prompts["tokens"][index, : len(tokens)] = tokens
    return prompts, cuts


# Lengths are rounded up, so that a device sees few different shapes.
_LENGTH_STEP = 8


def cut_length(tokens: Tokens) -> int:
    """Return the length that (n, context) tokens are cut to; their end has the highest id, as in CLIP."""
    return rounded_length(int(tokens.argmax(axis=1).max()) + 1, tokens.shape[1])


def rounded_length(longest: int, context: int) -> int:
    """Return the tokens of a batch whose longest text has `longest`."""
    return min(-(-longest // _LENGTH_STEP) * _LENGTH_STEP, context)


def word_mask(prompts: Prompts, length: int) -> npt.NDArray[np.bool_]:
    """Return (n, length), true where a sentence has its word embedding."""
    mask: npt.NDArray[np.bool_] = np.arange(length) == prompts["place"][:, None]
    return mask
