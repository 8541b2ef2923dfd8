"""Sets of disc volumes: both layouts, and one line that names the file for everything that is wrong with it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from spider_utils.data.discs import DIXON, SACRAL_DISC, open_disc_set
from spider_utils.data.volumes import Volume, kit_direction, read_volume, write_volume
from spider_utils.errors import DataError, KitError


def spine(discs: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7), dtype: type = np.uint8) -> Volume:
    """Plates one above the other, the first of ``discs`` lowest: 6 x 40 x 20 voxels of 2.5 mm."""
    mask = np.zeros((6, 40, 20), dtype)
    for place, number in enumerate(discs):
        mask[1:5, 34 - 4 * place : 36 - 4 * place, 5:12] = number
    return Volume(mask, (2.5, 2.5, 2.5), (1.0, -20.0, 35.0), kit_direction())


@pytest.fixture
def ivd_root(tmp_path):
    """Two patients in IVDM3Seg's layout; in the second an eighth disc and a rudimentary one are not labelled."""
    rng = np.random.default_rng(0)
    for name, everything in (("01", spine()), ("12", spine((SACRAL_DISC, 1, 2, 3, 4, 5, 6, 7, 8)))):
        labels = everything.with_array(np.where(everything.array > 7, 0, everything.array).astype(np.uint8))
        for contrast in DIXON:
            image = everything.with_array(rng.integers(0, 900, everything.array.shape, dtype=np.int16))
            write_volume(image, tmp_path / "ivd" / name / f"{name}_{contrast}.nii.gz")
        write_volume(labels, tmp_path / "ivd" / name / f"{name}_Labels.nii.gz")
        write_volume(everything, tmp_path / "ivd" / name / f"{name}_AllDiscs.nii.gz")
    return tmp_path / "ivd"


def test_the_layout_of_ivdm3seg(ivd_root):
    data = open_disc_set("ivd-phantom", ivd_root)
    (ivd_root / "notes").mkdir()
    assert data.cases["case"].tolist() == ["01", "12"] and data.cases["patient"].tolist() == [1, 12]
    assert data.cases["contrasts"].tolist() == [DIXON, DIXON] == [("fat", "inn", "opp", "wat")] * 2
    case = data.load("12")
    assert (case.case, case.patient, case.contrasts) == ("12", 12, DIXON)
    for contrast, image in zip(case.contrasts, case.images, strict=True):
        np.testing.assert_array_equal(image.array, read_volume(ivd_root / "12" / f"12_{contrast}.nii.gz").array)
    assert np.unique(case.mask.array).tolist() == [0, 1, 2, 3, 4, 5, 6, 7] and case.mask.array.dtype == np.uint8
    assert np.unique(data.all_discs("12").array).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, SACRAL_DISC]


