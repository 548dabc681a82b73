"""Tokenizers: from the words that a model knows to its token ids, and the texts that are longer than its
context.

A tokenizer belongs to the weights as preprocessing does. It is found by the config that describes them:
CLIP's own, which comes with open_clip, or one of Hugging Face's, whose files lie with the weights or on the
Hub.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip

from cir.extras import install
from embedder_service.batching.jobs import Tokens
from embedder_service.model.checkpoint import one_line
from embedder_service.model.weights import local_name, quiet_open_clip
from embedder_service.probe import TOKENIZER_TEXTS, tokens_digest
from embedder_service.traits import Padding
from service_runtime.errors import StartupError

#: Name of the tokenizer that comes with open_clip: byte pairs, as in OpenAI's CLIP.
CLIP_TOKENIZER = "clip"
_DEFAULT_CONTEXT = 77
_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "sentencepiece.bpe.model", "spiece.model",
    "vocab.json", "vocab.txt",
)  # fmt: skip


class Tokenizer:
    """Token ids of texts as open_clip's own tokenizer for the model gives them. Safe with threads.

    `context` is the number of tokens that the model reads; `name` and `cleaning` are for people.
    """

    def __init__(self, tokenizer: Any, name: str, context: int, cleaning: str) -> None:
        self._tokenizer = tokenizer
        # Caches and settings of a tokenizer are not safe with threads.
        self._lock = threading.Lock()
        self.name, self.context, self.cleaning = name, context, cleaning

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Return int64 tokens of shape (n, context); longer texts are cut to the context."""
        with self._lock:
            tokens: Tokens = self._tokenizer(list(texts)).numpy()
        return tokens

    def long_texts(self, texts: Sequence[str], tokens: Tokens) -> dict[int, int]:
        """Return the number of tokens of each text that was cut, by its place; `tokens` are those of the
        texts."""
        with self._lock:
            counts = self._count_tokens(texts, tokens)
        return {index: count for index, count in counts.items() if count > self.context}

    def words(self, text: str) -> list[int]:
        """Return the ids of all words of a text; for CLIP's own tokenizer alone."""
        with self._lock:
            ids: list[int] = self._tokenizer.encode(text)
        return ids

    @property
    def begin(self) -> int:
        """Token before the words; for CLIP's own tokenizer alone."""
        return int(self._tokenizer.sot_token_id)

    @property
    def end(self) -> int:
        """Token behind the words; for CLIP's own tokenizer alone."""
        return int(self._tokenizer.eot_token_id)

    @property
    def vocabulary(self) -> int:
        """Number of tokens, without those that were added to a finished vocabulary."""
        own = self._tokenizer if self.name == CLIP_TOKENIZER else self._tokenizer.tokenizer
        return int(own.vocab_size)

    def digest(self) -> str:
        """Return a hash of what the tokenizer does; empty for CLIP's own, which the config describes
        wholly."""
        if self.name == CLIP_TOKENIZER:
            return ""
        return tokens_digest(self(TOKENIZER_TEXTS))

    def vocabulary_file(self) -> tuple[str, Padding]:
        """Return `tokenizer.json` of one of Hugging Face and its filling; empty where it has no such file."""
        own = self._tokenizer
        backend = getattr(own.tokenizer, "backend_tokenizer", None)
        if backend is None or own.tokenizer_mode or own.tokenizer.pad_token is None:
            return "", Padding("")
        padding = Padding(
            str(own.tokenizer.pad_token),
            own.tokenizer.padding_side == "left",
            str(own.tokenizer.sep_token) if own.strip_sep_token else "",
        )
        with self._lock:
            return str(backend.to_str()), padding

    def _count_tokens(self, texts: Sequence[str], tokens: Tokens) -> dict[int, int]:
        if self.name == CLIP_TOKENIZER:
            # Padding is 0: only a row that is full can have been cut.
            full = np.flatnonzero(tokens[:, -1])
            return {int(index): len(self._tokenizer.encode(texts[int(index)])) + 2 for index in full}
        own = self._tokenizer
        is_clips = own.tokenizer_mode == "clips"
        cleaned = [own.clean_fn(text) for text in texts]
        encoded = own.tokenizer(cleaned, add_special_tokens=not is_clips, truncation=False, verbose=False)
        # That mode puts its own tokens around the words: two ends and one for the class.
        return {index: len(ids) + (3 if is_clips else 0) for index, ids in enumerate(encoded["input_ids"])}


