"""Entry point of `python -m embedder_service`: the embedder as a process."""

import sys

from embedder_service.application import EmbedderApplication
from embedder_service.settings import EmbedderSettings
from service_runtime.server import main

if __name__ == "__main__":
    sys.exit(main(EmbedderSettings, EmbedderApplication))