def test_the_isotropic_set_is_turned_whatever_its_header_says(tmp_path):
    """Stored as the real files are: slices from side to side with the identity as direction."""
    turned = spine((1, 2, 3, 4, 5))
    identity = np.eye(3)[:, ::-1]
    stored = Volume(turned.array, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), identity)
    for name in ("IVD_7", "VBs_VB3_02"):
        write_volume(stored.with_array(turned.array.astype(np.uint16) * 50), tmp_path / f"{name}_image.mha")
        table = np.array([0, 3, 5, 1, 2, 4], np.uint8)  # bodies are numbered in no order
        write_volume(stored.with_array(turned.array if name == "IVD_7" else table[turned.array]), tmp_path / f"{name}_mask.mha")
    discs, bodies = open_disc_set("isotropic", tmp_path), open_disc_set("isotropic", tmp_path, "bodies")
    assert discs.cases["patient"].tolist() == [7] and bodies.cases["patient"].tolist() == [302]
    for data, name in ((discs, "IVD_7"), (bodies, "VBs_VB3_02")):
        case = data.load(name)
        assert case.contrasts == ("t2",) and case.images[0].orientation == "PIR"
        np.testing.assert_array_equal(case.mask.array, turned.array)  # bodies too: counted anew from below
        np.testing.assert_allclose(case.mask.direction, kit_direction())
    assert discs.state() != bodies.state()
    with pytest.raises(KitError, match="only 'ivd-phantom' knows the discs that nobody labelled"):
        discs.all_discs("IVD_7")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "12_opp.nii.gz").unlink(), "12_opp.nii.gz: the contrast 'opp' of patient 12 is missing. Add the file"),
        (lambda f: (f / "12_Labels.nii.gz").unlink(), "12_Labels.nii.gz: the mask of patient 12 is missing"),
        (lambda f: (f / "12_inn.nii.gz").write_bytes(b"no image"), "12_inn.nii.gz: cannot be read"),
        (
            lambda f: write_volume(
                Volume(np.ones((6, 40, 19), np.int16), (2.5,) * 3, (1.0, -20.0, 35.0), kit_direction()), f / "12_wat.nii.gz"
            ),
            "12_wat.nii.gz: its grid differs from that of 12_fat.nii.gz in size",
        ),
        (
            lambda f: write_volume(
                Volume(np.ones((6, 40, 20), np.int16), (2.5,) * 3, (4.0, -20.0, 35.0), kit_direction()), f / "12_opp.nii.gz"
            ),
            "12_opp.nii.gz: its grid differs from that of 12_fat.nii.gz in origin",
        ),
        (
            lambda f: write_volume(spine().with_array(np.zeros((6, 40, 20), np.uint8)), f / "12_Labels.nii.gz"),
            "12_Labels.nii.gz: the mask is empty",
        ),
        (
            lambda f: write_volume(spine((1, 2, 8)), f / "12_Labels.nii.gz"),
            r"12_Labels.nii.gz: holds the unknown label 8 \(56 voxels\). Known are 0 to 7",
        ),
        (
            lambda f: write_volume(spine((1, 2, 300), np.uint16), f / "12_Labels.nii.gz"),
            "12_Labels.nii.gz: holds the unknown label 300",
        ),
        (
            lambda f: write_volume(spine((3, 2, 1)), f / "12_Labels.nii.gz"),
            "12_Labels.nii.gz: its labels are not stacked from below upward",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(ivd_root, spoil, words):
    spoil(ivd_root / "12")
    with pytest.raises(DataError, match=words) as error:
        open_disc_set("ivd-phantom", ivd_root).load("12")
    assert "\n" not in str(error.value)


def test_a_file_of_all_discs_that_is_missing_or_wrong(ivd_root):
    data = open_disc_set("ivd-phantom", ivd_root)
    write_volume(spine((1, 50)), ivd_root / "12" / "12_AllDiscs.nii.gz")
    with pytest.raises(DataError, match="12_AllDiscs.nii.gz: holds the unknown label 50"):
        data.all_discs("12")
    (ivd_root / "12" / "12_AllDiscs.nii.gz").unlink()
    with pytest.raises(DataError, match="12_AllDiscs.nii.gz: the file does not exist"):
        data.all_discs("12")


def test_roots_and_names_that_do_not_exist(tmp_path, ivd_root):
    with pytest.raises(DataError, match="this data folder does not exist.*--kind ivd"):
        open_disc_set("ivd-phantom", tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no IVD_"):
        _ = open_disc_set("isotropic", ivd_root).cases
    with pytest.raises(KitError, match="unknown kind of disc volumes 'ivdm3seg'. Known are: ivd-phantom, isotropic"):
        open_disc_set("ivdm3seg", ivd_root)
    with pytest.raises(KitError, match="structure 'bodies' of 'ivd-phantom' is not known"):
        open_disc_set("ivd-phantom", ivd_root, "bodies")


def test_state_changes_with_the_files(ivd_root):
    before = open_disc_set("ivd-phantom", ivd_root).state()
    copy = ivd_root.with_name("copy")
    shutil.copytree(ivd_root, copy, copy_function=shutil.copyfile)  # with times of its own
    assert open_disc_set("ivd-phantom", copy).state() == before
    write_volume(spine((1, 2)), ivd_root / "01" / "01_Labels.nii.gz")
    changed = open_disc_set("ivd-phantom", ivd_root).state()
    shutil.rmtree(ivd_root / "12")
    assert len({before, changed, open_disc_set("ivd-phantom", ivd_root).state()}) == 3
