"""What every test may rely on: the repository root and `tests/support` can be imported.

Both are appended, never inserted: at the front our `nodes/` would hide a host's own `nodes.py`.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

for folder in (ROOT, ROOT / "tests"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

from support.host_fixtures import *  # noqa: E402, F403 (the fixtures `host` and `standin`, and their pytest hooks)
