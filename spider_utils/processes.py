"""Work on several cores: one function over many tasks, in threads or in processes of their own."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import TypeVar

from spider_utils.errors import KitError

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Task], Result], tasks: Iterable[Task], jobs: int) -> Iterator[Result]:
    """``function`` of every task, in order, in so many threads: for work that waits for files or leaves Python.

    At most ``jobs`` tasks are under way or done and not yet asked for, so that large results do not pile up.
    """
    with ThreadPoolExecutor(jobs) as pool:
        begun: deque[Future[Result]] = deque()
        for task in tasks:
            if len(begun) == jobs:
                yield begun.popleft().result()
            begun.append(pool.submit(function, task))
        while begun:
            yield begun.popleft().result()


def _end_with_parent() -> None:
    """End this worker when the process that started it dies: it would wait for tasks for ever."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def map_in_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], jobs: int, advice: str = "Close other programs."
) -> Iterator[Result]:
    """``function`` of every task, in order; with one job here, with more in that many processes.

    Args:
        function: of a module, not of a notebook: the processes import it.
        tasks: what it is called with, one after the other; sent to the processes, as are the results.
        jobs: number of processes, at most one a task.
        advice: what a reader can do when a process is killed.

    Raises:
        KitError: a process was killed.
    """
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        yield from map(function, tasks)
        return
    try:
        # "spawn" works alike on every system and never copies a parent's threads.
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
            yield from pool.map(function, tasks)
    except BrokenProcessPool as error:
        raise KitError(f"one of {jobs} processes was killed, most likely for lack of memory. {advice}") from error
