"""The same seed gives the same numbers, bit for bit, in two fresh processes: the phantom, and every network of the kit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from spider_utils.models import CLASSIFIERS, available_models

ROOT = Path(__file__).resolve().parents[2]


def test_two_fresh_processes_agree_on_the_phantom_and_every_network(tmp_path: Path) -> None:
    found = []
    for number in (1, 2):  # with another order of sets and dicts of strings, in another folder
        environment = os.environ | {"PYTHONHASHSEED": str(number), "PYTHONPATH": str(ROOT), "SPIDER_KIT_HEADLESS": "1"}
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [sys.executable, "-m", "tests.same_numbers", str(folder)]
        said = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, timeout=900)
        assert said.returncode == 0, said.stderr
        found.append(json.loads(said.stdout.splitlines()[-1]))
    assert set(found[0]) == {"phantom", *available_models(), *CLASSIFIERS}
    assert len(set(found[0].values())) == len(found[0]), "the digests tell networks apart"
    assert {name for name in found[0] if found[0][name] != found[1][name]} == set()
