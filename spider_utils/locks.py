"""One process at a time: in a run folder, on a table, on data that are being made."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from spider_utils.errors import DataError
from spider_utils.files import explain_write_error, remove_halves

_held: set[int] = set()


def _forget_in_child() -> None:
    """A forked data loader worker must not keep its parent's lock alive after the parent was killed."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)

try:
    import fcntl

    def _try_to_lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

except ImportError:  # Windows
    import msvcrt

    def _try_to_lock(handle: int) -> None:
        os.lseek(handle, 1 << 20, os.SEEK_SET)  # a byte far behind the text, which others can then still read
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)


POLL_S = 0.1
TELL_AFTER_S = 1.0  # whom one waits for; shorter waits are nobody's business


@contextlib.contextmanager
def file_lock(path: str | Path, busy: str | None = None) -> Iterator[int]:
    """Hold the lock file ``path``, which names the process id of its holder.

    The lock itself belongs to the operating system, which frees it however its holder dies: the file of a killed process is
    simply taken over. Where a file system knows no locks (some network drives), the work goes on without one.

    Args:
        path: the lock file; the holder deletes it (Windows keeps it).
        busy: what the holder does, in words ("is training in this folder"), for the message when another process holds the
            lock; None waits until the lock is free, and says for whom if that takes long. A holder must not ask for its own
            lock again.

    Yields:
        The lock's file handle, for a started process that is to hold the lock as well (``pass_fds``; see ``name_holder``).

    Raises:
        DataError: another running process holds the lock and ``busy`` was given, or the file cannot be written.
    """
    path = Path(path)
    handle = _acquire(path, busy)
    _held.add(handle)
    try:
        name_holder(handle, os.getpid())
        yield handle
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # before the lock is freed, so that nobody locks a file which is about to vanish
        _held.discard(handle)
        os.close(handle)


def name_holder(handle: int, process: int) -> None:
    """Write into the lock file which process others are to wait for."""
    with contextlib.suppress(OSError):  # on a full disk the lock holds without a name
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, b"%d\n" % process)


def maker_lock(path: Path) -> contextlib.AbstractContextManager[int]:
    """``file_lock`` of who makes ``path``, beside it: ``make_once`` takes it; so must whoever makes the same without asking."""
    path = path.absolute()  # "." has no name
    return file_lock(path.with_name(path.name + ".lock"))


def make_once(path: Path, is_there: Callable[[], bool], make: Callable[[], object]) -> None:
    """Call ``make`` unless ``is_there()``; of several processes at once one makes, the others wait and then find it.

    What a killed maker left half done is deleted first: it may take the space that the next one needs.

    Args:
        path: what is made; the lock file lies beside it.
        is_there: looks whether it is there and up to date. Asked without the lock first, so that a finished one can be used
            from a place that cannot be written.
        make: makes it.
    """
    if not is_there():
        with maker_lock(path):
            if not is_there():
                remove_halves(path)
                make()


def _acquire(path: Path, busy: str | None) -> int:
    begun, told = time.monotonic(), False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise explain_write_error(path, error) from error
        try:
            _try_to_lock(handle)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
                os.close(handle)
                if busy is None:
                    if not told and time.monotonic() - begun > TELL_AFTER_S:
                        print(f"waiting for process {holder}, which holds {path.name}", flush=True)
                        told = True
                    time.sleep(POLL_S)
                    continue
                fix = "Wait until it ends, or stop it, or choose another folder."
                raise DataError(path, f"process {holder} {busy} right now", fix) from error
        # The holder before us may have deleted the file between our opening and our locking it: then lock the new one.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(handle)):
                return handle
        os.close(handle)
