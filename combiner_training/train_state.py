"""State of a training, from which a run that was killed is resumed, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from combiner_training.options import TrainingError
from service_runtime.files import replace_file

FILE = "state.safetensors"
_FORMAT = "training/1"
_NETWORK, _ADAM = "network.", "adam."
# Keys of the header and of the JSON in it.
_STATE, _RUN_CONFIG = "standing", "course"


@dataclass(slots=True)
class TrainState:
    """The part of a state that is not tensors.

    `run_config` is what a resumed run must agree in, `best` is the best score so far by selection rule,
    `since_best` counts validations since the first rule last improved, `scaler` is the state of the gradient
    scaler, `first_loss` is the loss of the first step, `begun_with` names the checkpoint whose weights came
    first ("" for random ones).
    """

    run_config: Mapping[str, str]
    epoch: int = 0
    best: dict[str, float] = field(default_factory=dict)
    since_best: int = 0
    scaler: dict[str, float] = field(default_factory=dict)
    first_loss: float = 0.0
    begun_with: str = ""


def save_state(
    folder: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer, state: TrainState
) -> None:
    """Write the state, whole or not at all.

    Raises:
        OSError: The disk is full, for example; what was saved before stays.
    """
    tensors: dict[str, Tensor] = {_NETWORK + name: tensor for name, tensor in network.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"{_ADAM}{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
    with replace_file(folder / FILE) as temporary:
        try:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                temporary,
                metadata={"cir_format": _FORMAT, _STATE: json.dumps(_document(state))},
            )
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_state(
    folder: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer, run_config: Mapping[str, str]
) -> TrainState:
    """Put network and optimizer where the run in `folder` was.

    Raises:
        TrainingError: The file is not whole, or of a run with another `run_config` (data, sizes, seed, ...).
    """
    path = folder / FILE
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("cir_format") != _FORMAT:
                raise TrainingError(f"{path} is not the state of a training; give another folder")
            document = json.loads(header[_STATE])
            state = TrainState(run_config=document.pop(_RUN_CONFIG), **document)
            _check_config(path, state.run_config, run_config)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        network.load_state_dict(
            {name.removeprefix(_NETWORK): t for name, t in tensors.items() if name.startswith(_NETWORK)}
        )
        optimizer.load_state_dict({**optimizer.state_dict(), "state": _adam_state(tensors)})
    except TrainingError:
        raise
    except FileNotFoundError:
        raise TrainingError(f"{folder} has no training to continue; leave `resume` out") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise TrainingError(
            f"{path} cannot be resumed from ({error}); train anew into another folder"
        ) from error
    return state


def _document(state: TrainState) -> dict[str, object]:
    document = asdict(state)
    document[_RUN_CONFIG] = document.pop("run_config")
    return document


def _adam_state(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Any]]:
    states: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        if name.startswith(_ADAM):
            index, key = name.removeprefix(_ADAM).split(".")
            states.setdefault(int(index), {})[key] = tensor
    return states


def _check_config(path: Path, saved: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    changed = [
        f"{name} was {saved.get(name)}, now {wanted.get(name)}"
        for name in sorted({*saved, *wanted})
        if saved.get(name) != wanted.get(name)
    ]
    if changed:
        raise TrainingError(
            f"{path} is of another training: {'; '.join(changed)}. Continue with the same options and data, "
            "or train anew into another folder"
        )
