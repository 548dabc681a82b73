"""Refusals of combining, as one small family of exceptions. The servicer maps each to one gRPC code."""


class CombinerError(Exception):
    """Base of every error that this package raises on purpose. `field` names the culprit of a request."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class InvalidFeaturesError(CombinerError):
    """Image and text features that do not form pairs: another count, or not a matrix."""


class WrongDimensionError(CombinerError):
    """Vectors of another length than the other batch's, or than the combiner's."""


class NotFiniteError(CombinerError):
    """A row with NaN or infinity, of length zero, or whose query vector would be; the message names it."""


class TextWeightOutOfRangeError(CombinerError):
    """A text weight that is NaN, below 0 or above 1."""


class TextWeightNotTakenError(CombinerError):
    """A text weight for a combiner that has a fixed one (`image`, `text`)."""


class CombinerNotFoundError(CombinerError):
    """No combiner of that name; the message lists those there are."""


class CombinerUnusableError(CombinerError):
    """The combiner's checkpoint is there but cannot be used; the message says why."""


class FingerprintMismatchError(CombinerError):
    """Features of another model than the combiner's, or of two models; the message has both fingerprints."""


class BadAnswerError(CombinerError):
    """An answer of a combiner that is none, such as of another shape or with NaN: a fault of its own."""


class PluginError(ValueError):
    """An installed combiner that cannot be used; the message names its distribution and says what to do."""


class InvalidCheckpointError(Exception):
    """A file that is not a Combiner checkpoint that can be trusted and used; the message says what to do."""
