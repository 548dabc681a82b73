from pathlib import Path

import pytest

from combiner_training.log import TrainingLog
from combiner_training.options import TrainingError


def test_entries_after_the_state_are_dropped_and_a_torn_line_with_them(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, 0)
    for epoch in (1, 2, 3):
        log.append({"epoch": epoch, "loss": epoch / 2})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "lo')
    again = TrainingLog(tmp_path, 2)
    assert [entry["epoch"] for entry in again.entries] == [1, 2]
    again.append({"epoch": 3, "loss": 9.0, "recall@1": 0.5})
    again.write_csv()
    assert (tmp_path / "metrics.csv").read_text() == "epoch,loss,recall@1\n1,0.5,\n2,1.0,\n3,9.0,0.5\n"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_broken_line_in_the_middle_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\nbroken\n{"epoch": 3}\n')
    with pytest.raises(TrainingError, match="line 2 is not an entry of a log"):
        TrainingLog(tmp_path, 3)
