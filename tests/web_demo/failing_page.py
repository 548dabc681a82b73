"""The page as a process whose every part behind its routes fails on what it is given.

python -m tests.web_demo.failing_page [settings of the page]
"""

from __future__ import annotations

import sys
from typing import Any

from web_demo import app
from web_demo.__main__ import main
from web_demo.backend import SearchBackend
from web_demo.media import Thumbnails, Uploads


def fail(*given: Any, **named: Any) -> Any:
    """Fail with an error that quotes what was given."""
    local = [*given, named]
    try:
        int(f"{local}")
    except ValueError as error:
        raise RuntimeError(f"could not convert {local}") from error


if __name__ == "__main__":
    for part, names in (
        (SearchBackend, ("load", "search", "item", "image_location", "catalogs")),
        (Uploads, ("store", "read", "delete_expired")),
        (Thumbnails, ("kept", "make")),
    ):
        for name in names:
            setattr(part, name, fail)
    vars(app)["choose_texts"] = fail  # what every page of text needs
    sys.exit(main(sys.argv[1:]))
