"""The command ``spider-kit``: parse, call, print. Errors are one line; exit status 2 for wrong usage, 1 for anything else.

Each module is a group of commands. They import the rooms that they call inside each command: ``--help`` answers at once, without
loading torch.
"""

from __future__ import annotations

import re
import sys
import warnings

import typer

from spider_utils.cli import (
    ahmed,
    audit,
    centres,
    classify,
    cloud,
    course,
    data,
    edition,
    export,
    gradings,
    masks,
    medfusion,
    page,
    rerun,
    triplanar,
    weights,
)
from spider_utils.errors import KitError

app = typer.Typer(
    help="Lumbar-spine MRI segmentation: data, course, training, prediction, evaluation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
for _room in (data, medfusion, ahmed, triplanar, classify, gradings, export, cloud, weights):
    app.add_typer(_room.app, name=_room.__name__.rpartition(".")[2])
for _name, _command in {
    "course": course.course,
    "run-notebook": course.run_one_notebook,
    "edition": edition.edition,
    "train": course.train,
    "rerun": rerun.rerun,
    "predict": masks.predict,
    "evaluate": masks.evaluate,
    "centres": centres.centres,
    "audit": audit.audit,
    "levels": masks.levels,
    "measure": masks.measure,
    "app": page.app,
}.items():
    app.command(_name)(_command)


def main() -> None:
    """Entry point: every error that a user can act on is one line on the standard error stream."""
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        app()
    except (KitError, ValueError) as error:  # ValueError: an argument that a room refuses, such as an unknown scheme
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(
            f"error: {error.filename or 'file system'}: {error.strerror or error}. Check the path and the disk.", file=sys.stderr
        )
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        # torch: OutOfMemoryError on a GPU, a plain RuntimeError on a CPU.
        if isinstance(error, RuntimeError) and not re.search(r"out of memory|can't allocate memory", str(error)):
            raise
        print("error: not enough memory. Close other programs, or use a smaller profile or slice size.", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
