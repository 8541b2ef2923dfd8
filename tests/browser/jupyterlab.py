"""JupyterLab as a student uses it: a server on a copy of the course; notebooks opened, run by the menu and looked through.

What a person would see at a glance is read off the page: cells that did not run, errors, warnings on red ground, widgets that do
not come up, outputs that are cut off at the right.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import papermill
import pytest
from playwright.sync_api import Locator, Page

from tests.browser.tools import CHECKOUT, free_port, serve, wait_until

TOKEN = "of-this-test-alone"
RUN_LIMIT_S = 600.0  # a notebook that makes its data and trains its networks by itself, on busy cores
_DONE = re.compile(r"\[\d+\]:")


def put_notebook(home: Path, name: str, called: str | None = None, **parameters: str) -> None:
    """A notebook of the course without its outputs, for the smoke profile or other parameters, under its own or another name."""
    notebook = papermill.iorw.load_notebook_node(str(CHECKOUT / "notebooks" / f"{name}.ipynb"))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook = papermill.parameterize.parameterize_notebook(notebook, {"PROFILE": "smoke", **parameters})
    nbformat.write(notebook, home / "notebooks" / f"{called or name}.ipynb")


@contextlib.contextmanager
def serve_lab(home: Path) -> Iterator[str]:
    """The address of a JupyterLab on ``home``, without a browser of its own, extensions of the user or calls to the network.

    Its kernels believe that a person sits before them, so that progress bars are drawn.
    """
    # Else JupyterLab asks whether it may fetch news.
    settings = home / ".jupyter" / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    port = free_port()
    environment = {
        "SPIDER_KIT_HOME": str(home),
        "SPIDER_KIT_HEADLESS": "",
        "CI": "",
        "PYTHONPATH": str(CHECKOUT),
        **{f"JUPYTER_{name}_DIR": str(home / ".jupyter" / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")},
        "JUPYTERLAB_SETTINGS_DIR": str(home / ".jupyter" / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / ".jupyter" / "workspaces"),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={home}", "--ServerApp.port_retries=0"]
    command += ["--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with serve(command, f"http://127.0.0.1:{port}/api/status?token={TOKEN}", home / "lab.log", home, environment):
        yield f"http://127.0.0.1:{port}/lab"


def run_all(page: Page, lab: str, name: str) -> None:
    """Open a notebook by its address, choose Run > Run All Cells, and wait until every cell has run.

    The test fails, at once and with what the page says, when a cell raises, when one is left out, or when the kernel dies.
    """
    # A workspace of its own, or JupyterLab opens beside it what an earlier test has left open.
    page.goto(f"{lab}/workspaces/{name}/tree/notebooks/{name}.ipynb?token={TOKEN}")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    # JupyterLab lays out only the cells in sight: text_content is there without layout, inner_text is not.
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    errors, dialog = output_of(page, "error"), page.locator(".jp-Dialog-content")

    def ended() -> bool:
        return bool(errors.count() or dialog.count() or all(map(_DONE.fullmatch, prompts.all_text_contents())))

    wait_until(ended, f"{name}: some cells have not run", page, RUN_LIMIT_S)
    said = [*dialog.all_text_contents(), *errors.all_text_contents()]
    if said:
        pytest.fail(f"{name}: " + "\n".join(said)[-3000:])
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()


def output_of(page: Page, kind: str) -> Locator:
    """Outputs of Jupyter's kinds "error" or "stderr"."""
    return page.locator(f".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.{kind}']")


def look_through(page: Page, folder: Path, name: str) -> list[str]:
    """Scroll an open notebook from its top to its end, and keep a screenshot of each screenful: <name>-01.png and on.

    Returns:
        What a reader would stumble over, a line each: warnings, widgets that do not come up, outputs wider than their place.
    """
    for old in folder.glob(f"{name}-[0-9][0-9].png"):
        old.unlink()
    panel = page.locator(".jp-WindowedPanel-outer")
    panel.evaluate("panel => panel.scrollTo(0, 0)")
    found: dict[str, None] = {}
    for screen in range(1, 100):
        page.wait_for_timeout(300)  # for what is laid out only now, and may move what is below it
        page.screenshot(path=folder / f"{name}-{screen:02d}.png")
        found |= dict.fromkeys(panel.evaluate(_CUT_OFF))
        if not panel.evaluate(_SCROLL_ON):
            break
    found |= {f"on red ground: {text.strip()[:300]}": None for text in output_of(page, "stderr").all_text_contents()}
    failed = page.locator(".jp-OutputArea-output").filter(
        has_text=re.compile("Loading widget|Error (displaying|creating) widget")
    )
    return [*found, *(f"no widget: {text.strip()[:300]}" for text in failed.all_text_contents())]


# Almost a screenful on; false when the last cell's end is in sight (below it JupyterLab leaves a screen empty).
_SCROLL_ON = """panel => {
    const last = [...panel.querySelectorAll(".jp-Cell")].at(-1), before = panel.scrollTop;
    if (last.getBoundingClientRect().bottom <= panel.getBoundingClientRect().bottom) return false;
    panel.scrollBy(0, panel.clientHeight - 60);
    return panel.scrollTop > before;
}"""
# Outputs in sight that can be seen only in part.
_CUT_OFF = """panel => [...panel.querySelectorAll(".jp-OutputArea-output")]
    .filter(output => {
        const place = output.getBoundingClientRect();
        return place.bottom > 0 && place.top < innerHeight && output.scrollWidth > output.clientWidth + 1;
    })
    .map(output => `${output.scrollWidth} pixels where ${output.clientWidth} are seen: `
        + (output.innerText.trim().replace(/\\s+/g, " ").slice(0, 100) || "a picture"))"""


def end_kernels(lab: str) -> None:
    """Shut down all kernels, as a student does who closes a notebook for good: each holds a gigabyte."""

    def ask(method: str, path: str) -> bytes:
        request = urllib.request.Request(f"{lab.removesuffix('lab')}api/{path}", method=method)
        request.add_header("Authorization", f"token {TOKEN}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    for session in json.loads(ask("GET", "sessions")):
        ask("DELETE", f"sessions/{session['id']}")
