"""Small files that decode to gigabytes, and large ones that may."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train import bombs


@pytest.mark.slow  # every reader asks first: test_limits.py
def test_what_little_stands_for_gigabytes_is_refused_before_it_is_decoded(tmp_path):
    bombs.write(tmp_path)
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < 5e6
    found = subprocess.run(
        [sys.executable, "-m", "tests.train.bombs", tmp_path],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(lines) == sum(len(of) for _, of in bombs.BOMBS.values()), found.stderr
    for name, said, took, grown in lines:
        short = "cut short" if name == "a.npy" else "or set VQDIT_MOST_GB="
        assert short in said and "\n" not in said and len(said) < 400, (name, said)
        assert took < 10 and grown < 2**30, (name, took, grown)