def make_tokenizer(
    config: Mapping[str, Any],
    *,
    folder: Path | None = None,
    override: str = "",
    cache_dir: Path | None = None,
) -> Tokenizer:
    """Return the tokenizer of an architecture; its files are those in `folder` where there are any.

    `override` is a folder or a name on the Hub that takes the place of the one that the config names.

    Raises:
        StartupError: it cannot be loaded; the message is one line.
    """
    text = config["text_cfg"]
    options = dict(text.get("tokenizer_kwargs") or {})
    context = text.get("context_length", _DEFAULT_CONTEXT)
    if isinstance(context, bool) or not isinstance(context, int) or context < 3:
        raise StartupError(
            f"the config's context_length is {context!r}; expected a number of tokens, 3 or more"
        )
    if name := str(text.get("hf_tokenizer_name") or ""):
        return _hugging_face(text, name, context, options, folder, override, cache_dir)
    if override:
        raise StartupError(f"the model has CLIP's own tokenizer; --tokenizer {override} has no place in it")
    if options.get("reduction_mask"):
        raise StartupError(
            "the config's tokenizer_kwargs have a reduction_mask, which cuts long texts at random and is for "
            "training; remove it from the config"
        )
    try:
        tokenizer = open_clip.SimpleTokenizer(context_length=context, **options)
    except Exception as error:
        raise StartupError(f"the config's tokenizer_kwargs cannot be used: {one_line(error)}") from error
    return Tokenizer(tokenizer, CLIP_TOKENIZER, context, str(options.get("clean", "lower")))


def _hugging_face(
    text: Mapping[str, Any],
    name: str,
    context: int,
    options: dict[str, Any],
    folder: Path | None,
    override: str,
    cache_dir: Path | None,
) -> Tokenizer:
    if "trust_remote_code" in options:
        raise StartupError(
            "the config's tokenizer_kwargs ask for code of others (trust_remote_code); it is never run"
        )
    source = override or _place(name, folder)
    try:
        with quiet_open_clip():
            tokenizer = open_clip.tokenizer.HFTokenizer(
                source,
                context_length=context,
                cache_dir=None if cache_dir is None else str(cache_dir),
                tokenizer_mode=text.get("tokenizer_mode"),
                **options,
            )
            known = tokenizer.tokenizer(TOKENIZER_TEXTS[1], add_special_tokens=False)["input_ids"]
        if not set(known) - {tokenizer.tokenizer.unk_token_id}:
            # Without its vocabulary transformers makes one that knows no word.
            raise ValueError("it has no vocabulary")
    except ImportError as error:
        raise StartupError(
            f"the tokenizer {name!r} cannot be loaded: {error.name or one_line(error)} is missing; "
            f"{install('multilingual')}"
        ) from error
    except Exception as error:
        # Its files may be missing or damaged in many ways.
        where = f" into {folder}, or" if folder is not None else ""
        raise StartupError(
            f"the tokenizer {source!r} cannot be loaded: {one_line(error)}; put its files (tokenizer.json, "
            f"tokenizer_config.json){where} into a folder and name that with --tokenizer"
        ) from error
    return Tokenizer(tokenizer, name, context, str(options.get("clean", "whitespace")))


def _place(name: str, folder: Path | None) -> str:
    """Return the folder with the weights if a tokenizer lies in it, else what the config names."""
    if folder is not None and any((folder / file).is_file() for file in _FILES):
        return str(folder)
    return local_name(name, folder)
