"""The isotropic set of other groups: axes that the headers do not tell, discs and bodies counted from below."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from spider_utils.data.discs import open_disc_set


@pytest.mark.real_data("isotropic_3d")
def test_headers_say_identity(real_data):
    for path in sorted((real_data / "isotropic_3d").glob("*.mha")):
        image = sitk.ReadImage(str(path))
        assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1) and image.GetSpacing() == (1, 1, 1), path.name


@pytest.mark.real_data("isotropic_3d")
def test_real_discs(real_data):
    data = open_disc_set("isotropic", real_data / "isotropic_3d")
    assert data.cases["case"].tolist() == ["IVD_11", "IVD_46"] and data.cases["patient"].tolist() == [11, 46]
    for name in data.cases["case"]:
        case = data.load(name)
        image, mask = case.images[0].array, case.mask.array
        assert image.shape == mask.shape == (67, 221, 221) and np.unique(mask).tolist() == [0, 1, 2, 3, 4, 5]
        for disc in range(1, 6):
            wide, tall, deep = (np.ptp(axis) + 1 for axis in np.nonzero(mask == disc))
            assert 30 <= wide <= 60 and 25 <= deep <= 50 and tall < 30, "a disc is wide and deep, not tall"
        # The canal, bright on T2, lies behind the discs and before the bones of the back.
        row = round(float(np.nonzero(mask == 3)[1].mean()))
        back_wall = np.nonzero(mask[:, row] == 3)[1].max()
        middle = image[28:38, row].mean(axis=0)
        assert middle[back_wall + 4 : back_wall + 16].max() > 2 * np.median(middle[back_wall + 25 : back_wall + 60])


@pytest.mark.real_data("isotropic_3d")
def test_real_bodies_are_counted_from_below(real_data):
    data = open_disc_set("isotropic", real_data / "isotropic_3d", "bodies")
    assert data.cases["patient"].tolist() == [115, 301]
    for name, n in (("VBs_VB1_15", 7), ("VBs_VB3_01", 5)):
        mask = data.load(name).mask.array
        rows = [np.nonzero(mask == number)[1].mean() for number in range(1, n + 1)]
        assert rows == sorted(rows, reverse=True) and mask.max() == n
        assert all((mask == number).sum() > 20_000 for number in range(1, n + 1))  # cubic mm
