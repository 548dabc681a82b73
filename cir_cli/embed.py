"""`cir embed` and `cir combine`: features of images and texts, and queries made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import typer
from numpy.typing import NDArray

from cir.errors import CirError, NotFound
from cir.feature_calls import Embedded
from cir_cli.errors import Failure, WrongUsage
from cir_cli.feature_files import read_features, write_npy
from cir_cli.local import up_file
from cir_cli.options import (
    DEFAULT_DATA,
    EMBEDDER,
    OUTPUT,
    Data,
    EmbedderAddress,
    EmbedderApiKey,
    EmbedderCaFile,
    EmbedderCertFile,
    EmbedderKeyFile,
    Json,
    Timeout,
    access,
    in_groups,
)
from cir_cli.output import console, print_json, table
from cir_cli.suggestions import did_you_mean

T = TypeVar("T")

Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE.npy", help="Write the vectors, a row each (float32).")
]
_REACHED = (
    "data", "embedder_api_key", "embedder_ca_file", "embedder_cert_file", "embedder_key_file", "timeout",
)  # fmt: skip
_SHOWN = 3


@in_groups(
    {
        "What is embedded": ("image", "text"),
        EMBEDDER: ("embedder", *_REACHED),
        OUTPUT: ("out",),
    }
)
def embed(
    image: Annotated[
        list[Path] | None, typer.Option("--image", "-i", help="Image to embed; repeatable.")
    ] = None,
    text: Annotated[list[str] | None, typer.Option("--text", "-t", help="Text to embed; repeatable.")] = None,
    out: Out = None,
    embedder: EmbedderAddress = "",
    data: Data = DEFAULT_DATA,
    embedder_api_key: EmbedderApiKey = "",
    embedder_ca_file: EmbedderCaFile = None,
    embedder_cert_file: EmbedderCertFile = None,
    embedder_key_file: EmbedderKeyFile = None,
    timeout: Timeout = 30.0,
    as_json: Json = False,
) -> None:
    """Embed images and texts to raw features: a row for each image, then one for each text.

    They go into --out, or with --json to standard output; without either it is said what they are.
    """
    images, texts = image or [], text or []
    if not images and not texts:
        raise WrongUsage("nothing to embed; give --image or --text")
    reached = access(
        embedder_api_key, embedder_ca_file, embedder_cert_file, embedder_key_file, prefix="--embedder-"
    )
    address = embedder or up_file.must_read(data, otherwise="--embedder").embedder
    with reached.client(address, timeout=timeout) as client:
        size = int(client.embedder_info().limits["max_batch_items"])
        batches = [*_batches(client.embed_images, images, size), *_batches(client.embed_texts, texts, size)]
    names = [str(each) for each in (*images, *texts)]
    for name, error in zip(names, (error for batch in batches for error in _errors(batch)), strict=True):
        if error:
            raise Failure(f"{name}: {error}")
    rows = np.concatenate([batch.features for batch in batches])
    texts_read = [
        {"text": part[cut.index], "tokens": cut.tokens, "read_tokens": cut.read_tokens}
        for part, batch in zip(_parts(texts, size), batches[-(-len(images) // size) :], strict=True)
        for cut in batch.cuts
    ]
    if out is not None:
        write_npy(out, rows)
    if as_json:
        inputs = [{"image": str(each)} for each in images] + [{"text": each} for each in texts]
        print_json(
            {
                "model_fingerprint": batches[0].model_fingerprint,
                "inputs": inputs,
                "vectors": rows.tolist(),
                "cut_texts": texts_read,
            }
        )
        return
    _print_rows(names, rows, out)
    for cut in texts_read:
        print(f"NOTE: {cut['text']!r} has {cut['tokens']} tokens, and the model reads {cut['read_tokens']}")


@in_groups(
    {
        "What is combined": ("image_features", "text_features", "combiner", "text_weight"),
        "How the combiner service is reached": ("combiner_service", *_REACHED),
        OUTPUT: ("out",),
    }
)
def combine(
    image_features: Annotated[
        Path,
        typer.Option(
            "--image-features", metavar="FILE", help="Features of images (.npy, .json of cir embed)."
        ),
    ],
    text_features: Annotated[
        Path,
        typer.Option("--text-features", metavar="FILE", help="Features of texts, as many rows as of images."),
    ],
    combiner: Annotated[
        str,
        typer.Option("--combiner", metavar="NAME", help="A combiner by name; default: the service's own."),
    ] = "",
    text_weight: Annotated[
        float | None,
        typer.Option("--text-weight", min=0, max=1, help="Between the image (0) and the text (1)."),
    ] = None,
    out: Out = None,
    combiner_service: Annotated[
        str,
        typer.Option(
            "--combiner-service",
            envvar="CIR_COMBINER_SERVICE",
            metavar="HOST:PORT",
            help="The combiner service; default: cir up's.",
        ),
    ] = "",
    data: Data = DEFAULT_DATA,
    embedder_api_key: EmbedderApiKey = "",
    embedder_ca_file: EmbedderCaFile = None,
    embedder_cert_file: EmbedderCertFile = None,
    embedder_key_file: EmbedderKeyFile = None,
    timeout: Timeout = 30.0,
    as_json: Json = False,
) -> None:
    """Combine features of images and texts, row by row, to query vectors that cir search --features takes.

    The --embedder-... options for keys and TLS hold for the combiner service as well.
    """
    pairs = [Embedded(*read_features(path)) for path in (image_features, text_features)]
    reached = access(
        embedder_api_key, embedder_ca_file, embedder_cert_file, embedder_key_file, prefix="--embedder-"
    )
    address = combiner_service or up_file.must_read(data, otherwise="--combiner-service").combiner
    with reached.client(address, timeout=timeout) as client:
        try:
            made = client.combine(*pairs, combiner=combiner, text_weight=text_weight)
        except NotFound as error:
            names = _unless_it_fails(lambda: [each.name for each in client.combiners()])
            error.message += did_you_mean(combiner, names or ())
            raise
    if made.queries is None:
        raise Failure(
            f"{made.combiner} answers with words for the text tower, not with queries; the search service "
            f"makes them: cir search --combiner {made.combiner}"
        )
    if out is not None:
        write_npy(out, made.queries)
    if as_json:
        print_json(
            {
                "combiner": made.combiner,
                "model_fingerprint": made.model_fingerprint,
                "vectors": made.queries.tolist(),
                "text_weights": list(made.text_weights),
                "lambdas": [None if math.isnan(each) else each for each in made.lambdas],
            }
        )
        return
    print(f"by {made.combiner}")
    _print_rows([f"pair {number}" for number in range(1, len(made.queries) + 1)], made.queries, out)


def _parts(inputs: Sequence[T], size: int) -> list[Sequence[T]]:
    return [inputs[at : at + size] for at in range(0, len(inputs), size)]


def _batches(run: Callable[[Sequence[T]], Embedded], inputs: Sequence[T], size: int) -> list[Embedded]:
    return [run(part) for part in _parts(inputs, size)]


def _errors(batch: Embedded) -> list[str]:
    """Return an error for each row, empty where there is none."""
    errors = {error.index: error.message for error in batch.errors}
    return [errors.get(index, "") for index in range(len(batch.features))]


def _unless_it_fails(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except CirError:
        return None


def _print_rows(names: Sequence[str], rows: NDArray[np.float32], out: Path | None) -> None:
    cells = [
        (
            name,
            str(len(row)),
            f"{float(np.linalg.norm(row)):.3f}",
            " ".join(f"{value:.3f}" for value in row[:_SHOWN]),
        )
        for name, row in zip(names, rows, strict=True)
    ]
    columns = ("input", "values", "length", f"first {_SHOWN}")
    console().print(table(columns, cells, right=("values", "length")))
    if out is not None:
        print(f"vectors: {out}")
