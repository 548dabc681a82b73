"""The text tower that reads sentences for evaluation: of the model that made the features."""

from __future__ import annotations

from cir_cli.embedding_backends import LocalModel
from cir_cli.errors import Failure
from cir_cli.run_features import settings_of
from combiner_training.evaluation.sentences import Sentences
from combiner_training.feature_file import FeatureFolder

_BATCH = 256


def load_text_tower(features: FeatureFolder, model: str, pretrained: str) -> Sentences:
    """Load the text tower of the model that made the features.

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
    return tower.embed_prompts
