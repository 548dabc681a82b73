"""What a training is judged by while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from combiner_service.combiner import CombinerInfo
from combiner_service.evaluation.evaluate import Evaluation, evaluate
from combiner_service.evaluation.protocol import Protocol
from combiner_service.evaluation.queries import EvaluationQueries
from combiner_service.evaluation.selection import Rule, selection_rules
from combiner_service.network import CombinerNetwork
from combiner_service.network_combiner import NetworkCombiner


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
            return evaluate(NetworkCombiner(info, network), self.parts, self.protocol)
        finally:
            network.train()
