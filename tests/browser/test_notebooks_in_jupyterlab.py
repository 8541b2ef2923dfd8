"""Every notebook as a student meets it: opened in JupyterLab, run by its menu, looked through from top to end.

Notebook 16 is in test_viewer_in_jupyterlab.py, where its viewers are used as well.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.jupyterlab import look_through, put_notebook, run_all
from tests.notebooks.conftest import NOTEBOOKS

pytestmark = pytest.mark.browser
IN_EVERY_TEST = "00_start_here"
on_request = pytest.mark.skipif(
    not os.environ.get("SPIDER_TEST_NOTEBOOKS"), reason="ten minutes for all notebooks; SPIDER_TEST_NOTEBOOKS=1 runs them"
)
NAMES = [path.stem for path in NOTEBOOKS if not path.stem.startswith("16_")]


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == IN_EVERY_TEST else on_request) for name in NAMES])
def test_a_notebook_runs_and_reads_well(page: Page, lab: str, home: Path, artefacts: Path, name: str) -> None:
    put_notebook(home, name)
    run_all(page, lab, name)
    assert look_through(page, artefacts, name) == []
