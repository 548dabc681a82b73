"""`python -m combiner_service`: the combiner service as a process."""

import os
import sys

# Read by numpy when it is imported. Passes divide their rows among threads themselves; those of BLAS would
# wait for one another in each product, and spin meanwhile.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from combiner_service.application import CombinerApplication
from combiner_service.settings import CombinerSettings
from service_runtime.server import main

if __name__ == "__main__":
    sys.exit(main(CombinerSettings, CombinerApplication))
