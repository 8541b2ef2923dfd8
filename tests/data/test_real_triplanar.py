"""Real isotropic discs as `triplanar`'s networks see them: channels, planes, rules and scores, without any training."""

from __future__ import annotations

import numpy as np
import pytest

from spider_utils.data.discs import open_disc_set
from spider_utils.data.planes import PLANES, cut, join
from spider_utils.runtime import PROFILES
from spider_utils.triplanar import LOWEST, NAMED, TriplanarStudy, keep_by_rule, load_volumes
from spider_utils.workflow import Workspace

VOXEL_MM = PROFILES["quick"].disc_voxel_mm


@pytest.mark.real_data("isotropic_3d")
def test_real_volumes_go_through_planes_rules_and_scores(real_data, tmp_path):
    discs = open_disc_set("isotropic", real_data / "isotropic_3d")
    volumes = load_volumes(discs, spacing_mm=(VOXEL_MM,) * 3)
    assert sorted(volumes) == sorted(discs.cases["patient"]) and len(volumes) == 2
    study = TriplanarStudy(volumes, tmp_path, None, {}, folds=[])
    for patient, volume in volumes.items():
        assert volume.image.shape[0] == 3 and volume.image.std(axis=0).max() == 0  # one contrast, three times
        assert np.unique(volume.mask).tolist() == [0, 1, 2, 3, 4, 5]
        for plane in PLANES:
            assert np.array_equal(join(cut(volume.mask, plane), plane), volume.mask)
        # A disc is flat: it fills far fewer axial slices than others.
        one = volume.mask == 3
        filled = {plane: int(cut(one, plane).any(axis=(1, 2)).sum()) for plane in PLANES}
        assert filled["axial"] * 1.5 < min(filled["sagittal"], filled["coronal"])
        for rule in (LOWEST, NAMED):
            kept, by = keep_by_rule(volume.mask > 0, volume, rule, study.labelled)
            assert by == rule
            assert not kept[volume.mask == 0].any() and kept.sum() > 0.99 * (volume.mask > 0).sum(), rule  # crumbs may go
        scores = study.scored(patient, volume.mask > 0)
        assert scores["dice"].tolist() == [1.0] * 5 and scores["class"].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.real_data("isotropic_3d")
def test_each_real_patient_is_left_out_once(real_data, tmp_path, monkeypatch):
    monkeypatch.setattr(TriplanarStudy, "open", classmethod(lambda cls, workspace: None))
    workspace = Workspace(PROFILES["quick"], "phantom", "", tmp_path)
    study = TriplanarStudy.leave_one_out(workspace, open_disc_set("isotropic", real_data / "isotropic_3d"), VOXEL_MM)
    assert [(fold.train, fold.test) for fold in study.folds] == [((46,), (11,)), ((11,), (46,))]
    assert all(not fold.learn and not fold.check for fold in study.folds)
