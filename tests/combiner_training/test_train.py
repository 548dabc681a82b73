"""The loss against its formula, and trainings: learnt, killed, resumed, diverged, short of disk."""

import csv
import json
import math
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from combiner_service.checkpoint import read_checkpoint
from combiner_service.checkpoint_directory import CheckpointDirectory
from combiner_service.network_spec import NetworkSizes
from combiner_service.registry import Registry
from combiner_service.torch_network import CombinerNetwork
from combiner_training import train as module
from combiner_training.data import TrainingData, training_data
from combiner_training.evaluation.evaluate import evaluate
from combiner_training.feature_file import FeatureFolder
from combiner_training.log import Entry, TrainingLog
from combiner_training.options import OptionError, Schedule, TrainingError, TrainOptions
from combiner_training.run_warnings import loss_warning, saturation, seen_in_training
from combiner_training.train import BEGUN_WITH, TrainResult, Validation, batch_classification_loss, train
from combiner_training.train_state import FILE, TrainState, save_state
from tests.combiner_service.examples import SMALL, combine_by_formulae, combiner_of, features_of, weights_of
from tests.combiner_training.evaluation.examples import table_of
from tests.combiner_training.task import OPTIONS, Silent, files_of, ready, small_task, validation_of

pytestmark = pytest.mark.torch


def loss_by_the_facts(queries: np.ndarray, targets: np.ndarray) -> float:
    """logits = 100 * queries . normalise(targets)^T; cross entropy with the diagonal, query to target
    only."""
    normalised = targets / np.sqrt((targets**2).sum(axis=1, keepdims=True))
    logits = 100 * queries @ normalised.T
    largest = logits.max(axis=1, keepdims=True)
    log_sums = largest[:, 0] + np.log(np.exp(logits - largest).sum(axis=1))
    return float(np.mean(log_sums - np.diag(logits)))


@given(st.integers(2, 12), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_loss_is_that_of_the_method(count: int, seed: int) -> None:
    weights = weights_of(seed=seed)
    image, text, target = (features_of(count, seed=seed + shift) for shift in range(3))
    queries, _ = CombinerNetwork.from_weights(weights)(torch.from_numpy(image), torch.from_numpy(text))
    found = batch_classification_loss(queries, torch.from_numpy(target)).item()
    expected_queries, _ = combine_by_formulae(weights, image, text)
    expected = loss_by_the_facts(expected_queries, target.astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_loss_is_not_the_symmetric_one() -> None:
    queries = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1]]), dim=-1)
    targets = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    found = batch_classification_loss(queries, targets).item()
    assert (
        found == np.float32(loss_by_the_facts(queries.numpy(), targets.numpy()))
        or abs(found - loss_by_the_facts(queries.numpy(), targets.numpy())) < 1e-4
    )
    swapped = batch_classification_loss(torch.nn.functional.normalize(targets, dim=-1), queries).item()
    assert abs(found - swapped) > 1


def test_the_gradient_points_where_finite_differences_of_numpy_do() -> None:
    weights = {name: array.astype(np.float64) for name, array in weights_of().items()}
    image, text, target = (features_of(6, seed=shift).astype(np.float64) * 0.1 for shift in range(3))
    network = CombinerNetwork(
        NetworkSizes(**{f: getattr(SMALL, f) for f in SMALL.__dataclass_fields__})
    ).double()
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    network.eval()
    queries, _ = network(torch.from_numpy(image), torch.from_numpy(text))
    batch_classification_loss(queries, torch.from_numpy(target)).backward()  # type: ignore[no-untyped-call]
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    random = np.random.default_rng(0)
    direction = {name: random.standard_normal(array.shape) for name, array in weights.items()}
    ahead = 0.0
    for name, gradient in gradients.items():
        assert gradient is not None
        ahead += float((gradient.numpy() * direction[name]).sum())

    def at(step: float) -> float:
        moved = {name: array + step * direction[name] for name, array in weights.items()}
        return loss_by_the_facts(combine_by_formulae(moved, image, text)[0], target)

    step = 1e-6
    np.testing.assert_allclose(ahead, (at(step) - at(-step)) / (2 * step), rtol=1e-5)


REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums are taken in one order, here and in the process that is killed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(
    folder: Path, *, resume: bool = False, data: TrainingData | None = None, **changes: Any
) -> TrainResult:
    own, validation = ready()
    return train(
        data or own, validation, replace(OPTIONS, **changes), folder, resume=resume, progress=Silent()
    )


def without_time(folder: Path) -> list[dict[str, float]]:
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in entries]


@pytest.mark.slow
def test_it_learns_what_a_sum_cannot(tmp_path: Path) -> None:
    data, validation = ready()
    trained = train(data, validation, replace(OPTIONS, epochs=40), tmp_path, progress=Silent())
    assert trained.last is not None
    registry = Registry(CheckpointDirectory(tmp_path, {}))
    sums = evaluate(combiner_of(registry, "sum"), validation.parts, validation.protocol).metrics
    learned = evaluate(combiner_of(registry, "combiner/best"), validation.parts, validation.protocol).metrics
    assert learned["recall@1"] > max(0.8, sums["recall@1"] + 0.2)
    assert (learned["recall@1"] + learned["recall@10"]) / 2 == pytest.approx(trained.best["best"])


def test_checkpoints_say_where_they_come_from_and_are_served(tmp_path: Path) -> None:
    trained = run(tmp_path)
    info = Registry(CheckpointDirectory(tmp_path, {})).info("combiner/last")
    assert (info.problem, info.model_fingerprint, info.dimension) == ("", "model-a", 16)
    metadata = read_checkpoint(tmp_path / "last.safetensors").metadata
    assert metadata.epoch == trained.epoch == 6
    assert metadata.training_data == "triplets train: 300 triplets"
    assert "gallery=original; reference=drop; captions=and" in metadata.protocol
    assert "60 of 60 queries over 64 images; nothing is missing" in metadata.protocol
    assert metadata.metrics["recall@10"] == without_time(tmp_path)[-1]["recall@10"]
    assert metadata.extra == {
        "chosen_by": "last",
        "seed": "3",
        "batch_size": "32",
        "learning_rate": "0.003",
        "schedule": "cosine",
    }
    assert read_checkpoint(tmp_path / "best.safetensors").metadata.extra["chosen_by"] == "best"


