"""Options of a model: above all what its weights were trained with, where they do not say it themselves.

Each is a setting of the embedder of the same name; the embedder checks the values.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

MODEL = "The model"


class Dtype(StrEnum):
    """The type that the embedder computes in, as its setting `dtype` has it."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    INT8 = "int8"


MeanOption = Annotated[
    str,
    typer.Option(
        "--mean",
        metavar="R,G,B",
        help="Mean of the pixels (0 to 1) in training; one number stands for three. This and the next four "
        "are for weights that do not say it.",
        rich_help_panel=MODEL,
    ),
]
StdOption = Annotated[
    str,
    typer.Option(
        "--std", metavar="R,G,B", help="Standard deviation of the pixels in training.", rich_help_panel=MODEL
    ),
]
InterpolationOption = Annotated[
    str,
    typer.Option(
        "--interpolation",
        metavar="bicubic|bilinear",
        help="Resizing filter of the training.",
        rich_help_panel=MODEL,
    ),
]
ResizeModeOption = Annotated[
    str,
    typer.Option(
        "--resize-mode",
        metavar="shortest|longest|squash",
        help="How images became squares in training: by the short side and cropping, the long side and "
        "filling up, or both sides.",
        rich_help_panel=MODEL,
    ),
]
QuickGeluOption = Annotated[
    str,
    typer.Option(
        "--quick-gelu",
        metavar="true|false",
        help="Whether the activation is QuickGELU, as in OpenAI's models.",
        rich_help_panel=MODEL,
    ),
]
TokenizerOption = Annotated[
    str,
    typer.Option(
        "--tokenizer",
        metavar="DIR|NAME",
        help="Hugging Face tokenizer, in place of the model's.",
        rich_help_panel=MODEL,
    ),
]
ModelConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--model-config-file",
        metavar="FILE",
        help="Architecture and preprocessing in open_clip's layout.",
        rich_help_panel=MODEL,
    ),
]


def traits(
    mean: str,
    std: str,
    interpolation: str,
    resize_mode: str,
    quick_gelu: str,
    tokenizer: str,
    model_config_file: Path | None,
) -> dict[str, str]:
    """Return the embedder's settings for the options that were given."""
    given = {
        "mean": mean,
        "std": std,
        "interpolation": interpolation,
        "resize_mode": resize_mode,
        "quick_gelu": quick_gelu,
        "tokenizer": tokenizer,
        "model_config_file": "" if model_config_file is None else str(model_config_file.resolve()),
    }
    return {name: value for name, value in given.items() if value}
