"""Options of `cir train` that say nothing together: refused before anything is read, whichever there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir_cli.caption_file import CaptionFile
from cir_cli.errors import WrongUsage
from cir_cli.train import Method, _captions_of, _check_together

_NEEDED = {"dataset", "root", "features"}
_VALIDATION = {"validation_split", "patience", "gallery", "reference", "captions"}
_SPLITS = {"dataset", "root", "train_split", "category"}
_LINES = {"caption_field", "only"}
_ANYWHERE = {"seed", "batch_size", "learning_rate", "resume", "out"}


def refused(given_: set[str], method: Method) -> str:
    try:
        _check_together(given_, method)
    except WrongUsage as error:
        return str(error)
    return ""


@given(st.sets(st.sampled_from(sorted({*_NEEDED, *_VALIDATION, *_ANYWHERE, "no_validation", "template"}))))
def test_a_combiner_takes_no_option_without_effect(chosen: set[str]) -> None:
    sound = chosen >= _NEEDED and "template" not in chosen
    sound &= "no_validation" not in chosen or not chosen & _VALIDATION
    said = refused(chosen, Method.COMBINER)
    assert (said == "") is sound
    if said:
        [flag, *_] = re.findall(r"--[a-z-]+", said)
        assert flag.removeprefix("--").replace("-", "_") in {*chosen, *_NEEDED}


@given(
    st.sets(st.sampled_from(sorted({*_SPLITS, *_LINES, *_ANYWHERE, "features", "captions_file", "gallery"})))
)
def test_an_inversion_takes_no_option_without_effect(chosen: set[str]) -> None:
    sound = bool(chosen & {"features", "captions_file"}) and "gallery" not in chosen
    if "captions_file" in chosen:
        sound &= not chosen & _SPLITS
    else:
        sound &= not chosen & _LINES and len(chosen & {"dataset", "root"}) != 1
        sound &= "dataset" in chosen or not chosen & _SPLITS
    assert (refused(chosen, Method.INVERSION) == "") is sound


@pytest.mark.parametrize(
    ("field", "only", "said"),
    [
        ("caption", ["split=a"], "--only"),
        ("text", [], "--caption-field"),
        ("caption", ["split"], "FIELD=VALUE"),
    ],
)
def test_plain_captions_have_no_fields(field: str, only: list[str], said: str) -> None:
    with pytest.raises(WrongUsage, match=said):
        _captions_of(Path("captions.txt"), field, only)


def test_lines_that_no_value_chooses_are_said_with_the_values_there_are(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_text("".join(f'{{"caption": "{n}", "split": "s{n % 2}"}}\n' for n in range(4)))
    found = _captions_of(path, "caption", ["split=s1"])
    assert found is not None
    assert found.read() == ["1", "3"]
    with pytest.raises(ValueError, match="has no line with split=trian; split is s0, s1"):
        CaptionFile(path, "caption", (("split", "trian"),)).read()
