"""One thread a test process: several of them share the cores."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
