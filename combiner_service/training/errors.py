"""What ends a training on purpose."""


class TrainingError(ValueError):
    """What is wrong with a training's input, folder or course; the message says what to do."""