def test_the_log_is_json_lines_and_the_same_as_csv(tmp_path: Path) -> None:
    run(tmp_path, validate_every=2)
    entries = without_time(tmp_path)
    assert [entry["epoch"] for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert ["recall@1" in entry for entry in entries] == [False, True] * 3
    assert all(entry["steps"] == 9 for entry in entries)
    assert entries[-1]["loss"] < entries[0]["loss"]
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, entry in zip(rows, entries, strict=True):
        assert {name: float(value) for name, value in row.items() if value and name != "seconds"} == entry


def test_two_runs_of_one_seed_are_the_same_and_of_two_are_not(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run(tmp_path / name, seed=seed, epochs=2)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert without_time(tmp_path / "a") == without_time(tmp_path / "b")
    assert files_of(tmp_path / "a") != files_of(tmp_path / "c")


@pytest.mark.service
@pytest.mark.slow
def test_a_run_that_was_killed_ends_like_one_that_was_not(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    command = [
        sys.executable,
        "-m",
        "tests.combiner_training.killed_run",
        str(tmp_path / "killed"),
        "32",
    ]
    killed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=240)
    assert killed.returncode == -9, killed.stderr
    assert [entry["epoch"] for entry in without_time(tmp_path / "killed")] == [1, 2, 3]
    run(tmp_path / "killed", resume=True)
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    assert without_time(tmp_path / "killed") == without_time(tmp_path / "whole")


@pytest.mark.parametrize("at", ["log", "state"])
def test_a_run_that_ends_while_it_saves_ends_like_one_that_did_not(
    tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between writing the best checkpoint, the log and the state, in epoch 4."""
    candidates: dict[str, Any] = {"candidates": 20, "mask_right_answers": True}
    run(tmp_path / "whole", **candidates)

    class Dead(Exception):
        pass

    with monkeypatch.context() as patch:
        if at == "state":
            save = save_state

            def dying_save(folder: Path, network: object, optimizer: object, state: TrainState) -> None:
                if state.epoch == 4:
                    raise Dead
                save(folder, network, optimizer, state)  # type: ignore[arg-type]

            patch.setattr(module, "save_state", dying_save)
        else:
            append = TrainingLog.append

            def killed_append(self: TrainingLog, entry: Entry) -> None:
                if entry["epoch"] == 4:
                    raise Dead
                append(self, entry)

            patch.setattr(TrainingLog, "append", killed_append)
        with pytest.raises(Dead):
            run(tmp_path / "killed", **candidates)
    run(tmp_path / "killed", resume=True, **candidates)
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    assert without_time(tmp_path / "killed") == without_time(tmp_path / "whole")


def test_a_finished_run_of_constant_rate_goes_on_for_more_epochs(tmp_path: Path) -> None:
    run(tmp_path / "whole", schedule=Schedule.CONSTANT)
    run(tmp_path / "longer", epochs=4, schedule=Schedule.CONSTANT)
    run(tmp_path / "longer", resume=True, schedule=Schedule.CONSTANT)
    assert files_of(tmp_path / "longer") == files_of(tmp_path / "whole")
    before = files_of(tmp_path / "whole")
    trained = run(tmp_path / "whole", resume=True, schedule=Schedule.CONSTANT)
    assert files_of(tmp_path / "whole") == before
    assert trained.epoch == 6


def test_another_config_is_not_resumed(tmp_path: Path) -> None:
    run(tmp_path, epochs=1)
    with pytest.raises(TrainingError, match=r"epochs was 1, now 6"):
        run(tmp_path, resume=True)
    with pytest.raises(TrainingError, match=r"learning_rate was 0.003, now 0.1; seed was 3, now 9"):
        run(tmp_path, resume=True, epochs=1, learning_rate=0.1, seed=9)
    with pytest.raises(TrainingError, match="holds a training; continue it with `resume`"):
        run(tmp_path)
    with pytest.raises(TrainingError, match="no training to continue"):
        run(tmp_path / "other", resume=True)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-9])
    with pytest.raises(TrainingError, match=r"cannot be resumed from"):
        run(tmp_path, resume=True, epochs=1)


def test_patience_ends_a_run_that_does_not_get_better(tmp_path: Path) -> None:
    trained = run(tmp_path, learning_rate=1e-12, epochs=50, patience=3)
    assert trained.epoch == 4
    assert read_checkpoint(tmp_path / "best.safetensors").metadata.epoch == 1
    assert run(tmp_path, resume=True, learning_rate=1e-12, epochs=50, patience=3).epoch == 4


def test_cirr_keeps_the_best_of_three_means_and_fashioniq_of_one(tmp_path: Path) -> None:
    _, val, features = small_task("cirr")
    queries = tuple(
        replace(query, group=(query.reference, *query.targets, "00", "77")) for query in val.queries
    )
    validation = validation_of([replace(val, queries=queries)], features, "cirr")
    own, _ = ready("cirr")
    train(own, validation, replace(OPTIONS, epochs=1), tmp_path / "cirr", progress=Silent())
    names = {path.name for path in (tmp_path / "cirr").glob("best*")}
    assert names == {f"best-{mean}.safetensors" for mean in ("arithmetic", "harmonic", "geometric")}
    fashion = ready("fashioniq")
    train(*fashion, replace(OPTIONS, epochs=1), tmp_path / "fashion", progress=Silent())
    metadata = read_checkpoint(tmp_path / "fashion" / "best.safetensors").metadata
    assert "reference=keep" in metadata.protocol


def test_without_validation_the_last_is_kept_alone(tmp_path: Path) -> None:
    data, _ = ready()
    trained = train(data, None, replace(OPTIONS, epochs=2), tmp_path, progress=Silent())
    assert trained.last is None
    assert set(files_of(tmp_path)) == {"last.safetensors", FILE}


def test_a_checkpoint_can_come_first_if_it_has_the_sizes(tmp_path: Path) -> None:
    run(tmp_path / "first", epochs=20)
    data, validation = ready()
    options = replace(OPTIONS, epochs=1, learning_rate=1e-9)
    first = tmp_path / "first" / "best.safetensors"
    trained = train(data, validation, options, tmp_path / "second", begin_with=first, progress=Silent())
    assert trained.best["best"] == pytest.approx(read_checkpoint_score(first), abs=0.02)
    resumed = replace(options, epochs=2, schedule=Schedule.CONSTANT)
    half = replace(resumed, epochs=1)
    train(data, validation, half, tmp_path / "fourth", begin_with=first, progress=Silent())
    train(data, validation, resumed, tmp_path / "fourth", resume=True, progress=Silent())
    for folder, begun in (("first", ""), ("second", first.name), ("fourth", first.name)):
        told = read_checkpoint(tmp_path / folder / "last.safetensors").metadata.extra.get(BEGUN_WITH, "")
        assert told.partition(" ")[0] == begun
    with pytest.raises(
        TrainingError, match="this training 24 and 33; give `projection_dim` 24 and `hidden_dim` 32"
    ):
        train(
            data,
            validation,
            replace(options, hidden_dim=33),
            tmp_path / "third",
            begin_with=first,
            progress=Silent(),
        )


def test_a_training_does_not_go_on_from_other_weights_than_it_began_with(tmp_path: Path) -> None:
    run(tmp_path / "first", epochs=1)
    data, validation = ready()
    options = replace(OPTIONS, epochs=2, schedule=Schedule.CONSTANT)
    with pytest.raises(TrainingError, match=r"begun with random weights, not best.safetensors"):
        train(
            data,
            validation,
            options,
            run_of(tmp_path / "second", data, validation, replace(options, epochs=1)),
            resume=True,
            begin_with=tmp_path / "first" / "best.safetensors",
            progress=Silent(),
        )


def run_of(folder: Path, data: TrainingData, validation: Validation, options: TrainOptions) -> Path:
    train(data, validation, options, folder, progress=Silent())
    return folder


def test_patience_without_a_validation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="there is none"):
        train(ready()[0], None, replace(OPTIONS, patience=1), tmp_path, progress=Silent())


def test_validation_queries_that_are_trained_on_are_counted() -> None:
    train, val, features = small_task()
    data = training_data([train], features)
    mixed = replace(val, queries=(*val.queries, *train.queries[:7]))
    assert seen_in_training(data, validation_of([val], features, "triplets").parts) == ""
    said = seen_in_training(data, validation_of([mixed], features, "triplets").parts)
    assert said.startswith("7 of 67 validation queries are among the triplets")


def test_progress_tells_the_best_score_from_the_latest_and_of_what(tmp_path: Path) -> None:
    class Heard(Silent):
        notes: list[str]

        def __init__(self) -> None:
            self.notes = []

        def advance(self, done: int, note: str = "") -> None:
            self.notes += [note] if note else []

    heard = Heard()
    data, validation = ready()
    log = train(data, validation, OPTIONS, tmp_path, progress=heard).log
    scores = [100 * (entry["recall@1"] + entry["recall@10"]) / 2 for entry in log.entries]
    assert [note.partition(", ")[2] for note in heard.notes] == [
        f"mean of R@1 and R@10 {score:.2f} % (best {max(scores[: at + 1]):.2f} %)"
        for at, score in enumerate(scores)
    ]
    assert len({*scores}) > 1


def read_checkpoint_score(path: Path) -> float:
    metrics = read_checkpoint(path).metadata.metrics
    return (metrics["recall@1"] + metrics["recall@10"]) / 2


def test_a_loss_that_is_not_finite_stops_with_the_step_and_its_triplets(tmp_path: Path) -> None:
    """Features so large that the network leaves the range of float32, in one triplet alone."""
    train_split, _, features = small_task()
    run(tmp_path, epochs=2, schedule=Schedule.CONSTANT)
    before = files_of(tmp_path)
    images = dict(zip(features.images.header.names, np.array(features.images.matrix), strict=True))
    culprit = train_split.queries[17]
    images[culprit.reference] = np.full(16, 3e38, np.float32)
    broken = FeatureFolder(table_of(features.images.header.kind, images), features.texts)
    data = replace(ready()[0], features=broken)
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 3, step [1-9], at 1 of 32 triplets"):
        run(tmp_path, resume=True, data=data, schedule=Schedule.CONSTANT)
    assert files_of(tmp_path) == before
    assert len(without_time(tmp_path)) == 2


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The disk takes no more than `size` bytes a file, as a full one would not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_what_was_saved(tmp_path: Path) -> None:
    run(tmp_path / "whole", schedule=Schedule.CONSTANT)
    run(tmp_path / "full", epochs=2, schedule=Schedule.CONSTANT)
    before = files_of(tmp_path / "full")
    size = (tmp_path / "full" / FILE).stat().st_size
    with (
        files_of_at_most(size - 1000),
        pytest.raises(TrainingError, match=r"cannot be written to .* `resume`"),
    ):
        run(tmp_path / "full", resume=True, schedule=Schedule.CONSTANT)
    assert files_of(tmp_path / "full")[FILE] == before[FILE]
    for name in ("best.safetensors", "last.safetensors"):
        read_checkpoint(tmp_path / "full" / name)
    assert not list((tmp_path / "full").glob(".*"))
    run(tmp_path / "full", resume=True, schedule=Schedule.CONSTANT)
    assert files_of(tmp_path / "full") == files_of(tmp_path / "whole")


def test_data_smaller_than_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="300 triplets make no batch of 301; give a smaller `batch_size`"):
        run(tmp_path, batch_size=301)
    assert not list(tmp_path.iterdir())


def test_the_defaults_are_those_of_the_method() -> None:
    options = TrainOptions()
    assert (options.learning_rate, options.epochs, options.batch_size) == (2e-5, 300, 4096)
    assert (options.projection_dim, options.hidden_dim) == (2560, 5120)
    assert replace(options, schedule=Schedule.CONSTANT).beyond_the_method == {}


@given(st.integers(1, 400), st.floats(0.0, 1.0), st.sampled_from(list(Schedule)))
@settings(max_examples=50, deadline=None)
def test_the_rate_rises_while_it_warms_up_and_then_stays_or_falls(
    steps: int, warm_up: float, schedule: Schedule
) -> None:
    options = replace(OPTIONS, warm_up=warm_up, schedule=schedule)
    rates = [options.rate_at(step, steps) for step in range(steps)]
    assert all(0 < rate <= options.learning_rate for rate in rates)
    if schedule is Schedule.CONSTANT:
        warm = min(steps, math.ceil(warm_up * steps))
        assert rates == sorted(rates)
        assert all(rate == pytest.approx(options.learning_rate) for rate in rates[warm:])
    elif warm_up == 0:
        assert rates == sorted(rates, reverse=True)
        assert rates[0] == options.learning_rate
    else:
        assert rates[-1] <= options.learning_rate * (1 + math.cos(math.pi * (steps - 1) / steps)) / 2


def test_right_answers_of_others_leave_the_loss_when_they_are_masked() -> None:
    queries = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2], [0.0, 1.0], [1.0, 0.0]]), dim=-1)
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
    right = torch.tensor([[0, 2], [2, 0]])
    found = batch_classification_loss(queries, targets, right).item()
    pairs = [
        (queries[[0, 1]], targets[[0, 1]], 0),
        (queries, targets, 1),
        (queries[[1, 2]], targets[[1, 2]], 1),
    ]
    units = [(q, torch.nn.functional.normalize(t, dim=-1), at) for q, t, at in pairs]
    parts = [
        torch.nn.functional.cross_entropy(100 * (q[at] @ t.T)[None], torch.tensor([at])) for q, t, at in units
    ]
    assert found == pytest.approx(float(torch.stack(parts).mean()), rel=1e-4, abs=1e-6)


def test_a_loss_that_does_not_fall_is_said(tmp_path: Path) -> None:
    [warning] = run(tmp_path, epochs=2, learning_rate=1e-12).warnings
    assert warning.startswith("the loss does not fall (")


def test_a_training_that_learns_has_no_warnings(tmp_path: Path) -> None:
    assert run(tmp_path).warnings == ()


def test_a_loss_that_explodes_ends_the_training_in_its_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = batch_classification_loss
    monkeypatch.setattr(module, "batch_classification_loss", lambda *given: 90 * real(*given))
    monkeypatch.setattr(module, "loss_warning", lambda first, *rest: loss_warning(first / 90, *rest))
    with pytest.raises(TrainingError, match=r"the loss explodes .* give a lower `learning_rate`"):
        run(tmp_path)


def test_one_target_for_all_is_refused(tmp_path: Path) -> None:
    data = ready()[0]
    with pytest.raises(TrainingError, match=r"all 300 triplets have the one target '01': there is nothing"):
        run(tmp_path, data=replace(data, targets=np.full_like(data.targets, 1)))


def test_a_saturated_lambda_is_said() -> None:
    free = np.linspace(0, 1, 1000).astype(np.float32)
    assert saturation(free) == ""
    mostly = np.concatenate([np.full(988, 0.9999), np.full(12, 0.5)]).astype(np.float32)
    assert saturation(mostly) == ""
    assert saturation(mostly[3:]).startswith("lambda is 1 within 0.01 for 98.8 %") is False
    assert saturation(mostly[:990]).startswith("lambda is 1 within 0.01 for 99.8 % of the validation queries")
    assert saturation(1 - mostly[:990]).startswith("lambda is 0 within 0.01 for 99.8 %")


def test_validation_leaves_the_training_as_it_is(tmp_path: Path) -> None:
    for name, every in (("often", 1), ("seldom", 6)):
        run(tmp_path / name, validate_every=every)
    often, seldom = (
        read_checkpoint(tmp_path / name / "last.safetensors").weights for name in ("often", "seldom")
    )
    for key, array in often.items():
        assert np.array_equal(array, seldom[key])
    assert not any(math.isnan(entry["loss"]) for entry in without_time(tmp_path / "often"))


def test_every_option_has_a_help_text_and_keeps_its_bounds() -> None:
    for one in fields(TrainOptions):
        assert one.metadata["help"].endswith((".", "N."))
        for bound, expected, step in (("min", "at least", -1), ("max", "at most", 1)):
            if bound in one.metadata:
                replace(OPTIONS, **{one.name: one.metadata[bound]})
                with pytest.raises(TrainingError, match=f"`{one.name}` is .* expected {expected}"):
                    replace(OPTIONS, **{one.name: one.metadata[bound] + step})
        if "above" in one.metadata:
            with pytest.raises(TrainingError, match=f"`{one.name}` is .* expected more than"):
                replace(OPTIONS, **{one.name: one.metadata["above"]})
    with pytest.raises(TrainingError, match="`learning_rate` is nan"):
        replace(OPTIONS, learning_rate=float("nan"))
