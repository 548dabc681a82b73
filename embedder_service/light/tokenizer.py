"""Tokenizers without torch: CLIP's own, and those of Hugging Face, with the same token ids as open_clip's.

Byte pairs of CLIP are merged by the library that reads `tokenizer.json`. Cleaning and the cut into words are
those of CLIP: the same libraries and the same pattern, since any other one differs somewhere in Unicode. A
tokenizer of Hugging Face is run by that library alone, as transformers runs it.
"""

from __future__ import annotations

import html
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ftfy
import numpy as np
import regex
from tokenizers import Tokenizer as Vocabulary
from tokenizers import models, pre_tokenizers

from embedder_service.batching.jobs import Tokens
from embedder_service.traits import Padding
from service_runtime.errors import StartupError

#: Name of the tokenizer of OpenAI's CLIP, as in the model info.
CLIP_TOKENIZER = "clip"
_BEGIN, _END = "<start_of_text>", "<end_of_text>"
# The same two tokens, as Hugging Face spells them.
_SPELLINGS = ((_BEGIN, _END), ("<|startoftext|>", "<|endoftext|>"))
_WORDS = regex.compile(
    rf"{_BEGIN}|{_END}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+", regex.IGNORECASE
)
_END_OF_WORD = "</w>"
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# A word is kept with its ids; the words of a catalog's captions are few.
_KEPT_WORDS = 65_536


def _mended(text: str) -> str:
    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def _whitespace(text: str) -> str:
    return " ".join(_mended(text).split())


def _lower(text: str) -> str:
    return _whitespace(text).lower()


def _canonicalize(text: str) -> str:
    return " ".join(_mended(text).replace("_", " ").translate(_PUNCTUATION).lower().split())


#: What is done to a text before it is tokenised, by its name in open_clip.
CLEANINGS: Mapping[str, Callable[[str], str]] = {
    "lower": _lower,
    "whitespace": _whitespace,
    "canonicalize": _canonicalize,
}


class LightTokenizer(Protocol):
    """A tokenizer of the light runtime. Any thread may call it.

    `size` is the number of its tokens; a text tower has as many where `is_exact`, else at least as many.
    """

    name: str
    context: int
    cleaning: str
    size: int
    is_exact: bool

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Return int64 tokens of shape (n, context); longer texts are cut to the context."""

    def long_texts(self, texts: Sequence[str], tokens: Tokens) -> dict[int, int]:
        """Return the number of tokens of each text that was cut, by its place; `tokens` are theirs."""


class ClipTokenizer:
    """Token ids of texts as open_clip's tokenizer gives them. Any thread may call it.

    `context` is the number of tokens that the model reads; `name` and `cleaning` are for people.

    Raises:
        StartupError: the vocabulary is not one of CLIP's kind, or the cleaning is not known.
    """

    def __init__(self, vocabulary: Vocabulary, context: int, cleaning: str) -> None:
        self.name, self.context, self.cleaning = CLIP_TOKENIZER, context, cleaning
        marks = [tuple(map(vocabulary.token_to_id, pair)) for pair in _SPELLINGS]
        begin, end = next((pair for pair in marks if None not in pair), (None, None))
        if not isinstance(vocabulary.model, models.BPE) or begin is None or end is None:
            raise StartupError(
                f"tokenizer.json is not CLIP's: expected byte pairs with the tokens {_BEGIN} and {_END}"
            )
        self._clean = _cleaning(cleaning)
        self.is_exact = True
        self.size = vocabulary.get_vocab_size(with_added_tokens=True)
        self.begin, self.end = begin, end
        self._special = {_BEGIN: [begin], _END: [end]}
        self._bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self._pairs: models.BPE = vocabulary.model
        self._known: dict[str, list[int]] = {}

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Return int64 tokens of shape (n, context); longer texts are cut to the context."""
        tokens = np.zeros((len(texts), self.context), np.int64)
        for row, text in zip(tokens, texts, strict=True):
            # The last place is the end's, in a text that is cut too.
            ids = [self.begin, *self.words(text, self.context - 2)]
            row[: len(ids)] = ids
            row[len(ids)] = self.end
        return tokens

    def long_texts(self, texts: Sequence[str], tokens: Tokens) -> dict[int, int]:
        """Return the number of tokens of each text that was cut, by its place; `tokens` are theirs."""
        counts = {}
        # Padding is 0: only a row that is full can have been cut.
        for index in np.flatnonzero(tokens[:, -1]):
            counts[int(index)] = len(self.words(texts[int(index)])) + 2
        return {index: count for index, count in counts.items() if count > self.context}

    def words(self, text: str, limit: int | None = None) -> list[int]:
        """Return the ids of the words, the first `limit` of them."""
        ids: list[int] = []
        for word in self._split(text):
            ids += self._ids(word)
            if limit is not None and len(ids) >= limit:
                break
        return ids[:limit]

    def _split(self, text: str) -> Iterator[str]:
        return (match[0] for match in _WORDS.finditer(self._clean(text)))

    def _ids(self, word: str) -> list[int]:
        if (known := self._special.get(word) or self._known.get(word)) is not None:
            return known
        letters = self._bytes.pre_tokenize_str(word)[0][0]
        ids = [token.id for token in self._pairs.tokenize(letters)]
        if len(self._known) < _KEPT_WORDS and len(word) <= 64:
            self._known[word] = ids
        return ids


