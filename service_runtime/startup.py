"""Starting a process: what keeps it from starting is told in one line."""


class StartupError(Exception):
    """The service cannot start; the message is the one line that the operator sees."""
