"""CLIP's tokenizer without torch: the ids of open_clip's own, for any text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedder_service.light.tokenizer import CLEANINGS, ClipTokenizer, read_vocabulary
from embedder_service.loading import SHIPPED
from service_runtime.errors import StartupError

PATH = SHIPPED / "cir-small" / "tokenizer.json"
_PARTS = (
    "<start_of_text>", "<END_OF_TEXT>", "!!", "'s", "'ſ", "n't", "&amp;lt;", "&#x1F457;", "_", " ", "\u200b",
    "ﬁ", "İ", "a", "Dress", "12", "é", "é", "红色", "👗", "\ufeff", "...", "--",
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(_PARTS), max_size=80).map("".join))


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, tuple[Any, ClipTokenizer]]:
    """Return open_clip's tokenizer and ours, by the name of their cleaning."""
    import open_clip

    return {
        name: (
            open_clip.SimpleTokenizer(context_length=20, clean=name),
            ClipTokenizer(read_vocabulary(PATH), 20, name),
        )
        for name in CLEANINGS
    }


@pytest.mark.torch
@settings(max_examples=400)
@given(texts=st.lists(TEXTS, max_size=3), clean=st.sampled_from(sorted(CLEANINGS)))
def test_ids_are_those_of_open_clip(tokenizers: dict[str, Any], texts: list[str], clean: str) -> None:
    theirs, ours = tokenizers[clean]
    expected = theirs(texts).numpy() if texts else np.zeros((0, 20), np.int64)
    assert np.array_equal(ours(texts), expected)
    counts = {index: len(theirs.encode(text)) + 2 for index, text in enumerate(texts)}
    assert ours.long_texts(texts, ours(texts)) == {i: n for i, n in counts.items() if n > 20}


@pytest.mark.slow
@given(texts=st.lists(TEXTS, max_size=3))
def test_a_row_has_the_context_and_ends(texts: list[str]) -> None:
    tokenizer = ClipTokenizer(read_vocabulary(PATH), 8, "lower")
    tokens = tokenizer(texts)
    assert tokens.shape == (len(texts), 8)
    assert tokens.dtype == np.int64
    assert (tokens[:, 0] == 49406).all()
    assert ((tokens == 49407).any(axis=1)).all()


@pytest.mark.parametrize("content", ["", "{}", "[]", "\x00", '{"model": {"type": "WordLevel"}}'])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(StartupError, match="tokenizer"):
        ClipTokenizer(read_vocabulary(path), 77, "lower")


def test_a_vocabulary_of_other_tokens_and_an_unknown_cleaning_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(PATH.read_text().replace("<start_of_text>", "<s>"))
    with pytest.raises(StartupError, match="not CLIP's"):
        ClipTokenizer(read_vocabulary(path), 77, "lower")
    with pytest.raises(StartupError, match="cleaning"):
        ClipTokenizer(read_vocabulary(PATH), 77, "upper")
