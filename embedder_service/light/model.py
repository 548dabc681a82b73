"""CLIP by OpenVINO: the model that the engine runs, and its way from a folder to a service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cir.common.v1 import model_pb2
from cir.prompts import Template
from embedder_service.batching.jobs import Features, Tokens
from embedder_service.host import core_count, multiplies_bfloat16
from embedder_service.identity import fingerprint
from embedder_service.images.preprocess import Pixels
from embedder_service.light.folder import is_model_folder, read_model_folder
from embedder_service.light.int8 import Linear
from embedder_service.light.published import is_published, read_published
from embedder_service.light.source import LightSource
from embedder_service.light.tokenizer import ClipTokenizer
from embedder_service.light.tower import Compiled, Prepared, Tower
from embedder_service.names import HUB
from embedder_service.probe import (
    PROBE_TEXTS,
    Int8Layers,
    first_within,
    probe_features,
    probe_images,
    smallest_cosine,
)
from embedder_service.prompts import Prompts, Words, cut_length, tokenize_prompts, word_mask
from embedder_service.served import (
    ServedModel,
    choices_of,
    make_preprocessor,
    preprocessing_info,
)
from embedder_service.settings import EmbedderSettings
from embedder_service.traits import Traits
from service_runtime.errors import StartupError

RUNTIME = "openvino"
#: What is passed to a compiled tower.
Inputs = tuple[npt.NDArray[Any], ...]
#: Largest inputs of linear layers of the image tower and of the text tower (int8.py).
Ranges = tuple[Sequence[Features] | None, Sequence[Features] | None]
#: Smallest cosine between features of this runtime in float32 and of torch in float32.
SAME = 0.9999
# Size of an image tower's file.
_LARGE_BYTES = 64 << 20
_LINEAR = {
    Int8Layers.ALL: (Linear.ALL, Linear.ALL),
    Int8Layers.IMAGE_AND_TEXT_MLPS: (Linear.ALL, Linear.MLPS),
    Int8Layers.MLPS: (Linear.MLPS, Linear.MLPS),
}


class LightModel:
    """One model in one dtype on the CPU. Any thread may encode and tokenise.

    A pass that is alone has `threads` threads; with more `lanes` than one, passes that run at a time divide
    them, as `share` was told on the thread that begins them.
    """

    def __init__(
        self,
        source: LightSource,
        dtype: str,
        layers: Int8Layers = Int8Layers.ALL,
        *,
        threads: int = 1,
        lanes: int = 1,
        ranges: Ranges | None = None,
    ) -> None:
        self.dtype, self.dimension, self.image_size = dtype, source.dimension, source.image_size
        self.tokenizer = source.tokenizer
        self._threads = threads
        self._towers = (
            Tower(
                source.visual,
                takes="pixels",
                dimension=source.dimension,
                image_size=source.image_size,
                is_export=source.is_export,
            ),
            Tower(
                source.textual,
                takes="tokens",
                dimension=source.dimension,
                context=self.tokenizer.context,
                is_export=source.is_export,
                takes_words=isinstance(self.tokenizer, ClipTokenizer),
            ),
        )
        self.token_width = self._towers[1].token_width
        self._check_tokenizer()
        self.normalise(source.traits)
        self.ranges = ranges or (self._input_ranges() if dtype == "int8" else (None, None))
        # Until it is known how many passes there are at a time.
        self._prepared: list[Prepared] = [
            # Further lanes make their own of the weights later, when the file may be another.
            tower.prepare(dtype, linear, found, maps=lanes == 1)
            for tower, linear, found in zip(self._towers, _LINEAR[layers], self.ranges, strict=True)
        ]
        self._alone = self._compile(threads, 1)
        self._shared = self._alone
        self._pass = threading.local()

    def divide(self, lanes: int) -> None:
        """Prepare for `lanes` passes at a time. To be called once."""
        if lanes > 1:
            self._shared = self._compile(max(1, self._threads // lanes), lanes)
        self._prepared = []

    def normalise(self, traits: Traits) -> None:
        """Take the mean and the standard deviation of these traits from now on."""
        self._mean = np.asarray(traits.mean, np.float32).reshape(1, 3, 1, 1)
        self._std = np.asarray(traits.std, np.float32).reshape(1, 3, 1, 1)

    def share(self, passes: int) -> None:
        """Say, on the thread that begins a pass, how many share the CPU with it."""
        self._pass.is_shared = passes > 1

    def release_memory(self) -> None:
        """Give back what passes computed in; the next ones take it again. While none runs."""
        for tower in (*self._alone, *self._shared):
            tower.release_memory()

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Return int64 tokens of shape (n, context); longer texts are cut to the context, as CLIP does."""
        return self.tokenizer(texts)

    def long_texts(self, texts: Sequence[str], tokens: Tokens) -> dict[int, int]:
        """Return the number of tokens of each text that was cut, by its place."""
        return self.tokenizer.long_texts(texts, tokens)

    def encode_images(self, pixels: Pixels) -> Features:
        """Return float32 (n, d) raw features of uint8 (n, size, size, 3) RGB pixels."""
        return self._compiled()[0](*self._image_inputs(pixels))

    def encode_tokens(self, tokens: Tokens) -> Features:
        """Return float32 (n, d) raw features of int64 (n, context) tokens.

        A batch is cut to its longest text: what comes after the end of a text cannot change its features.
        """
        return self._compiled()[1](*self._text_inputs(tokens))

    def tokenize_prompts(
        self, template: Template, texts: Sequence[str], words: Words
    ) -> tuple[Prompts, dict[int, int]]:
        """Return sentences, and the tokens of texts that were cut; see `prompts.tokenize_prompts`."""
        if not isinstance(self.tokenizer, ClipTokenizer):
            raise TypeError("a tower without a token width takes no word embeddings")
        return tokenize_prompts(self.tokenizer, template, texts, words)

    def encode_prompts(self, prompts: Prompts) -> Features:
        """Return float32 (n, d) raw features of sentences."""
        length = cut_length(prompts["tokens"])
        return self._compiled()[1](
            np.ascontiguousarray(prompts["tokens"][:, :length]),
            word_mask(prompts, length)[:, :, None],
            np.ascontiguousarray(prompts["word"][:, None]),
        )

    def encode_texts(self, texts: Sequence[str]) -> Features:
        """Return float32 (n, d) raw features of texts."""
        return self.encode_tokens(self.tokenize(texts))

    def _image_inputs(self, pixels: Pixels) -> Inputs:
        return pixels, self._mean, self._std

    def _text_inputs(self, tokens: Tokens) -> Inputs:
        if self._towers[1].length == 0:
            tokens = tokens[:, : cut_length(tokens)]
        if not self.token_width:
            return (tokens,)
        count, length = tokens.shape
        none = np.zeros((count, 1, self.token_width), np.float32)
        return tokens, np.zeros((count, length, 1), np.bool_), none

    def _input_ranges(self) -> Ranges:
        """Return what linear layers take where the probe is encoded, of either tower."""
        images, texts = probe_images(self.image_size), self.tokenize(PROBE_TEXTS)
        visual, textual = self._towers
        return (
            visual.input_ranges(self._image_inputs(image[None]) for image in images),
            textual.input_ranges(self._text_inputs(text[None]) for text in texts),
        )

    def _compiled(self) -> tuple[Compiled, Compiled]:
        return self._shared if getattr(self._pass, "is_shared", False) else self._alone

    def _compile(self, threads: int, streams: int) -> tuple[Compiled, Compiled]:
        visual, textual = (tower.compile(threads=threads, streams=streams) for tower in self._prepared)
        return visual, textual

    def _check_tokenizer(self) -> None:
        textual, tokenizer = self._towers[1], self.tokenizer
        if textual.length not in (0, tokenizer.context):
            raise StartupError(
                f"{textual.path} takes {textual.length} tokens, and the tokenizer gives {tokenizer.context}: "
                "they are not of one model; export the model again"
            )
        fits = textual.vocabulary == tokenizer.size or (
            not tokenizer.is_exact and textual.vocabulary > tokenizer.size
        )
        if textual.vocabulary and not fits:
            raise StartupError(
                f"{textual.path} knows {textual.vocabulary} tokens, and the tokenizer has {tokenizer.size}: "
                "they are not of one model; export the model again"
            )


