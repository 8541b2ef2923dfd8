"""``spider-kit app``: the page for a scan."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from spider_utils.errors import KitError

ADDRESS = "127.0.0.1"  # scans are patients' data: nobody else on the network sees the page


def app(
    port: Annotated[int, typer.Option(min=1024, max=65535, help="The page is at http://127.0.0.1:PORT.")] = 8501,
) -> None:
    """Open a page in the browser: upload a scan, see its segmentation and measurements, download both.

    Example: spider-kit app --port 8600
    """
    if find_spec("streamlit") is None:
        raise KitError("the page needs streamlit, which is not installed: run `pip install 'spider-utils[app]'`")
    import sys

    from streamlit.web.cli import main

    from spider_utils.data.uploads import LIMITS

    page = find_spec("spider_utils.view.app").origin
    settings = {
        "server.address": ADDRESS,
        "server.port": port,
        "server.headless": "true",
        "server.maxUploadSize": LIMITS.bytes // 1_000_000,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "theme.primaryColor": "#0072B2",  # the blue of vertebrae in every figure
        "logger.hideWelcomeMessage": "true",
    }
    print(f"the page is at http://{ADDRESS}:{port}; stop it with Ctrl+C", flush=True)
    sys.exit(main(["run", page, *(f"--{name}={value}" for name, value in settings.items())], standalone_mode=False))
