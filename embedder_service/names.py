"""Names of models as settings have them, for every runtime."""

from __future__ import annotations

#: What stands before the name of a repository of the Hub, and before the path of a folder.
HUB, FOLDER = "hf-hub:", "local-dir:"
