"""``spider-kit cloud``: badges and first cells for Colab and Kaggle, and the bundle for Kaggle without internet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spider_utils.cli.common import Profile, ProfileName

app = typer.Typer(help="Colab and Kaggle: badges, and a bundle to work offline.", no_args_is_help=True, rich_markup_mode=None)


@app.command("badges")
def write_badges(
    check: Annotated[bool, typer.Option(help="Only tell which files are out of date; exit status 1 if any is.")] = False,
) -> None:
    """Write badges and set-up cells into notebooks and README, from [tool.spider-kit] in pyproject.toml.

    Example: spider-kit cloud badges --check
    """
    from spider_utils.cloud.heads import renewed_heads, write_heads
    from spider_utils.runtime import project_root

    home = project_root()
    files = renewed_heads(home) if check else write_heads(home)
    for path in files:
        print(f"{path.relative_to(home)} {'is out of date' if check else 'written'}")
    if not files:
        print("badges and set-up cells are up to date")
    if check and files:
        raise typer.Exit(1)


@app.command("bundle")
def make_bundle(
    out: Annotated[Path | None, typer.Option(help="The zip; build/spider-kit-kaggle-<profile>.zip when left out.")] = None,
    profile: Profile = ProfileName.quick,
) -> None:
    """Pack the kit's wheel, those that Kaggle lacks and a phantom into one zip, to attach as an input on Kaggle.

    Example: spider-kit cloud bundle --profile smoke
    """
    from spider_utils.cloud.bundle import build_bundle
    from spider_utils.runtime import project_root

    home = project_root()
    path = build_bundle(home, out or home / "build" / f"spider-kit-kaggle-{profile.value}.zip", profile.value)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB. Upload it as a data set on Kaggle, then add it to a notebook as an input")
