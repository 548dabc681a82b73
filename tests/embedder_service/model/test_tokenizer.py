"""Tokens against open_clip's own tokenizers; texts that are cut; tokenizers that cannot be loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from embedder_service.model.tokenizer import CLIP_TOKENIZER, Tokenizer, make_tokenizer
from service_runtime.errors import StartupError

pytestmark = pytest.mark.torch

WORDS = ["a", "red", "dress", "kleid", "größer", "赤い", "is", "shorter", "and", "has", "sleeves"]
TEXTS = [
    "",
    "a red dress",
    "A RED, dress!",
    "kleid größer",
    "赤い dress",
    "red " * 200,
    "unseen words",
    " a\tred\n",
]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def save_tokenizer(
    folder: Path, words: Sequence[str] = WORDS, *, pad: str = "<pad>", single: str = "$A </s>"
) -> Path:
    """Write the files of a tokenizer with one token a word."""
    special = ["<pad>", "<s>", "</s>", "<unk>", "<cls>"]
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    fast = FastTokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    fast.normalizer = normalizers.NFKC()
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [(token, vocabulary[token]) for token in special]
    fast.post_processor = processors.TemplateProcessing(single=single, special_tokens=marks)
    make: Any = PreTrainedTokenizerFast
    make(
        tokenizer_object=fast,
        pad_token=pad,
        bos_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        cls_token="<cls>",
        unk_token="<unk>",
    ).save_pretrained(folder)
    return folder


def config(context: int = 16, name: str = "own", **text: Any) -> dict[str, Any]:
    return {"text_cfg": {"context_length": context, "hf_tokenizer_name": name} | text}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("own"))


@pytest.mark.parametrize("context", [8, 64, 77])
@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ({}, None),
        ({"clean": "canonicalize"}, None),
        ({"clean": "lower"}, None),
        ({"strip_sep_token": True}, None),
        ({}, "clips"),
    ],
)
def test_tokens_are_those_of_open_clip(
    files: Path, context: int, options: dict[str, Any], mode: str | None
) -> None:
    ours = make_tokenizer(config(context, tokenizer_kwargs=options, tokenizer_mode=mode), folder=files)
    theirs = open_clip.tokenizer.HFTokenizer(str(files), context, tokenizer_mode=mode, **options)
    np.testing.assert_array_equal(ours(TEXTS), theirs(TEXTS).numpy())
    assert (ours.context, ours.name) == (context, "own")
    assert ours.cleaning == options.get("clean", "whitespace")


@pytest.mark.parametrize("options", [{}, {"clean": "canonicalize"}, {"clean": "whitespace"}])
@pytest.mark.parametrize("context", [5, 32, 77])
def test_tokens_of_clips_own_are_those_of_open_clip(context: int, options: dict[str, Any]) -> None:
    ours = make_tokenizer({"text_cfg": {"context_length": context, "tokenizer_kwargs": options}})
    theirs = open_clip.SimpleTokenizer(context_length=context, **options)
    np.testing.assert_array_equal(ours(TEXTS), theirs(TEXTS).numpy())
    assert ours.name == CLIP_TOKENIZER
    assert ours.digest() == ""


CLIP = make_tokenizer({"text_cfg": {"context_length": 12}})


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """Every way of padding and marking: by zeros, by the end token, with a class token at the end."""
    root = tmp_path_factory.mktemp("tokenizers")
    siglip = save_tokenizer(root / "siglip", pad="</s>")
    roberta = save_tokenizer(root / "roberta", single="<s> $A </s>")
    return {
        "clip": CLIP,
        "siglip": make_tokenizer(config(12, tokenizer_kwargs={"clean": "canonicalize"}), folder=siglip),
        "roberta": make_tokenizer(config(12), folder=roberta),
        "clips": make_tokenizer(config(12, tokenizer_mode="clips"), folder=roberta),
    }


MARKS = {"clip": 2, "siglip": 1, "roberta": 2, "clips": 3}


@given(counts=st.lists(st.integers(0, 30), min_size=1, max_size=8), name=st.sampled_from(list(MARKS)))
def test_a_text_is_told_as_cut_exactly_where_tokens_are_missing(
    tokenizers: dict[str, Tokenizer], counts: list[int], name: str
) -> None:
    tokenizer = tokenizers[name]
    texts = [" ".join(["red"] * count) for count in counts]
    cut = tokenizer.long_texts(texts, tokenizer(texts))
    room = tokenizer.context - MARKS[name]
    assert cut == {place: count + MARKS[name] for place, count in enumerate(counts) if count > room}


def test_the_digest_is_that_of_what_the_tokenizer_does(tmp_path: Path, files: Path) -> None:
    digests = [
        make_tokenizer(config(), folder=files).digest(),
        make_tokenizer(config(), folder=save_tokenizer(tmp_path / "words", [*WORDS[1:], "a"])).digest(),
        make_tokenizer(config(), folder=save_tokenizer(tmp_path / "pad", pad="</s>")).digest(),
        make_tokenizer(config(), folder=save_tokenizer(tmp_path / "ends", single="<s> $A </s>")).digest(),
        make_tokenizer(config(24), folder=files).digest(),
        make_tokenizer(config(tokenizer_kwargs={"clean": "lower"}), folder=files).digest(),
        make_tokenizer(config(tokenizer_mode="clips"), folder=files).digest(),
    ]
    assert len(set(digests)) == len(digests)
    same = make_tokenizer(config(name="another/name"), override=str(save_tokenizer(tmp_path / "copy")))
    assert same.digest() == digests[0]


def test_files_are_taken_from_the_model_before_the_hub(tmp_path: Path, files: Path) -> None:
    named = save_tokenizer(tmp_path / "weights" / "words")
    for folder, name in ((files, "nobody/nothing"), (tmp_path / "weights", "words"), (None, str(named))):
        tokenizer = make_tokenizer(config(name=name), folder=folder)
        np.testing.assert_array_equal(tokenizer(["a red dress"])[0, :4], [5, 6, 7, 2])


def without_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "config.json").write_text(json.dumps({"model_type": "xlm-roberta"}))


def damaged(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version"')


def emptied(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize("change", [without_vocabulary, damaged, emptied])
def test_files_that_are_missing_are_told_in_one_line(tmp_path: Path, change: Any) -> None:
    folder = save_tokenizer(tmp_path / "own")
    change(folder)
    for place in ({"folder": folder}, {"override": str(folder)}):
        with pytest.raises(StartupError, match=r"put its files \(tokenizer\.json") as caught:
            make_tokenizer(config(name="nobody/nothing"), **place)
        assert "\n" not in str(caught.value)
        assert "--tokenizer" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"tokenizer_kwargs": {"trust_remote_code": True}, "hf_tokenizer_name": "own"}, "never run"),
        ({"tokenizer_kwargs": {"reduction_mask": "random"}}, "cuts long texts at random"),
        ({"tokenizer_kwargs": {"clean": "spotless"}}, "tokenizer_kwargs cannot be used"),
        ({"tokenizer_kwargs": {"no_such_option": 1}}, "tokenizer_kwargs cannot be used"),
        ({"context_length": 0}, "context_length is 0"),
        ({"context_length": "77"}, "context_length is '77'"),
        ({"context_length": None}, "context_length is None"),
    ],
)
def test_configs_that_cannot_be_used_are_told_in_one_line(
    files: Path, text: dict[str, Any], message: str
) -> None:
    with pytest.raises(StartupError, match=message) as caught:
        make_tokenizer({"text_cfg": text}, folder=files)
    assert "\n" not in str(caught.value)


def test_another_tokenizer_has_no_place_in_clip(files: Path) -> None:
    with pytest.raises(StartupError, match="CLIP's own tokenizer"):
        make_tokenizer({"text_cfg": {}}, override=str(files))


def test_a_library_that_is_missing_is_named(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(StartupError, match=r"transformers is missing; install the extra \[multilingual\]"):
        make_tokenizer(config(), folder=files)