def load_light(settings: EmbedderSettings, path: Path) -> ServedModel:
    """Load the model in a folder, choose its dtype, compare it with torch's features and identify it.

    Raises:
        StartupError: the folder cannot be used; the message is one line.
    """
    named = settings.architecture if settings.architecture.startswith(HUB) else ""
    source = read_source(path, named)
    traits = choices_of(settings).over(source.traits)
    if settings.tokenizer or settings.model_config_file or traits.quick_gelu != source.traits.quick_gelu:
        raise StartupError(
            f"{path} has its own tokenizer, architecture and activation; export the model again to change "
            "them, or use runtime torch"
        )
    threads = settings.threads or core_count()
    lanes = settings.device_lanes or _lanes(source, threads)
    model, info = _choose(source, settings, threads, lanes)
    model.divide(lanes)
    model.normalise(traits)
    preprocessor = make_preprocessor(settings, traits, source.image_size)
    info.MergeFrom(preprocessing_info(preprocessor, traits))
    info.token_width = model.token_width
    info.fingerprint = fingerprint(
        source.config, source.digests, preprocessor, traits.mean, traits.std, source.words
    )
    return ServedModel(model, preprocessor, info, lanes, model.share, model.release_memory)


def _lanes(source: LightSource, threads: int) -> int:
    """Return the passes at a time where nobody says.

    Two of half the threads each do more than one: threads of one pass wait for one another in each layer.
    They hold the weights once more, for which a small model gains too little.
    """
    is_large = source.visual.stat().st_size >= _LARGE_BYTES
    return 2 if is_large and threads > 1 else 1


