"""One function over many tasks, in threads and in processes."""

import os
import signal
import threading

import pytest

from spider_utils.errors import KitError
from spider_utils.processes import map_in_processes, map_in_threads


def where(task):
    return task, os.getpid()


def kill_this_process(task):
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_in_order_from_other_threads_and_do_not_pile_up():
    begun, threads = [], set()

    def work(task):
        begun.append(task)
        threads.add(threading.get_ident())
        return task**2

    found = map_in_threads(work, range(20), jobs=3)
    for number in range(20):
        assert next(found) == number**2
        assert len(begun) <= number + 3
    assert next(found, None) is None and sorted(begun) == list(range(20)) and threading.get_ident() not in threads


def test_an_error_in_a_thread_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        list(map_in_threads(one_over, [1, 0, 2], jobs=2))


def test_results_come_in_order_from_other_processes():
    found = list(map_in_processes(where, list(range(6)), jobs=2))
    assert [task for task, _ in found] == list(range(6))
    assert os.getpid() not in {process for _, process in found}


@pytest.mark.parametrize(("tasks", "jobs"), [([1, 2], 1), ([1, 2], 0), ([1], 4), ([], 4)])
def test_one_job_or_one_task_stays_here(tasks, jobs):
    assert list(map_in_processes(where, tasks, jobs)) == [(task, os.getpid()) for task in tasks]


def test_an_error_of_a_task_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        list(map_in_processes(one_over, [1, 0], jobs=2))


def one_over(task):
    return 1 / task


def test_a_killed_process_is_one_clear_error():
    with pytest.raises(KitError, match="one of 2 processes was killed.*lack of memory. Close the door."):
        list(map_in_processes(kill_this_process, [1, 2], jobs=2, advice="Close the door."))
