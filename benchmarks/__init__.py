"""Speed measurements, each a ratio against a reference in the same process."""

import os

# Threads that wait by spinning make both sides of a ratio meaningless on a shared machine. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
