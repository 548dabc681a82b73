"""CLIP's tokenizer without torch: the same token ids as open_clip's own.

Byte pairs are merged by the library that reads `tokenizer.json`. Cleaning and the cut into words are those of
CLIP: the same libraries and the same pattern, since any other one differs somewhere in Unicode.
"""

from __future__ import annotations

import html
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import ftfy
import numpy as np
import regex
from tokenizers import Tokenizer as Vocabulary
from tokenizers import models, pre_tokenizers

from embedder_service.batching.jobs import Tokens
from service_runtime.errors import StartupError

#: Name of the tokenizer of OpenAI's CLIP, as in the model info.
CLIP_TOKENIZER = "clip"
_BEGIN, _END = "<start_of_text>", "<end_of_text>"
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


class ClipTokenizer:
    """Token ids of texts as open_clip's tokenizer gives them. Any thread may call it.

    `context` is the number of tokens that the model reads; `name` and `cleaning` are for people.

    Raises:
        StartupError: the vocabulary is not one of CLIP's kind, or the cleaning is not known.
    """

    def __init__(self, vocabulary: Vocabulary, context: int, cleaning: str) -> None:
        self.name, self.context, self.cleaning = CLIP_TOKENIZER, context, cleaning
        begin, end = vocabulary.token_to_id(_BEGIN), vocabulary.token_to_id(_END)
        if not isinstance(vocabulary.model, models.BPE) or begin is None or end is None:
            raise StartupError(
                f"tokenizer.json is not CLIP's: expected byte pairs with the tokens {_BEGIN} and {_END}"
            )
        if cleaning not in CLEANINGS:
            raise StartupError(f"text cleaning {cleaning!r} is not known; expected {', '.join(CLEANINGS)}")
        self.size = vocabulary.get_vocab_size(with_added_tokens=True)
        self.begin, self.end = begin, end
        self._special = {_BEGIN: [begin], _END: [end]}
        self._bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self._pairs: models.BPE = vocabulary.model
        self._clean = CLEANINGS[cleaning]
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


def read_clip_tokenizer(path: Path, context: int, cleaning: str) -> ClipTokenizer:
    """Read `tokenizer.json`.

    Raises:
        StartupError: it cannot be read, or is of another kind.
    """
    try:
        vocabulary = Vocabulary.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:
        # The library raises plain Exception for whatever it cannot read.
        line = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise StartupError(f"{path} cannot be read as a tokenizer: {line}; export the model again") from error
    return ClipTokenizer(vocabulary, context, cleaning)


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
