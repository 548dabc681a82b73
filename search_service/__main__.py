"""`python -m search_service`: run the search service until SIGTERM."""

from search_service.application import SearchApplication
from search_service.settings import SearchSettings
from service_runtime.server import main

if __name__ == "__main__":
    raise SystemExit(main(SearchSettings, SearchApplication))