class VocabularyTokenizer:
    """Token ids of texts by a tokenizer of Hugging Face, as open_clip's own gives them.

    Raises:
        StartupError: it lacks a token that `padding` names, or the cleaning is not known.
    """

    def __init__(
        self, vocabulary: Vocabulary, context: int, cleaning: str, padding: Padding, *, name: str
    ) -> None:
        self.name, self.context, self.cleaning = name, context, cleaning
        self._clean = _cleaning(cleaning)
        self._filling = _token(vocabulary, padding.token)
        self._zeroed = _token(vocabulary, padding.zeroed) if padding.zeroed else None
        self._end = slice(0, 2) if padding.is_left else slice(-2, None)
        self.is_exact = False
        self.size = vocabulary.get_vocab_size(with_added_tokens=False)
        vocabulary.enable_truncation(context)
        vocabulary.enable_padding(
            length=context,
            pad_id=self._filling,
            pad_token=padding.token,
            direction="left" if padding.is_left else "right",
        )
        self._vocabulary = vocabulary

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Return int64 tokens of shape (n, context); longer texts are cut to the context."""
        rows = [encoded.ids for encoded in self._encode(texts)]
        tokens = np.array(rows, np.int64).reshape(len(rows), self.context)
        if self._zeroed is not None:
            tokens[tokens == self._zeroed] = 0
        return tokens

    def long_texts(self, texts: Sequence[str], tokens: Tokens) -> dict[int, int]:
        """Return the number of tokens of each text that was cut, by its place; `tokens` are theirs."""
        # The end of a text may be the same token as the filling: two of them show that there was room.
        has_room = (tokens[:, self._end] == self._filling).all(axis=1)
        places = [int(place) for place in np.flatnonzero(~has_room)]
        counts = {}
        for place, encoded in zip(places, self._encode([texts[place] for place in places]), strict=True):
            marks = sum(np.multiply(encoded.special_tokens_mask, encoded.attention_mask))
            words = sum(part.special_tokens_mask.count(0) for part in (encoded, *encoded.overflowing))
            counts[place] = int(marks) + words
        return {place: count for place, count in counts.items() if count > self.context}

    def _encode(self, texts: Sequence[str]) -> list[Any]:
        return list(self._vocabulary.encode_batch([self._clean(text) for text in texts]))


def _cleaning(name: str) -> Callable[[str], str]:
    if name not in CLEANINGS:
        raise StartupError(f"text cleaning {name!r} is not known; expected {', '.join(CLEANINGS)}")
    return CLEANINGS[name]


def _token(vocabulary: Vocabulary, token: str) -> int:
    number = vocabulary.token_to_id(token)
    if number is None:
        raise StartupError(
            f"tokenizer.json has no token {token!r}, which short texts are filled up with; it is of another "
            "model: export the model again"
        )
    return int(number)


def read_vocabulary(path: Path) -> Vocabulary:
    """Read `tokenizer.json`.

    Raises:
        StartupError: it cannot be read.
    """
    try:
        return Vocabulary.from_file(str(path))
    except Exception as error:
        # The library raises plain Exception for whatever it cannot read.
        line = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise StartupError(
            f"{path} cannot be read as a tokenizer: {line}; copy it from the model again, or export the "
            "model again"
        ) from error


def clip_vocabulary(ids: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Vocabulary:
    """Return CLIP's vocabulary as other tools read it too: words to ids, pairs in the order of merging."""
    plain = {word: number for word, number in ids.items() if word not in (_BEGIN, _END)}
    vocabulary = Vocabulary(
        models.BPE(
            vocab={**plain, _BEGIN: ids[_BEGIN], _END: ids[_END]},
            merges=list(merges),
            end_of_word_suffix=_END_OF_WORD,
            unk_token=_END,
        )
    )
    vocabulary.add_special_tokens([_BEGIN, _END])
    return vocabulary
