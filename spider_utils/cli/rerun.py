"""``spider-kit rerun``: a training made again, and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def rerun(
    run_file: Annotated[Path, typer.Argument(metavar="RUN", help="run.json of a finished run, or its folder.")],
    root: Annotated[str | None, typer.Option(help="Folder of the real data, where it is not the one of then.")] = None,
    keep: Annotated[Path | None, typer.Option(help="New folder that keeps the new run; thrown away when left out.")] = None,
) -> None:
    """Train again as a run.json says and compare weights and history; exit status 1 when a number is another one.

    Example: spider-kit rerun runs/quick-phantom-unet-structures4/run.json
    """
    from spider_utils.rerun import repeat

    found = repeat(run_file, root, keep)
    for name, (then, now) in found.machine.items():
        print(f"{name} then: {json.dumps(then)}\n{name} now:  {json.dumps(now)}")
    if found.same:
        print(f"the same: all {found.weights} tensors of weights and the whole history, bit for bit")
        return
    print(f"{found.other_weights} of {found.weights} tensors of weights differ, by up to {found.largest_step:.3g}")
    for column, step in found.history.items():
        print(f"history, {column}: differs by up to {step:.3g}")
    print("not the same" + ("" if found.machine else ", on the same machine with the same versions"))
    raise typer.Exit(1)
