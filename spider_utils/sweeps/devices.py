"""GPUs of one machine, given out to jobs: ``python -m spider_utils.sweeps.devices FOLDER 0,1 1 command ...``.

Snakemake counts how many jobs hold a GPU, but does not say which. Here a job takes the first places that nobody holds, by a lock
that the operating system frees however the job ends, and runs its command with CUDA_VISIBLE_DEVICES set to them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from spider_utils.errors import DataError, KitError
from spider_utils.locks import POLL_S, file_lock


def visible_devices() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES gives them."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in given.split(",") if name.strip() and name.strip() != "-1"]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


@contextlib.contextmanager
def take(folder: Path, places: list[str], wanted: int) -> Iterator[tuple[list[str], list[int]]]:
    """Hold so many places that nobody else holds; wait until there are enough.

    Args:
        folder: of the lock files, the same for all jobs.
        places: a device each; one that several jobs may share stands there as often.
        wanted: how many places.

    Yields:
        The devices, and the handles of their locks for a started process that is to hold them too.

    Raises:
        KitError: there are fewer places than are wanted.
    """
    if wanted > len(places):
        raise KitError(f"{wanted} GPUs are wanted, and {len(places)} are there")
    while True:
        with contextlib.ExitStack() as stack:
            mine: list[str] = []
            handles: list[int] = []
            for number, device in enumerate(places):
                if len(mine) < wanted:
                    with contextlib.suppress(DataError):  # somebody holds it
                        handles.append(stack.enter_context(file_lock(folder / f"gpu-place-{number}.lock", "uses this GPU")))
                        mine.append(device)
            if len(mine) == wanted:
                yield mine, handles
                return
        # None is kept while waiting: two jobs that want two each would wait for each other.
        time.sleep(POLL_S)


def main(arguments: list[str]) -> int:
    """Run a command on devices that are free: folder of locks, places by commas, number wanted, and the command."""
    folder, places, wanted, *command = arguments
    with take(Path(folder), places.split(","), int(wanted)) as (devices, locks):
        # The command keeps its devices when this process alone is killed.
        kept = () if sys.platform == "win32" else locks
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(devices)}
        return subprocess.run(command, env=environment, pass_fds=kept).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KitError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(1)
