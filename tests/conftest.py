"""What every test may use. Servers and models live in fixtures of their own files."""

import os

# Workers of a local Ray are niced by 15 by default and starve beside other busy processes.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

pytest_plugins = ["tests.fix_postgres", "tests.fix_tiny"]
