"""Export of a model of open_clip as a model folder: ONNX towers that run without torch."""

from __future__ import annotations

import io
import shutil
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import open_clip
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript import optimizer
from tokenizers import Tokenizer as Vocabulary

from embedder_service.light.folder import PROBE, TOKENIZER, is_model_folder, write_document
from embedder_service.light.source import TEXTUAL, VISUAL
from embedder_service.light.tokenizer import CLIP_TOKENIZER, VocabularyTokenizer, clip_vocabulary
from embedder_service.model.checkpoint import one_line
from embedder_service.model.clip import ClipModel, can_be_cut, encode_cut, image_size
from embedder_service.model.load import check_towers, describe_words, weight_digests
from embedder_service.model.read_token import encode_image
from embedder_service.model.tokenizer import Tokenizer, make_tokenizer
from embedder_service.model.weights import LoadedModel, load_model
from embedder_service.probe import TOKENIZER_TEXTS, probe_features
from embedder_service.served import choices_of
from embedder_service.settings import EmbedderSettings
from service_runtime.errors import StartupError

_OPSET = 18
_ANY = 1 << 31
_CONSTANT_BYTES = 1 << 6


@dataclass(frozen=True, slots=True)
class Exported:
    """A folder that was written, and the bytes of its files."""

    folder: Path
    size: int


def export(settings: EmbedderSettings, folder: Path) -> Exported:
    """Write the model that the settings name to a new folder.

    Weights whose values are float16 numbers are stored as such: nothing is rounded.

    Raises:
        StartupError: the model cannot be loaded or exported, or the folder is there already.
    """
    if folder.exists() and (is_model_folder(folder) or any(folder.iterdir())):
        raise StartupError(f"{folder} exists and is not empty; name a new folder")
    loaded = load_model(
        settings.architecture,
        settings.pretrained,
        config_file=settings.model_config_file,
        cache_dir=settings.weights_cache,
        choices=choices_of(settings),
    )
    tokenizer = make_tokenizer(
        loaded.config, folder=loaded.folder, override=settings.tokenizer, cache_dir=settings.weights_cache
    )
    vocabulary, facts = _words(loaded, tokenizer)
    check_towers(loaded, tokenizer)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write(loaded, tokenizer, vocabulary, facts, part)
        if folder.is_dir():
            folder.rmdir()
        part.rename(folder)
    except OSError as error:
        raise StartupError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Exported(folder, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))


def _words(loaded: LoadedModel, tokenizer: Tokenizer) -> tuple[Vocabulary, dict[str, Any]]:
    """Return the vocabulary of a model, and what its document says of its tokenizer.

    Raises:
        StartupError: its tokens are made by something that a folder cannot hold.
    """
    facts = {"cleaning": tokenizer.cleaning, "context_length": tokenizer.context}
    options = (loaded.config["text_cfg"].get("tokenizer_kwargs") or {}).keys()
    if tokenizer.name == CLIP_TOKENIZER:
        if options - {"clean"}:
            raise StartupError(
                "a model folder holds CLIP's own tokens alone, and the config's tokenizer_kwargs change "
                "them; serve the model by torch"
            )
        clip = open_clip.SimpleTokenizer()
        merges = [pair for pair, _ in sorted(clip.bpe_ranks.items(), key=lambda item: item[1])]
        return clip_vocabulary(clip.encoder, merges), facts | {"kind": CLIP_TOKENIZER}
    content, padding = tokenizer.vocabulary_file()
    same = content and np.array_equal(
        VocabularyTokenizer(
            Vocabulary.from_str(content), tokenizer.context, tokenizer.cleaning, padding, name=tokenizer.name
        )(TOKENIZER_TEXTS),
        tokenizer(TOKENIZER_TEXTS),
    )
    if not same:
        raise StartupError(
            f"the tokenizer {tokenizer.name} of {loaded.architecture} has steps that a tokenizer.json does "
            "not hold; serve the model by torch"
        )
    stated = {"pad_token": padding.token, "pad_left": padding.is_left, "zeroed_token": padding.zeroed}
    return Vocabulary.from_str(content), facts | stated | {"kind": "vocabulary", "name": tokenizer.name}


