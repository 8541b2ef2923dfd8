"""Planes: each side of the body where its letter says."""

from __future__ import annotations

import numpy as np
import pytest

from spider_utils.view.plots import PLANES


def marked_volume():
    """A volume with one bright voxel toward each side of the body: value 1 right, 2 left, 3 superior, 4 anterior."""
    array = np.zeros((5, 7, 9), np.uint8)
    array[4, 3, 4], array[0, 3, 4], array[2, 0, 4], array[2, 3, 0] = 1, 2, 3, 4
    return array


def test_planes_put_each_side_of_the_body_where_their_letters_say():
    array = marked_volume()
    # (plane, slice number, value of a marker) -> where it must be: rows from the top, columns from the left
    sagittal, coronal, axial = (PLANES[name] for name in ("sagittal", "coronal", "axial"))
    assert sagittal.letters == "SIAP" and coronal.letters == "SIRL" and axial.letters == "APRL"
    assert np.argwhere(sagittal.cut(array, 2) == 3).tolist() == [[0, 4]]  # superior at the top
    assert np.argwhere(sagittal.cut(array, 2) == 4).tolist() == [[3, 0]]  # anterior at the left
    assert np.argwhere(coronal.cut(array, 4) == 1).tolist() == [[3, 0]]  # the patient's right at the left
    assert np.argwhere(coronal.cut(array, 4) == 2).tolist() == [[3, 4]]
    assert np.argwhere(coronal.cut(array, 4) == 3).tolist() == [[0, 2]]
    assert np.argwhere(axial.cut(array, 3) == 1).tolist() == [[4, 0]]
    assert np.argwhere(axial.cut(array, 3) == 4).tolist() == [[0, 2]]  # anterior at the top


@pytest.mark.parametrize("name", list(PLANES))
def test_plane_places_a_voxel_where_its_cut_shows_it(name):
    array = np.zeros((5, 7, 9), np.uint8)
    point = (1, 5, 7)
    array[point] = 1
    plane = PLANES[name]
    assert np.argwhere(plane.cut(array, point[plane.axis])).tolist() == [list(plane.place(point, array.shape))]
    rows_mm, columns_mm = plane.spacing((4.0, 0.5, 0.8))
    shape = plane.cut(array, 0).shape
    extents = {5: 4.0, 7: 0.5, 9: 0.8}
    assert (rows_mm, columns_mm) == (extents[shape[0]], extents[shape[1]])
