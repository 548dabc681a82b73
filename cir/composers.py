"""Names of composers that more than one service knows."""

from __future__ import annotations

#: Prefix of the names of joint encoders, which run in the embedder; all others run in the combiner service.
JOINT_PREFIX = "joint/"
#: Prefix of the names of Combiners, before that of their checkpoint.
CHECKPOINT_PREFIX = "combiner/"
#: Member of a checkpoint's metadata that names the catalog it was made for.
ADAPTED_TO = "adapted_to"
