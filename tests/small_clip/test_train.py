"""The training as a whole, on a handful of pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from embedder_service.model.weights import load_model
from scripts.small_clip import train
from scripts.small_clip.trunk import TOWER

pytestmark = [pytest.mark.service, pytest.mark.torch, pytest.mark.slow]

OPTIONS = ("--drawn", "16", "--held-out", "4", "--steps", "3", "--every", "2", "--batch", "8")


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train.main(["--work", str(whole), *OPTIONS])
        last = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert last.keys() == {"step", "kind", "colour", "pattern", "all"}
        assert last["step"] == 3
        shutil.copytree(whole, cut, ignore=shutil.ignore_patterns("check*", "cir-small*"))
        save = train.Run.save

        def saved_and_killed(self: train.Run, path: Path) -> None:
            save(self, path)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(train.Run, "save", saved_and_killed)
            with pytest.raises(KeyboardInterrupt):
                train.main(["--work", str(cut), *OPTIONS])
        assert not (cut / "cir-small.safetensors").exists()
        train.main(["--work", str(cut), *OPTIONS])
    finally:
        torch.set_num_threads(threads)
    first, second = (load_file(folder / "cir-small.safetensors") for folder in (whole, cut))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    # What comes out is a checkpoint as the embedder takes it, in half the bytes.
    loaded = load_model("cir-small", str(whole / "cir-small.safetensors"), config_file=TOWER)
    state = loaded.module.state_dict()
    assert all(torch.equal(state[name].half(), first[name].half()) for name in first)
    assert (whole / "cir-small.safetensors").stat().st_size < 16_000_000
