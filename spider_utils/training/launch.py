"""Start a training in several processes, one for each GPU of this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch

from spider_utils.errors import KitError
from spider_utils.training.distributed import PACKAGE_MISSING, is_main_process, launched_processes

Result = TypeVar("Result")
TOO_LATE = (
    "this process has used a GPU already, and processes that branch off it cannot use one. Restart the notebook's kernel and "
    "call train_on_all_gpus first, or train by `spider-kit train --processes N`, which starts afresh"
)
_CUT_OFF = ("closed by peer", "reset by peer")  # what a process says when another is gone
ECHO_S = 10.0  # that much longer than the launcher needs to look


def train_on_all_gpus(function: Callable[..., Result], *args: Any, processes: int | None = None, **kwargs: Any) -> Result:
    """Call ``function`` in one process for each GPU, where ``fit`` trains together, and then here, where it finds the runs.

    ``run = train_on_all_gpus(workspace.train, "unet", batch_size=32)`` is ``workspace.train("unet", batch_size=32)`` on all GPUs.
    By accelerate's notebook_launcher, whose processes branch off this one: ``function`` can be one of a notebook's cell.
    When one of the processes fails or is killed, all are ended; the next call goes on after the last epoch that was saved.

    Args:
        function: trains by ``fit``, all else in it must stand being done in each process; called once more here, it must find its
            finished runs. Its result need not be sent anywhere.
        args, kwargs: what it is called with.
        processes: so many instead; without a GPU that many on the CPU, for tests. One process, or GPU, or none: the function is
            called here alone.

    Returns:
        What ``function`` returns here.

    Raises:
        KitError: a GPU was used here before; there are fewer GPUs than processes; the system cannot branch a process off, or
            accelerate is missing; a process was killed; or what ``function`` raised in one of them, with its message.
        ValueError: likewise from ``function``.
        RuntimeError: any other error in one of them, with its text.
    """
    gpus = torch.cuda.device_count()
    processes = max(gpus, 1) if processes is None else processes
    if processes > 1 and launched_processes() == 1:
        _launch(function, args, kwargs, processes, gpus)
    return function(*args, **kwargs)


def _launch(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], processes: int, gpus: int) -> None:
    """Call ``function`` in so many processes, and return when all are done."""
    if not hasattr(os, "fork"):
        raise KitError("training in several processes needs Linux: train in one process here")
    if 0 < gpus < processes:
        raise KitError(f"there are {gpus} GPUs for {processes} processes: each needs its own")
    if torch.cuda.is_initialized():
        raise KitError(TOO_LATE)
    try:
        from accelerate import notebook_launcher
    except ImportError as error:
        raise KitError(PACKAGE_MISSING) from error
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    with _signals_and_logs_as_before():
        try:
            notebook_launcher(_work, (function, args, kwargs), num_processes=processes, use_port=str(_free_port()))
        except ChildFailedError as error:
            raise _explained(error.get_first_failure()[1], processes) from None
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise SystemExit(128 + error.sigval) from None


def _work(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """What each process does. Only the main one speaks, but for errors."""
    # A branch has none of the threads that torch's operations on the CPU started before, and would wait for them for ever.
    torch.set_num_threads(1)
    if not torch.cuda.device_count():
        os.environ["OMP_NUM_THREADS"] = "1"  # or accelerate would set the number of threads again
    with contextlib.ExitStack() as stack:
        if not is_main_process():
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
            warnings.simplefilter("ignore")
        try:
            function(*args, **kwargs)
        except RuntimeError as error:
            if any(words in str(error) for words in _CUT_OFF):
                time.sleep(ECHO_S)  # the launcher ends this process as soon as it sees the one that failed, and reports that one
            raise
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _explained(failure: Any, processes: int) -> Exception:
    """The error to raise here for that of a process (a torch ProcessFailure)."""
    if isinstance(failure.message, str):  # it left no message: a signal ended it
        text, trace = failure.message, ""
    else:
        text, trace = failure.message["message"], failure.message["extraInfo"]["py_callstack"]
    kind, _, said = text.partition(": ")
    if kind in ("KitError", "DataError"):
        return KitError(said)
    if kind == "ValueError":
        return ValueError(said)
    if "Cannot re-initialize CUDA" in text:
        return KitError(TOO_LATE)
    if failure.exitcode < 0 or any(words in text for words in _CUT_OFF):
        return KitError(
            f"one of {processes} training processes was killed, perhaps for lack of memory, and the others were ended with it. "
            "The same call goes on after the last epoch that was saved"
        )
    return RuntimeError(f"{text}\nin one of {processes} training processes:\n{trace}")


def _free_port() -> int:
    """A port on which the processes can meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def _signals_and_logs_as_before() -> Iterator[None]:
    """Put back the signal handlers that torch's launcher leaves behind, and keep its own report of a failure from the screen."""
    here = threading.current_thread() is threading.main_thread()  # handlers belong to the main thread
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()} if here else {}
    logger = logging.getLogger("torch.distributed.elastic")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
