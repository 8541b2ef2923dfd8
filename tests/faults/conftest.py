"""The unbroken run that interrupted ones are held against."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spider_utils.training.loop import RunResult
from tests.tiny_runs import tiny_network_and_one_thread, train
from tests.unit.test_fetch import server  # noqa: F401 (a fixture)


@pytest.fixture(scope="module", autouse=True)
def _tiny_network_headless() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, tiny_network_and_one_thread():
        patch.setenv("SPIDER_KIT_HEADLESS", "1")
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A tiny training that nothing interrupts."""
    return train(tmp_path_factory.mktemp("unbroken") / "run")
