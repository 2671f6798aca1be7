"""A hundred of the inputs that `attack.py` attacks with, and none of them falls.

The record of all of them is `docs/results/attacks.md`.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_a_hundred_attacks_fall_on_nobody():
    paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, HERE / "attack.py", "--take", "100"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.endswith("100 inputs, 0 fallen\n"), done.stdout + done.stderr
