"""The model that made the features, in evaluation: it reads sentences, and has joint encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cir_cli.embedding_backends import LocalModel
from cir_cli.errors import Failure
from cir_cli.run_features import settings_of
from combiner_service.combiner import CombinerInfo, Float32
from combiner_training.evaluation.sentences import ReadJoint
from combiner_training.feature_file import FeatureFolder

_BATCH = 256


def load_model(features: FeatureFolder, model: str, pretrained: str) -> LocalModel:
    """Load the model that made the features.

    Empty `model` and `pretrained` are those that the features say of themselves.

    Raises:
        Failure: It cannot be loaded, or is of another model.
    """
    facts = features.images.header.model
    chosen = {
        "architecture": model or facts.get("architecture", ""),
        "pretrained": pretrained or facts.get("pretrained", ""),
    }
    tower = LocalModel(settings_of({name: value for name, value in chosen.items() if value}), _BATCH)
    if tower.identity.fingerprint != features.model_fingerprint:
        raise Failure(
            f"the features are of model {features.model_fingerprint}, {chosen['architecture']} is "
            f"{tower.identity.fingerprint}; name the model that made them with --model and --pretrained"
        )
    return tower


def joint_encoder(tower: LocalModel, name: str, paths: Mapping[str, Path]) -> ReadJoint:
    """Return a joint encoder that reads the images of these paths by name."""

    def read(images: Sequence[str], texts: Sequence[str]) -> Float32:
        return tower.embed_queries(name, [paths[image].read_bytes() for image in images], texts)

    return ReadJoint(CombinerInfo(name, "a joint encoder", takes_text_weight=False), read)
