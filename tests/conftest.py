"""What every test may use."""

import os

# One thread a process: tests run beside each other, and torch's threads wait by spinning.
os.environ["OMP_NUM_THREADS"] = "1"

pytest_plugins = ["pytester"]
