"""From settings to a model of open_clip on its device, with its identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cir.common.v1 import model_pb2
from embedder_service.host import core_count
from embedder_service.identity import fingerprint, weight_digest
from embedder_service.images.preprocess import Preprocessor
from embedder_service.model.checkpoint import one_line
from embedder_service.model.clip import image_size
from embedder_service.model.device import CpuThreadShare, choose_device
from embedder_service.model.precision import choose_dtype, dtype_name, verify_dtype
from embedder_service.model.tokenizer import Tokenizer, make_tokenizer
from embedder_service.model.weights import LoadedModel, load_model
from embedder_service.served import (
    ServedModel,
    choices_of,
    make_preprocessor,
    preprocessing_info,
)
from embedder_service.settings import EmbedderSettings
from service_runtime.errors import StartupError

_CPU_LANES = 2


def model_fingerprint(
    config: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    preprocessor: Preprocessor,
    mean: Sequence[float],
    std: Sequence[float],
    words: Mapping[str, Any] | None = None,
) -> str:
    """Return "clip-" and 32 hexadecimal digits.

    `weights` are hashed by name, shape and float32 bytes: a checkpoint in another dtype is the same model if
    its values are. `words` says what a tokenizer and a text tower of Hugging Face do, which lie in files that
    a config only names (see `describe_words`). Device, dtype at run time and threads do not matter.
    """
    return fingerprint(config, weight_digests(weights), preprocessor, mean, std, words)


def weight_digests(weights: Mapping[str, torch.Tensor]) -> list[tuple[str, str]]:
    """Return name and digest of every weight that features depend on, sorted by name."""
    names = sorted(name for name in weights if not name.endswith("num_batches_tracked"))
    with ThreadPoolExecutor(max_workers=min(4, core_count())) as pool:
        digests = list(pool.map(lambda name: weight_digest(_float32(weights[name])), names))
    return list(zip(names, digests, strict=True))


def _float32(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = tensor.detach().to(device="cpu", dtype=torch.float32).numpy()
    return values


def load(settings: EmbedderSettings) -> ServedModel:
    """Load the model, choose its dtype and identify it.

    Raises:
        StartupError: the model cannot be loaded; the message is one line.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
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
    traits = loaded.traits
    preprocessor = make_preprocessor(settings, traits, image_size(loaded))
    # Before the model moves: its identity is that of its float32 weights.
    identity = model_fingerprint(
        loaded.config,
        loaded.module.state_dict(),
        preprocessor,
        traits.mean,
        traits.std,
        describe_words(loaded.module, tokenizer),
    )
    check_towers(loaded, tokenizer)
    verified = verify_dtype(loaded, device, dtype, settings.min_dtype_cosine, tokenizer)
    info = model_pb2.ModelInfo(
        fingerprint=identity,
        architecture=loaded.architecture,
        pretrained=loaded.pretrained,
        dimension=verified.model.dimension,
        device=str(device),
        dtype=dtype_name(verified.model.dtype),
        dtype_cosine=verified.cosine,
        refused_dtype=verified.refused_dtype,
        refused_dtype_cosine=verified.refused_cosine,
        int8_layers=verified.int8_layers,
        tokenizer=tokenizer.name,
        text_cleaning=tokenizer.cleaning,
        context_length=tokenizer.context,
        runtime="torch",
        token_width=verified.model.token_width,
    )
    info.MergeFrom(preprocessing_info(preprocessor, traits))
    if device.type != "cpu":
        return ServedModel(verified.model, preprocessor, info)
    lanes = settings.device_lanes or min(_CPU_LANES, core_count())
    return ServedModel(verified.model, preprocessor, info, lanes, CpuThreadShare(settings.threads, lanes))


# What a text tower of Hugging Face computes beyond the shapes of its weights.
_TOWER_KEYS = (
    "model_type", "num_attention_heads", "num_heads", "hidden_act", "feed_forward_proj", "layer_norm_eps",
    "layer_norm_epsilon", "pad_token_id", "position_embedding_type", "relative_attention_num_buckets",
)  # fmt: skip


def describe_words(module: torch.nn.Module, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return what texts become by files that a config only names; empty where the config says it all."""
    words: dict[str, Any] = {}
    if digest := tokenizer.digest():
        words["tokenizer"] = digest
    tower = getattr(getattr(module, "text", None), "config", None)
    if tower is not None:
        words["tower"] = {key: getattr(tower, key) for key in _TOWER_KEYS if hasattr(tower, key)}
    return words


def check_towers(loaded: LoadedModel, tokenizer: Tokenizer) -> None:
    """Let both towers run once.

    Raises:
        StartupError: one fails, or gives features of another length than the config says.
    """
    module: Any = loaded.module
    if tokenizer.vocabulary > module.vocab_size:
        raise StartupError(
            f"the tokenizer {tokenizer.name!r} has {tokenizer.vocabulary} tokens, the text tower of "
            f"{loaded.architecture} knows {module.vocab_size}: it belongs to another model"
        )
    size, dimension = image_size(loaded), loaded.config["embed_dim"]
    calls: dict[str, Callable[[], torch.Tensor]] = {
        "image": lambda: module.encode_image(torch.zeros(1, 3, size, size)),
        "text": lambda: module.encode_text(torch.from_numpy(tokenizer(["a photo"]))),
    }
    for tower, run in calls.items():
        try:
            with torch.inference_mode():
                shape = tuple(run().shape)
        except Exception as error:
            # Whatever torch raises where sizes of a config do not fit one another.
            raise StartupError(
                f"the {tower} tower of {loaded.architecture} does not run: {one_line(error)}; its config "
                "does not fit "
                "(image_size, context_length, vocab_size, tokenizer)"
            ) from error
        if shape != (1, dimension):
            raise StartupError(
                f"the {tower} tower of {loaded.architecture} gives features of length {shape[-1]}, its "
                "config says "
                f"embed_dim {dimension}: it has no projection; give it one (timm_proj, proj_type) or correct "
                "embed_dim"
            )
