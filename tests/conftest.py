"""What every test may rely on: the root, `tests/support` and `benchmarks` can be imported, caches do not count.

The folders are appended, never inserted: at the front our `nodes/` would hide a host's own `nodes.py`.
"""

import os
import sys
import tempfile
from pathlib import Path

# Before torch is imported. One thread for each of two workers on two cores: with two, torch's threads wait for each
# other and the tiny networks of the tests get up to a hundred times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Models, speaker prompts and downloads that happen to be on this machine must not decide a test.
_empty_caches = tempfile.TemporaryDirectory(prefix="bark-tests-")
os.environ["XDG_CACHE_HOME"] = _empty_caches.name
for variable in ("HF_HOME", "HF_HUB_CACHE", "TORCH_HOME"):
    os.environ.pop(variable, None)

ROOT = Path(__file__).resolve().parent.parent

for folder in (ROOT, ROOT / "tests", ROOT / "benchmarks"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

from support.browser_fixtures import *  # noqa: E402, F403 (the fixture `window`)
from support.host_fixtures import *  # noqa: E402, F403 (the fixtures `host` and `standin`, and their pytest hooks)
