"""The production stack of `docker-compose.yaml`, run without containers."""

import sys
from pathlib import Path

# The modules of this folder use those of `tools/`, whoever imports them.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
