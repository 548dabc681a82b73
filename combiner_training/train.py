"""Training the Combiner: loss, validation and the whole course, top to bottom.

The method's second stage (CVPR 2022; CLIP4Cir): CLIP is frozen and its features are read from files, the loss
tells each target from the others of the batch, and the checkpoint is chosen by validation. A run that was
killed is resumed from its last validation and ends, on a CPU, bit for bit as one that was not: everything
random in an epoch follows from the seed and the epoch's number.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from combiner_service.checkpoint import CheckpointMetadata, read_checkpoint, write_checkpoint
from combiner_service.combiner import CombinerInfo
from combiner_service.network import NetworkCombiner
from combiner_service.network_loading import choose_device
from combiner_service.network_spec import NetworkSizes
from combiner_service.torch_network import CombinerNetwork, TorchRuntime
from combiner_training.data import Batch, TrainingData
from combiner_training.dialogue_references import DialogueReferences
from combiner_training.evaluation.evaluate import Evaluation, evaluate
from combiner_training.evaluation.protocol import Protocol, Rule, selection_rules
from combiner_training.evaluation.queries import EvaluationQueries
from combiner_training.log import TrainingLog
from combiner_training.options import OptionError, Schedule, TrainingError, TrainOptions
from combiner_training.progress import Progress
from combiner_training.run_warnings import EXPLODES, loss_warning, one_target, saturation
from combiner_training.train_state import FILE, TrainState, load_state, save_state
from service_runtime.files import write_text

#: Fixed, as in the released code; CLIP's own is learned and ends at about the same.
LOGIT_SCALE = 100.0


def batch_classification_loss(queries: Tensor, targets: Tensor, right: Tensor | None = None) -> Tensor:
    """Return the cross entropy, a scalar, of telling each query's target from the other targets.

    One direction only, from query to target. `queries` are (b, d) unit query vectors, as the network gives
    them; `targets` are (b or more, d) raw image features, the queries' own first, which are normalised here.
    `right` (pairs, 2) are query and target of other triplets that are left out.
    """
    logits = LOGIT_SCALE * queries @ functional.normalize(targets, dim=-1).T
    if right is not None:
        logits = logits.index_put((right[:, 0], right[:, 1]), logits.new_tensor(-torch.inf))
    return functional.cross_entropy(logits, torch.arange(len(queries), device=queries.device))


@dataclass(frozen=True, slots=True)
class Validation:
    """The validation split under its protocol."""

    parts: Sequence[EvaluationQueries]
    protocol: Protocol

    @property
    def rules(self) -> Mapping[str, Rule]:
        """Selection rules by the name of the checkpoint they choose."""
        return selection_rules(self.protocol.dataset)

    def evaluate(self, network: CombinerNetwork) -> Evaluation:
        """Evaluate the network as it is, without dropout, and leave it in training mode."""
        info = CombinerInfo("combiner", "in training", takes_text_weight=True)
        network.eval()
        try:
            return evaluate(NetworkCombiner(info, TorchRuntime(network)), self.parts, self.protocol)
        finally:
            network.train()


#: Key of a checkpoint's header that names the checkpoint whose weights its training began with.
BEGUN_WITH = "begun_with"
#: Where the batch is named whose loss was not finite.
DIVERGED_FILE = "diverged.json"
_IDS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class TrainResult:
    """End of a training: its epoch, the best score by selection rule, the last validation, and what speaks
    against the result, a sentence each."""

    epoch: int
    best: Mapping[str, float]
    last: Evaluation | None
    log: TrainingLog
    warnings: tuple[str, ...] = ()


def train(
    data: TrainingData,
    validation: Validation | None,
    options: TrainOptions,
    folder: Path,
    *,
    resume: bool = False,
    begin_with: Path | None = None,
    progress: Progress,
) -> TrainResult:
    """Train into `folder`: `last.safetensors`, the best by each selection rule, `metrics.jsonl` and `.csv`.

    `validation` chooses the best; without one the training runs to its end and keeps the last. A folder that
    holds a training is refused unless `resume` continues it, from its last validation. The weights of the
    checkpoint `begin_with` come first, in place of random ones, and each that is written names it. `progress`
    sees every epoch.

    Raises:
        TrainingError: Data smaller than a batch, one target for all, a folder in use or of another training,
            a loss that is not finite (with the step and its triplets) or explodes in the first epoch, a full
            disk. What was written before stays as it was.
    """
    if len(data.ids) < options.batch_size:
        raise TrainingError(
            f"{len(data.ids)} triplets make no batch of {options.batch_size}; give a smaller `batch_size`"
        )
    if options.patience and validation is None:
        raise OptionError("`patience` waits for a better validation, and there is none; leave it out")
    if nothing_to_learn := one_target(data):
        raise TrainingError(f"{nothing_to_learn}; give triplets with several targets")
    if (folder / FILE).exists() and not resume:
        raise TrainingError(f"{folder} holds a training; continue it with `resume`, or give another folder")
    folder.mkdir(parents=True, exist_ok=True)

    device = torch.device(choose_device(options.device))
    mixed = options.mixed_precision and device.type == "cuda"
    sizes = NetworkSizes(data.features.dimension, options.projection_dim, options.hidden_dim)
    torch.manual_seed(options.seed)
    network = CombinerNetwork(sizes)
    state = TrainState(run_config=_run_config(data, validation, options, sizes))
    if begin_with is not None:
        first = read_checkpoint(begin_with)
        if not isinstance(first.sizes, NetworkSizes):
            raise TrainingError(f"{begin_with} is an inversion; begin with a checkpoint of a Combiner")
        if first.sizes != sizes:
            raise TrainingError(_other_sizes(begin_with, first.sizes, sizes))
        network.load_state_dict({name: torch.from_numpy(each) for name, each in first.weights.items()})
        digest = hashlib.sha256(begin_with.read_bytes()).hexdigest()
        state = replace(state, begun_with=f"{begin_with.name} (SHA-256 {digest[:16]})")
    network.to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
    scaler = torch.amp.GradScaler(device.type, enabled=mixed)

    if resume:
        begun = state.begun_with
        state = load_state(folder, network, optimizer, state.run_config)
        if begin_with is not None and begun != state.begun_with:
            raise TrainingError(
                f"{folder} was begun with {state.begun_with or 'random weights'}, not {begun}; continue it "
                "without `begin_with`, or train anew into another folder"
            )
        if mixed and state.scaler:
            scaler.load_state_dict(state.scaler)
    with writing(folder):
        log = TrainingLog(folder, state.epoch)
    dialogues = DialogueReferences(data) if options.continued else None
    evaluation: Evaluation | None = None
    rules = validation.rules if validation is not None else {}
    steps_of_epoch = len(data.ids) // options.batch_size
    steps = options.epochs * steps_of_epoch
    told_from = min(options.candidates, len(data.answers()))
    guessing = math.log(options.batch_size + told_from)

    progress.start("epochs", options.epochs)
    progress.advance(state.epoch)
    for epoch in range(state.epoch + 1, options.epochs + 1):
        if options.patience and state.since_best >= options.patience:
            break
        started = time.perf_counter()
        random = np.random.default_rng([options.seed, epoch])
        torch.manual_seed(int(random.integers(2**63)))
        losses = []
        references = None if dialogues is None else dialogues.references(network, options.continued, random)
        batches = data.batches(
            random,
            options.batch_size,
            references=references,
            with_right_answers=options.mask_right_answers,
            candidates=options.candidates,
        )
        for step, batch in enumerate(batches, start=1):
            image, text, target = (
                torch.from_numpy(features).to(device) for features in (batch.image, batch.text, batch.target)
            )
            right = torch.from_numpy(batch.right).to(device) if options.mask_right_answers else None
            for group in optimizer.param_groups:
                group["lr"] = options.rate_at((epoch - 1) * steps_of_epoch + step - 1, steps)
            with torch.autocast(device.type, enabled=mixed):
                queries, _ = network(image, text)
                loss = batch_classification_loss(queries, target, right)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise _diverged(folder, losses[-1], epoch, step, batch, queries)
            optimizer.zero_grad()
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()

        entry = {
            "epoch": epoch,
            "loss": sum(losses) / len(losses),
            "steps": len(losses),
            "seconds": round(time.perf_counter() - started, 4),
        }
        state = state if state.first_loss else replace(state, first_loss=losses[0])
        if epoch == 1 and (
            wrong := loss_warning(losses[0], [entry["loss"]], guessing, options.learning_rate)
        ).startswith(EXPLODES):
            raise TrainingError(f"{wrong}; give a lower `learning_rate`")
        due = epoch % options.validate_every == 0 or epoch == options.epochs
        if not due:
            with writing(folder):
                log.append(entry)
            progress.advance(epoch, f"loss {entry['loss']:.4f}")
            continue
        scores = {}
        if validation is not None:
            evaluation = validation.evaluate(network)
            entry |= _measured(evaluation)
            scores = {name: rule(evaluation.metrics) for name, rule in rules.items()}
        better = [name for name, score in scores.items() if score > state.best.get(name, -math.inf)]
        state = replace(
            state,
            epoch=epoch,
            best=state.best | {name: scores[name] for name in better},
            since_best=0 if next(iter(rules), None) in better else state.since_best + 1,
            scaler=scaler.state_dict() if mixed else {},
        )
        with writing(folder):
            for name in better:
                _write(folder / f"{name}.safetensors", network, data, evaluation, options, state, name)
            log.append(entry)
            log.write_csv()
            # Last: a run that is killed before it repeats the epoch, and writes the same again.
            save_state(folder, network, optimizer, state)
        progress.advance(epoch, _note(entry["loss"], rules, scores, state.best))

    if evaluation is None and validation is not None:
        evaluation = validation.evaluate(network)  # a run that was over when it was resumed
    with writing(folder):
        _write(folder / "last.safetensors", network, data, evaluation, options, state, "last")
    epochs = [each["loss"] for each in log.entries]
    warnings = (
        loss_warning(state.first_loss, epochs, guessing, options.learning_rate),
        saturation(evaluation.text_weights) if evaluation is not None else "",
    )
    return TrainResult(state.epoch, state.best, evaluation, log, tuple(each for each in warnings if each))


def _diverged(
    folder: Path, loss: float, epoch: int, step: int, batch: Batch, queries: torch.Tensor
) -> TrainingError:
    """Name the triplets whose own query is not finite, or all of them where each is."""
    own = (~queries.isfinite().all(dim=1)).tolist()
    culprits = [triplet for triplet, bad in zip(batch.ids, own, strict=True) if bad] or list(batch.ids)
    write_text(
        folder / DIVERGED_FILE,
        json.dumps({"epoch": epoch, "step": step, "at": culprits, "batch": list(batch.ids)}) + "\n",
    )
    more = f" and {len(culprits) - _IDS_SHOWN} more" if len(culprits) > _IDS_SHOWN else ""
    return TrainingError(
        f"the loss is {loss} in epoch {epoch}, step {step}, at {len(culprits)} of {len(batch.ids)} triplets: "
        f"{', '.join(culprits[:_IDS_SHOWN])}{more} (all in {DIVERGED_FILE}); look at their features, or give "
        "a lower `learning_rate`. What was saved before is kept"
    )


def _other_sizes(path: Path, found: NetworkSizes, wanted: NetworkSizes) -> str:
    if found.feature_dim != wanted.feature_dim:
        return (
            f"{path} combines features of {found.feature_dim} values, these have {wanted.feature_dim}; begin "
            "with a checkpoint of their model"
        )
    return (
        f"{path} has a projection of {found.projection_dim} and hidden layers of {found.hidden_dim}, this "
        f"training {wanted.projection_dim} and {wanted.hidden_dim}; give `projection_dim` "
        f"{found.projection_dim} and `hidden_dim` {found.hidden_dim}"
    )


def _run_config(
    data: TrainingData, validation: Validation | None, options: TrainOptions, sizes: NetworkSizes
) -> dict[str, str]:
    """Return what two runs must share to have the same result, but for their length where the rate is
    constant."""
    return {
        "data": f"{data.name} ({data.digest()[:16]})",
        "protocol": validation.protocol.text if validation is not None else "none",
        "sizes": f"{sizes.feature_dim} {sizes.projection_dim} {sizes.hidden_dim}",
        "seed": str(options.seed),
        "batch_size": str(options.batch_size),
        "learning_rate": str(options.learning_rate),
        "validate_every": str(options.validate_every),
        **options.beyond_the_method,
        **({"epochs": str(options.epochs)} if options.schedule is Schedule.COSINE else {}),
    }


def _measured(evaluation: Evaluation) -> dict[str, float]:
    parts = {
        f"{part} {name}": value for part, values in evaluation.parts.items() for name, value in values.items()
    }
    return {**evaluation.metrics, **parts, "text_weight_mean": float(evaluation.text_weights.mean())}


def _write(
    path: Path,
    network: CombinerNetwork,
    data: TrainingData,
    evaluation: Evaluation | None,
    options: TrainOptions,
    state: TrainState,
    chosen_by: str,
) -> None:
    write_checkpoint(
        path,
        {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()},
        CheckpointMetadata(
            model_fingerprint=data.features.model_fingerprint,
            training_data=data.text,
            protocol=f"{evaluation.protocol.text}; {evaluation.coverage.text}" if evaluation else "",
            metrics=dict(evaluation.metrics) if evaluation else {},
            epoch=state.epoch,
            extra={
                "chosen_by": chosen_by,
                "seed": str(options.seed),
                "batch_size": str(options.batch_size),
                "learning_rate": str(options.learning_rate),
                **options.beyond_the_method,
                **({BEGUN_WITH: state.begun_with} if state.begun_with else {}),
            },
        ),
    )


def _note(
    loss: float, rules: Mapping[str, Rule], scores: Mapping[str, float], best: Mapping[str, float]
) -> str:
    shown = "".join(
        f", {rules[name].text} {100 * score:.2f} % (best {100 * best[name]:.2f} %)"
        for name, score in scores.items()
    )
    return f"loss {loss:.4f}{shown}"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise errors of the disk, such as a full one, as a TrainingError."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{folder} cannot be written to ({error.strerror or error}); what was saved before is kept: make "
            "room, and continue with `resume`"
        ) from error