def _write(
    loaded: LoadedModel,
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    facts: dict[str, Any],
    folder: Path,
) -> None:
    module, size = loaded.module, image_size(loaded)
    for name in (VISUAL, TEXTUAL):
        (folder / name).parent.mkdir(parents=True)
    tokens = torch.from_numpy(tokenizer(["a photo of a red dress", "blue"]))
    batch = torch.export.Dim("batch")
    _save(_Images(module), torch.randn(2, 3, size, size), "pixels", {0: batch}, folder / VISUAL)
    if can_be_cut(module):
        length = torch.export.Dim("length", min=2, max=tokenizer.context)
        _save(_CutTexts(module), tokens, "tokens", {0: batch, 1: length}, folder / TEXTUAL)
    else:
        _save(_Texts(module), tokens, "tokens", {0: batch}, folder / TEXTUAL)
    vocabulary.save(str(folder / TOKENIZER), pretty=False)
    exact = ClipModel(loaded, torch.device("cpu"), torch.float32, tokenizer=tokenizer)
    np.save(folder / PROBE, probe_features(exact))
    traits = loaded.traits
    write_document(
        folder,
        {
            "architecture": loaded.architecture,
            "pretrained": loaded.pretrained,
            "config": loaded.config,
            "weights": weight_digests(module.state_dict()),
            "dimension": loaded.config["embed_dim"],
            "image_size": size,
            "preprocessing": {
                "mean": [float(value) for value in traits.mean],
                "std": [float(value) for value in traits.std],
                "interpolation": traits.interpolation.value,
                "resize_mode": traits.resize_mode.value,
                "fill": traits.fill,
            },
            "quick_gelu": traits.quick_gelu,
            "tokenizer": facts,
            "words": describe_words(module, tokenizer) or None,
        },
    )


class _Images(torch.nn.Module):
    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.model: Any = module

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return encode_image(self.model, pixels)


class _Texts(torch.nn.Module):
    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.model: Any = module

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.model.encode_text(tokens)
        return features


class _CutTexts(_Texts):
    """The text tower for any length: as `encode_tokens` computes it once a batch is cut."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return encode_cut(self.model, tokens)


def _save(
    module: torch.nn.Module, example: torch.Tensor, name: str, dynamic: dict[int, Any], path: Path
) -> None:
    said = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(said), redirect_stderr(said), torch.inference_mode():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                module.eval(),
                (example,),
                dynamo=True,
                dynamic_shapes=(dynamic,),
                input_names=[name],
                output_names=["features"],
                opset_version=_OPSET,
                external_data=False,
                verbose=False,
                optimize=False,
            )
            # Not all that the exporter knows: with batch normalisation folded into convolutions, weights
            # would be no float16 numbers any more.
            optimizer.fold_constants(program.model, input_size_limit=_ANY, output_size_limit=_ANY)
            optimizer.remove_unused_nodes(program.model)
            model = program.model_proto
    except Exception as error:
        # The exporter raises errors of many kinds, for whatever a tower has that ONNX has not.
        raise StartupError(
            f"the tower of {name} cannot be exported: {one_line(error)}; serve the model by torch"
        ) from error
    without_traces(model)
    _store_float16(model)
    try:
        onnx.save(model, path)
    except ValueError as error:
        raise StartupError(
            f"the tower of {name} cannot be written: {one_line(error)}; an ONNX file holds 2 GB at most: "
            "serve the model by torch"
        ) from error


def without_traces(model: Any) -> None:
    """Remove what the exporter tells about the code and the machine that it ran on."""
    for part in (model, model.graph, *model.graph.node, *model.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    for node in model.graph.node:
        node.name = ""
    del model.graph.value_info[:]


def _store_float16(model: Any) -> None:
    """Store weights whose values are float16 numbers as such, widened where they are used."""
    widened = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.raw_data) < _CONSTANT_BYTES:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue
        name, stored = tensor.name, f"{tensor.name}.float16"
        tensor.CopyFrom(numpy_helper.from_array(half, stored))
        widened.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    nodes = [*widened, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
