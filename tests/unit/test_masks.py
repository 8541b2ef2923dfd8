"""Images on disk in, masks with the same geometry out, and what is said of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from PIL import Image
from typer.testing import CliRunner

from spider_utils import cli
from spider_utils.data.slices import SliceGrid
from spider_utils.data.volumes import Volume, kit_direction, read_volume, write_volume
from spider_utils.ensemble.pooling import NetworkAgreement
from spider_utils.errors import DataError, KitError
from spider_utils.labels import convert
from spider_utils.mask_table import TABLE
from spider_utils.masks import LOW_AGREEMENT, find_inputs, predict_path, segment, vertebrae_named
from spider_utils.predict import PooledPredictor, Predictor
from tests.stand_ins import BandOfClasses, BrightestClass, LevelsByGray, write_image


@pytest.mark.parametrize("code", ["PIR", "RAS", "LPS", "IRA", "SLP"])
@pytest.mark.parametrize("suffix", [".mha", ".nii.gz"])
def test_mask_lies_in_the_inputs_own_grid(tmp_path: Path, predictor: Predictor, code: str, suffix: str) -> None:
    write_image(tmp_path / f"scan{suffix}", code)
    (written,) = predict_path(tmp_path / f"scan{suffix}", tmp_path / "masks", predictor)
    assert written == tmp_path / "masks" / f"scan{suffix}"
    image, mask = sitk.ReadImage(str(tmp_path / f"scan{suffix}")), sitk.ReadImage(str(written))
    assert mask.GetSize() == image.GetSize()
    assert mask.GetSpacing() == pytest.approx(image.GetSpacing())
    assert mask.GetOrigin() == pytest.approx(image.GetOrigin())
    assert mask.GetDirection() == pytest.approx(image.GetDirection())
    assert set(np.unique(sitk.GetArrayFromImage(mask))) <= {0, 1, 2, 3}


@pytest.mark.parametrize("code", ["PIR", "RAS", "SLP"])
def test_mask_is_where_the_structure_is(tmp_path: Path, code: str) -> None:
    """A bright block in the file comes back as a labelled block at the same voxels, whatever the orientation."""
    array = np.zeros((12, 24, 20), np.uint8)
    array[3:9, 6:18, 5:15] = 255
    image = sitk.GetImageFromArray(array)
    image.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation(code))
    sitk.WriteImage(image, str(tmp_path / "block.mha"))
    known = Predictor(BrightestClass(), SliceGrid(96, 96), "structures4", "cpu")
    (written,) = predict_path(tmp_path / "block.mha", tmp_path / "out", known)
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(written)))
    overlap = 2 * ((mask == 3) & (array > 0)).sum() / ((mask == 3).sum() + (array > 0).sum())
    assert overlap > 0.93


def test_png_folder(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        Image.fromarray(np.full((50, 30), 40 * number, np.uint8)).save(tmp_path / "in" / f"a{number}.png")
    written = predict_path(tmp_path / "in", tmp_path / "out", predictor)
    assert [path.name for path in written] == ["a0.png", "a1.png", "a2.png"]
    assert all(Image.open(path).size == (30, 50) for path in written)


def test_the_command_tells_progress_and_time(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIDER_KIT_HEADLESS", "1")
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "long.mha", "PIR", (20, 40, 36))

    def said(source: Path) -> str:
        found = CliRunner().invoke(
            cli.app, ["predict", str(source), "--out", str(tmp_path / "out"), "--model", str(model_folder)]
        )
        assert found.exit_code == 0, found.output
        return found.output

    lines = [line for line in said(tmp_path / "in" / "long.mha").splitlines() if not line.startswith("note: ")]  # a small crop
    assert [line.split(" (")[0] for line in lines[1:4]] == [f"segmenting slices: {done}/36" for done in (9, 18, 27)]
    assert re.fullmatch(r"segmenting slices: 36 done in \d+\.\d s", lines[4]) and lines[5] == str(tmp_path / "out" / "long.mha")
    assert lines[6].startswith(f"{tmp_path / 'out' / TABLE}: ")
    assert list(pd.read_csv(tmp_path / "out" / TABLE)["network"]) == [model_folder.name]
    assert lines[7].endswith("to look through: --pictures")
    assert re.match(r"1 image segmented in \d+\.\d s", lines[8]) and len(lines) == 9
    write_image(tmp_path / "in" / "other.mha", "PIR")
    whole_folder = said(tmp_path / "in")
    assert "segmenting images: 1/2" in whole_folder and "2 images segmented in" in whole_folder


def test_two_networks_tell_how_far_they_agree_and_draw_the_same_mask(tmp_path: Path) -> None:
    first = Predictor(LevelsByGray(), SliceGrid(32, 32), "levels20", "cpu")
    pooled = PooledPredictor(first, Predictor(BrightestClass(), SliceGrid(32, 32), "structures4", "cpu"))
    array = np.zeros((19, 32, 32), np.uint8)  # more than go through at once
    array[:, :, 16:] = 255
    volume = Volume(array, (4.0, 1.0, 1.0), (0.0, 0.0, 0.0), kit_direction())
    mask, agreement = pooled.with_agreement(volume)
    np.testing.assert_array_equal(mask.array, pooled.predict_volume(volume).array)
    assert pooled._listener is None, "asking leaves nothing behind"
    levels, classes = (one.predict_volume(volume).array for one in (first, pooled.second))
    by_hand = NetworkAgreement("structures4")
    by_hand.add(convert(levels, "levels20", "structures4"), classes)
    assert agreement.by_class() == pytest.approx(by_hand.by_class(), nan_ok=True) and agreement.mean() < LOW_AGREEMENT
    said: list[str] = []
    write_volume(volume, tmp_path / "scan.mha")
    predict_path(tmp_path / "scan.mha", tmp_path / "out", pooled, note=said.append)
    assert len(said) == 2 and said.pop(0) == "scan.mha: It holds few different values, as masks do: is it a picture?"
    assert said[0].startswith("scan.mha: Two networks drew this mask; they agree to a Dice of 0.")
    assert "disc 0.00" in said[0] and "look at every slice" in said[0]
    assert segment(first, volume).agreement is None, "one network agrees with nobody"
    sure = replace(first, model=lambda images: BrightestClass()(images)[:, [0, *11 * [1], 3, *7 * [1]]])  # value 12 is a disc
    drawn = segment(replace(pooled, first=sure), volume)
    assert segment(pooled, volume).is_doubtful and not drawn.is_doubtful
    assert drawn.said.startswith(
        "Two networks drew this mask; they agree to a Dice of 1.00 (disc 1.00). Masks with 0.8 and more were nearly always good"
    )
    dark = volume.with_array(np.zeros_like(array))
    empty = segment(pooled, dark)
    assert (empty.agreement, empty.said, empty.is_doubtful) == (None, None, False), "of an empty mask another note tells"


def test_vertebrae_that_a_mask_names_are_told_from_below(tmp_path: Path) -> None:
    array = np.zeros((2, 30, 30), np.uint8)
    array[:, 20:28, 5:15], array[:, 8:16, 5:15], array[:, 16:19, 5:15], array[:, :, 20:24] = 3, 4, 13, 10
    volume = Volume(array, (4.0, 10.0, 10.0), (0.0, 0.0, 0.0), kit_direction())
    assert vertebrae_named(volume, "levels20") == ["L3", "L2"]
    assert vertebrae_named(volume.with_array(np.where(array == 10, 10, 0).astype(np.uint8)), "levels20") == []
    assert vertebrae_named(volume.with_array((array > 0).astype(np.uint8)), "structures4") == []
    write_volume(volume, tmp_path / "scan.mha")
    said: list[str] = []
    network = BandOfClasses()
    network.scheme = "levels20"
    predict_path(tmp_path / "scan.mha", tmp_path / "out", network, note=said.append)
    assert [one for one in said if "named" in one] == ["scan.mha: Vertebrae named, from below: L3, L2."]
    assert list(pd.read_csv(tmp_path / "out" / TABLE)["vertebrae"]) == ["L3 L2"]


def test_a_crop_is_shown_at_the_size_that_a_network_learned_from_and_its_mask_lies_on_it() -> None:
    array = np.zeros((3, 50, 40), np.uint8)
    array[:, 10:30, 8:28] = 255
    crop, seen = Volume(array, (4.0, 1.5, 1.5), (0.0, 0.0, 0.0), kit_direction()), []

    def bright(images: torch.Tensor) -> object:
        seen.append(images.sum(dim=(2, 3)).mean().item())
        return BrightestClass()(images)

    magnifying = Predictor(bright, SliceGrid(160, 128), "structures4", "cpu")
    knowing = replace(magnifying, grid=SliceGrid(160, 128, (300.0, 240.0)))
    assert (magnifying.field_mm, knowing.field_mm) == (None, (300.0, 240.0))
    masks = [segment(network, crop).mask for network in (magnifying, knowing)]
    # 30 x 30 mm are 64 x 64 of the grid's pixels when 75 mm fill it, 16 x 16 when 300 mm do.
    assert seen == pytest.approx([64 * 64, 16 * 16], rel=0.05)
    for mask in masks:
        assert mask.spacing == crop.spacing and mask.array.shape == array.shape
        agree = (mask.array == 3) & (array > 0)
        assert 2 * agree.sum() / ((mask.array == 3).sum() + (array > 0).sum()) > 0.9
    # Whose size is not known, and what is large enough, is shown as it always was.
    segment(knowing, crop, has_pixel_size=False)
    segment(knowing, replace(crop, spacing=(4.0, 4.0, 4.0)))
    assert seen[2:] == pytest.approx([64 * 64, 64 * 64], rel=0.05)
    assert not segment(knowing, replace(crop, spacing=(4.0, 1e-6, 1e-6))).mask.array.any(), "takes no room at all"


def test_what_must_be_known_of_an_image_is_told(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "sagittal.mha", "PIR")
    write_image(tmp_path / "in" / "crosswise.mha", "RAI")
    said: list[str] = []
    grid = replace(predictor.grid, field_mm=(300.0, 240.0))
    background = torch.eye(4)[0].reshape(1, 4, 1, 1)
    nothing = replace(predictor, grid=grid, model=lambda images: background.expand(len(images), 4, *images.shape[2:]))
    predict_path(tmp_path / "in", tmp_path / "out", nothing, note=said.append)
    crops = [one for one in said if "300 x 240 mm" in one or ": By its header it shows " in one]
    assert [one.split(":")[0] for one in crops] == ["crosswise.mha", "sagittal.mha"]
    said = [one for one in said if one not in crops]
    assert [one.split(":")[0] for one in said] == ["crosswise.mha", "crosswise.mha", "sagittal.mha"]
    assert "taken in axial (crosswise) slices" in said[0] and "spider-kit data reorient" in said[0]
    assert all("the mask is empty. If the slices are sagittal" in one for one in said[1:])


def test_pictures_of_any_format_get_png_masks(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "in").mkdir()
    gray = np.random.default_rng(0).integers(0, 255, (40, 30), np.uint8)
    for name in ("a.jpg", "b.jpeg", "c.png"):
        Image.fromarray(gray).save(tmp_path / "in" / name)
    written = predict_path(tmp_path / "in", tmp_path / "out", predictor)
    assert [path.name for path in written] == ["a.png", "b.png", "c.png"]
    assert all(Image.open(path).format == "PNG" and Image.open(path).size == (30, 40) for path in written)
    Image.fromarray(gray).save(tmp_path / "in" / "a.png")
    with pytest.raises(DataError, match=r"a\.png.*its mask would have the name of that of a\.jpg"):
        predict_path(tmp_path / "in", tmp_path / "more", predictor)
    assert not (tmp_path / "more").exists()
    (tmp_path / "in" / "a.png").rename(tmp_path / "in" / "b.png")
    with pytest.raises(DataError, match=r"b\.jpeg.*would overwrite the image"):
        predict_path(tmp_path / "in", tmp_path / "in", predictor)


def test_one_bad_file_does_not_lose_the_others(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "good.mha", "PIR")
    (tmp_path / "in" / "bad.mha").write_bytes((tmp_path / "in" / "good.mha").read_bytes()[:900])
    with pytest.raises(KitError, match=r"1 of 2 images.*bad\.mha"):
        predict_path(tmp_path / "in", tmp_path / "out", predictor)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"good.mha", TABLE}
    assert list(pd.read_csv(tmp_path / "out" / TABLE)["mask"]) == ["good.mha"]


def test_a_bad_file_is_passed_over_when_masks_go_beside_it(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "good.mha", "PIR")
    (tmp_path / "in" / "bad.mha").write_bytes(b"nothing")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KitError, match=r"1 of 2 images.*bad\.mha"):
        predict_path("in", ".", predictor)
    assert (tmp_path / "good.mha").is_file()


def test_other_files_beside_images_do_not_matter_unless_they_are_dicom(tmp_path: Path) -> None:
    write_image(tmp_path / "scan.mha", "PIR")
    for name in (".DS_Store", "README", ".hidden.mha"):
        (tmp_path / name).write_text("no image")
    assert find_inputs(tmp_path) == [tmp_path / "scan.mha"]
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(DataError, match=r"mixes scan\.mha with DICOM files such as IM0001"):
        find_inputs(tmp_path)


def test_masks_of_dicom_series_have_the_whole_name_of_their_folder(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Volume(np.zeros((2, 8, 8), np.uint8), (3.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    monkeypatch.setattr("spider_utils.masks.read_volume", lambda path: image)
    for uid in ("1.2.840.1", "1.2.840.2"):
        (tmp_path / uid).mkdir()
        (tmp_path / uid / "IM1").write_bytes(bytes(128) + b"DICM")
        (written,) = predict_path(tmp_path / uid, tmp_path / "out", predictor)
        assert written.name == f"{uid}.nii.gz"
    monkeypatch.chdir(tmp_path / "1.2.840.1")
    assert predict_path(".", tmp_path / "out", predictor)[0].name == "1.2.840.1.nii.gz"


def test_a_folder_of_dicom_series_is_one_image_a_series(tmp_path: Path) -> None:
    for name in ("b", "a", "notes"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        (tmp_path / name / "IM0001").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "notes" / "notes.txt").write_text("no DICOM")
    assert find_inputs(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    write_image(tmp_path / "scan.mha", "PIR")
    assert find_inputs(tmp_path) == [tmp_path / "a", tmp_path / "b", tmp_path / "scan.mha"]
    with pytest.raises(DataError, match="holds no image.*or folders of one series each"):
        find_inputs(tmp_path / "notes")
    (tmp_path / "scan.mha").unlink()
    for loose, content in (("README", b"no DICOM"), ("DICOMDIR", bytes(128) + b"DICM")):
        (tmp_path / loose).write_bytes(content)
        assert find_inputs(tmp_path) == [tmp_path / "a", tmp_path / "b"], "what lies beside series is none"
    (tmp_path / "IM0009").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(DataError, match="mixes a with DICOM files such as IM0009"):
        find_inputs(tmp_path)


def test_a_folder_that_cannot_be_looked_into_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "scan.mha", "PIR")
    (tmp_path / "private").mkdir()
    listed = Path.iterdir

    def refuses(self: Path) -> object:
        if self.name == "private":
            raise PermissionError(13, "Permission denied")
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", refuses)
    with pytest.warns(UserWarning, match="private is left out: Permission denied"):
        assert find_inputs(tmp_path) == [tmp_path / "scan.mha"]


def test_what_was_written_into_a_folder_is_no_input_of_it(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "whole.mha", "PIR")
    image = read_volume(tmp_path / "whole.mha")
    (tmp_path / "whole.mha").unlink()
    monkeypatch.setattr("spider_utils.masks.read_volume", lambda path: image)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "IM0001").write_bytes(bytes(128) + b"DICM")
        for _ in range(2):
            predict_path(tmp_path, tmp_path, predictor)
    assert set(pd.read_csv(tmp_path / TABLE)["mask"]) == {"a.nii.gz", "b.nii.gz"}
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "seg.dcm").write_bytes(bytes(128) + b"DICM")  # as --dicom-seg leaves one there
    (tmp_path / "a.nii.gz").unlink()  # in another folder's table nothing tells that these are masks
    (tmp_path / "b.nii.gz").unlink()
    assert [path.name for path in predict_path(tmp_path, tmp_path / "masks", predictor)] == ["a.nii.gz", "b.nii.gz"]


def test_a_mask_among_images_is_told(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "scan.mha", "PIR")
    labels = np.random.default_rng(0).integers(0, 20, (3, 30, 40), np.uint8)
    write_volume(Volume(labels, (4.0, 4.0, 4.0), (0.0, 0.0, 0.0), kit_direction()), tmp_path / "in" / "truth.mha")
    said: list[str] = []
    predict_path(tmp_path / "in", tmp_path / "out", predictor, said.append)
    assert [one for one in said if "masks do" in one] == [
        "truth.mha: It holds few different values, as masks do: is it a picture?"
    ]
    assert dict(pd.read_csv(tmp_path / "out" / TABLE).set_index("mask")["doubtful"])["truth.mha"] == "yes"


def test_what_could_not_be_read_is_told_at_once(tmp_path: Path, predictor: Predictor) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "good.mha", "PIR")
    (tmp_path / "in" / "bad.mha").write_bytes(b"nothing")
    said: list[str] = []
    with pytest.raises(KitError, match=rf"1 of 2 images were segmented, into {tmp_path / 'out'}; these were not"):
        predict_path(tmp_path / "in", tmp_path / "out", predictor, said.append)
    assert said[0].startswith("not segmented: ") and "bad.mha" in said[0]


def test_slices_with_masks_go_into_a_folder_of_their_own(tmp_path: Path, model_folder: Path) -> None:
    write_image(tmp_path / "scan.mha", "PIR")
    write_image(tmp_path / "scan.nii.gz", "PIR")
    asked = ["predict", str(tmp_path), "--out", str(tmp_path / "out"), "--model", str(model_folder), "--pictures"]
    said = CliRunner().invoke(cli.app, asked)
    pictures = [tmp_path / "out" / "pictures" / f"scan{suffix}-slices.png" for suffix in (".mha", ".nii.gz")]
    assert said.exit_code == 0 and all(str(path) in said.output for path in pictures)
    assert all(Image.open(path).size[0] > 300 for path in pictures)


def test_a_picture_that_cannot_be_written_costs_no_mask_and_no_image(tmp_path: Path, model_folder: Path) -> None:
    write_image(tmp_path / "scan.mha", "PIR")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "pictures").write_text("a file")
    asked = ["predict", str(tmp_path / "scan.mha"), "--out", str(tmp_path / "out"), "--model", str(model_folder), "--pictures"]
    said = CliRunner().invoke(cli.app, asked)
    assert said.exit_code == 0 and "note: no picture: " in said.output and "1 image segmented" in said.output
    assert (tmp_path / "out" / "scan.mha").is_file() and (tmp_path / "out" / "structures4.ctbl").is_file()
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "a.png-slices.png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 40), np.uint8)).save(folder / name)
    kept = (folder / "a.png-slices.png").read_bytes()
    asked = ["predict", str(folder), "--out", str(tmp_path), "--model", str(model_folder), "--pictures"]
    said = CliRunner().invoke(cli.app, asked)
    assert "would overwrite an image" in said.output and (folder / "a.png-slices.png").read_bytes() == kept


@pytest.mark.parametrize(
    ("name", "message"), [("nothing.mha", "does not exist"), ("notes.txt", "is not known"), ("empty", "holds no image")]
)
def test_wrong_inputs(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        find_inputs(tmp_path / name)


def test_mask_never_overwrites_the_image(tmp_path: Path, predictor: Predictor) -> None:
    write_image(tmp_path / "scan.mha", "PIR")
    before = (tmp_path / "scan.mha").read_bytes()
    with pytest.raises(DataError, match="overwrite"):
        predict_path(tmp_path / "scan.mha", tmp_path, predictor)
    assert (tmp_path / "scan.mha").read_bytes() == before
