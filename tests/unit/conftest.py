"""An untrained network, for tests of what happens around networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from spider_utils.predict import Predictor
from tests.stand_ins import save_untrained_unet


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained_unet(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def predictor(model_folder: Path) -> Predictor:
    return Predictor.load(model_folder, "cpu")
