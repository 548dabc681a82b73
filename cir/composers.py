"""Names of composers that more than one service knows."""

from __future__ import annotations

#: Prefix of the names of joint encoders, which run in the embedder; all others run in the combiner service.
JOINT_PREFIX = "joint/"
