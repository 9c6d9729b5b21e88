"""The README tells the truth about the tree."""

import subprocess
import sys

from tests.running import ROOT


def test_the_readmes_tree_is_fresh() -> None:
    run = subprocess.run([sys.executable, "docs/tree.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
