"""What ends a command with an exit code other than 0."""

from __future__ import annotations


class Failure(Exception):
    """A command failed; the message is the one line that is shown, `exit_code` its exit code."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
