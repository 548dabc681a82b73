"""`python -m combiner_service`: the combiner service as a process."""

import sys

from combiner_service.application import CombinerApplication
from combiner_service.settings import CombinerSettings
from service_runtime.server import main

if __name__ == "__main__":
    sys.exit(main(CombinerSettings, CombinerApplication))