def read_source(path: Path, name: str = "") -> LightSource:
    """Read a folder of either layout; `name` is shown for one that was published under it.

    Raises:
        StartupError: the folder cannot be used; the message is one line.
    """
    if not is_model_folder(path) and (name or is_published(path)):
        return read_published(path, name)
    return read_model_folder(path)


def _choose(
    source: LightSource, settings: EmbedderSettings, threads: int, lanes: int
) -> tuple[LightModel, model_pb2.ModelInfo]:
    """Return the model in the dtype of the settings, or in float32 where that is too far from torch.

    Where nobody wrote down torch's features, a narrow dtype is compared with float32 here.
    """
    info = model_pb2.ModelInfo(
        architecture=source.architecture,
        pretrained=source.pretrained,
        dimension=source.dimension,
        device="cpu",
        refused_dtype_cosine=1.0,
        tokenizer=source.tokenizer.name,
        text_cleaning=source.tokenizer.cleaning,
        context_length=source.tokenizer.context,
        runtime=RUNTIME,
    )
    dtype = settings.dtype
    if dtype == "auto":
        dtype = "bfloat16" if multiplies_bfloat16() else "float32"

    ranges: Ranges | None = None

    def make(dtype: str, layers: Int8Layers = Int8Layers.ALL) -> LightModel:
        nonlocal ranges
        made = LightModel(source, dtype, layers, threads=threads, lanes=lanes, ranges=ranges)
        ranges = made.ranges if dtype == "int8" else ranges
        _check_runs(made, source)
        return made

    exact, expected = None, source.expected
    if expected is None:
        exact = make("float32")
        expected = probe_features(exact)
    if dtype != "float32":
        choices = list(Int8Layers) if dtype == "int8" else [Int8Layers.ALL]
        candidates = [(str(layers), partial(make, dtype, layers)) for layers in choices]
        chosen, best = first_within(candidates, expected, settings.min_dtype_cosine)
        if chosen is not None:
            info.dtype, info.dtype_cosine = dtype, chosen.cosine
            info.int8_layers = chosen.name if dtype == "int8" else ""
            return chosen.model, info
        info.refused_dtype, info.refused_dtype_cosine = dtype, best
    model = exact or make("float32")
    info.dtype, info.dtype_cosine = "float32", smallest_cosine(probe_features(model), expected)
    if info.dtype_cosine < SAME:
        raise StartupError(
            f"{source.folder} gives other features here than when it was exported (cosine "
            f"{info.dtype_cosine:.6f}, below {SAME}); export the model again"
        )
    return model, info


def _check_runs(model: LightModel, source: LightSource) -> None:
    """Let both towers run: on black pixels, and on a text of the whole context.

    Raises:
        StartupError: one fails, or gives features that are not finite or of another length.
    """
    size = model.image_size
    full = "word " * model.tokenizer.context
    runs: dict[Path, Callable[[], Features]] = {
        source.visual: lambda: model.encode_images(np.zeros((1, size, size, 3), np.uint8)),
        source.textual: lambda: model.encode_texts([full]),
    }
    for path, run in runs.items():
        try:
            features = run()
        except RuntimeError as error:
            raise StartupError(
                f"{path} does not run: {str(error).splitlines()[-1][:300]}; export the model again"
            ) from error
        if features.shape != (1, model.dimension) or not np.isfinite(features).all():
            raise StartupError(
                f"{path} gives features that are not finite, or of another length than "
                f"{model.dimension} ({features.shape}); export the model again"
            )
