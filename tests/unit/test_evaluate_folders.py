"""Scoring two folders of masks: what comes out, and one clear error for each way the folders can be wrong."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from typer.testing import CliRunner

from spider_utils import cli
from spider_utils.data import volumes
from spider_utils.errors import DataError, KitError
from spider_utils.evaluation.folders import SpacingWarning, evaluate_folders, patient_of, summary_path
from spider_utils.evaluation.metrics import measure_case
from spider_utils.evaluation.statistics import FOREGROUND, format_summary
from spider_utils.labels import LabelWarning

SPACING = (3.3, 0.6, 0.9)  # slice, row, column
PIR = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


def spine(shift=0, labels=(1, 2, 3)):
    """A made-up mask (slice, row, column): three boxes side by side, moved down by ``shift`` rows."""
    mask = np.zeros((4, 20, 24), np.uint8)
    for k, label in enumerate(labels):
        mask[1:3, 4 + shift : 12 + shift, 2 + 7 * k : 7 + 7 * k] = label
    return mask


def write_mha(path, array, spacing=SPACING, origin=(1.0, 2.0, 3.0), direction=PIR):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(step) for step in reversed(spacing)])
    image.SetOrigin(origin)
    image.SetDirection(direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def write_png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def folders(tmp_path):
    """Two patients with three volumes: the first predicted perfectly, the others one row too low."""
    truth, prediction = tmp_path / "truth", tmp_path / "prediction"
    for case, shift in (("12_t1", 0), ("12_t2_SPACE", 1), ("40_t1", 1)):
        write_mha(truth / f"{case}.mha", spine())
        write_mha(prediction / f"{case}.mha", spine(shift))
    return truth, prediction


def evaluate(folders, tmp_path, scheme="structures4", **options):
    return evaluate_folders(*folders, scheme, tmp_path / "out" / "scores.csv", **options)


def refused(folders, tmp_path, *parts, kind=DataError, **options):
    """The call fails with one line that holds all ``parts``, and leaves nothing behind."""
    with pytest.raises(kind) as caught:
        evaluate(folders, tmp_path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


# ---------------------------------------------------------------------------------------------------------------- results


def test_scores_and_summary(folders, tmp_path):
    table, summary = evaluate(folders, tmp_path)
    assert len(table) == 3 * 4
    assert table["case"].unique().tolist() == ["12_t1", "12_t2_SPACE", "40_t1"]
    assert table["patient"].unique().tolist() == ["12", "40"]
    assert (table["unit"] == "volume").all() and (table["tolerance_mm"] == 1.0).all()
    expected = measure_case(spine(), spine(1), SPACING, [0, 1, 2, 3], 1.0)
    found = table[table["case"] == "40_t1"].reset_index(drop=True)
    for column in ("dice", "iou", "asd_mm", "hd95_mm", "nsd", "tp", "status"):
        np.testing.assert_array_equal(found[column], expected[column], err_msg=column)
    assert found["name"].tolist() == ["background", "vertebra", "spinal canal", "disc"]
    vertebra = summary[(summary["view"] == "mean") & (summary["class"] == 1) & (summary["metric"] == "dice")].iloc[0]
    assert vertebra["mean"] == pytest.approx((1 + 7 / 8 + 7 / 8) / 3)
    assert vertebra[["n", "unit", "patients"]].tolist() == [3, "volume", 2]
    assert set(summary["view"]) == {"mean", "pooled"}
    assert FOREGROUND in summary["class"].to_numpy()
    assert "foreground mean" in format_summary(summary)


def test_both_tables_are_written_as_returned(folders, tmp_path):
    table, summary = evaluate(folders, tmp_path)
    out = tmp_path / "out" / "scores.csv"
    assert sorted(path.name for path in out.parent.iterdir()) == ["scores.csv", "scores_summary.csv"]
    pd.testing.assert_frame_equal(pd.read_csv(out, dtype={"patient": str}), table, check_dtype=False)
    pd.testing.assert_frame_equal(pd.read_csv(summary_path(out)), summary, check_dtype=False)


def test_distances_use_the_files_spacing_whatever_the_orientation(tmp_path):
    """The same masks stored with other axes score the same."""
    results = []
    for code in ("PIR", "RAI", "LPS"):
        pair = tmp_path / code / "truth", tmp_path / code / "prediction"
        for folder, mask in zip(pair, (spine(), spine(2)), strict=True):
            write_mha(folder / "1.mha", mask)
            image = sitk.DICOMOrient(sitk.ReadImage(str(folder / "1.mha")), code)
            sitk.WriteImage(image, str(folder / "1.mha"))
        results.append(evaluate(pair, tmp_path / code)[0])
    for other in results[1:]:
        pd.testing.assert_frame_equal(results[0], other)
    assert results[0].loc[1, "hd95_mm"] == pytest.approx(2 * 0.6)


def test_tolerance_and_source_variants_are_passed_on(folders, tmp_path):
    strict, _ = evaluate(folders, tmp_path, tolerance_mm=0.1)
    wide, summary = evaluate(folders, tmp_path, tolerance_mm=3.0, source_variants=True)
    assert strict.loc[strict["class"] == 1, "nsd"].min() < 1
    assert (wide.loc[wide["class"] == 1, "nsd"] == 1).all()
    assert {"nsd_one_sided", "asd_pixels"} <= set(wide.columns)
    assert {"nsd_one_sided", "asd_pixels"} <= set(summary["metric"])


def test_an_empty_prediction_is_scored_not_refused(folders, tmp_path):
    write_mha(folders[1] / "40_t1.mha", np.zeros_like(spine()))
    table, summary = evaluate(folders, tmp_path)
    rows = table[(table["case"] == "40_t1") & (table["class"] > 0)]
    assert (rows["status"] == "missed").all() and (rows["dice"] == 0).all() and (rows["nsd"] == 0).all()
    assert (summary.loc[(summary["class"] == 1) & (summary["metric"] == "dice"), "missed"] == 1).all()


def test_every_file_is_read_once(folders, tmp_path, monkeypatch):
    write_mha(folders[1] / "40_t1.mha", np.zeros_like(spine()))
    seen, real = [], volumes._read_image

    def counted(path):
        seen.append(path)
        return real(path)

    monkeypatch.setattr(volumes, "_read_image", counted)
    evaluate(folders, tmp_path)
    assert sorted(seen) == sorted(path for folder in folders for path in folder.iterdir())


def many(tmp_path, n=40):
    """So many pairs that two processes share them; every fifth prediction is empty."""
    for number in range(n):
        write_mha(tmp_path / "truth" / f"{number}_t1.mha", spine())
        write_mha(tmp_path / "pred" / f"{number}_t1.mha", spine(shift=number % 3) * (number % 5 > 0))
    return tmp_path / "truth", tmp_path / "pred"


def test_processes_give_the_same_tables_as_one(tmp_path):
    folders = many(tmp_path)
    alone = evaluate_folders(*folders, "structures4", tmp_path / "alone.csv")
    shared = evaluate_folders(*folders, "structures4", tmp_path / "shared.csv", jobs=2)
    for one, other in zip(alone, shared, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_what_a_process_refuses_names_the_file(tmp_path):
    folders = many(tmp_path)
    bad = folders[1] / "37_t1.mha"
    bad.write_bytes(b"no mask")
    with pytest.raises(DataError, match="37_t1.mha") as found:
        evaluate_folders(*folders, "structures4", tmp_path / "scores.csv", jobs=2)
    assert found.value.path == bad
    assert not (tmp_path / "scores.csv").exists()


def test_a_prediction_must_hold_whole_labels_even_though_it_may_be_empty(folders, tmp_path):
    write_mha(folders[1] / "40_t1.mha", spine().astype(np.float32) / 2)
    refused(folders, tmp_path, str(folders[1] / "40_t1.mha"), "must hold whole numbers")


def test_truth_in_another_scheme_is_converted(folders, tmp_path):
    for path in folders[0].iterdir():
        write_mha(path, spine(labels=(3, 100, 202)))
    table, _ = evaluate(folders, tmp_path, truth_scheme="spider")
    assert (table.loc[table["case"] == "12_t1", "dice"] == 1).all()


def test_truth_that_the_scheme_has_no_class_for_is_reported(tmp_path):
    folders = tmp_path / "truth", tmp_path / "prediction"
    write_mha(folders[0] / "1_t1.mha", spine(labels=(3, 100, 210)))
    write_mha(folders[1] / "1_t1.mha", spine(labels=(3, 10, 0)))
    with pytest.warns(LabelWarning, match="210"):
        table, _ = evaluate(folders, tmp_path, scheme="levels20", truth_scheme="spider")
    assert table.set_index("class").loc[[3, 10], "dice"].tolist() == [1, 1]


def test_masks_of_four_classes_read_as_levels_are_suspected(tmp_path):
    truth, prediction = tmp_path / "truth", tmp_path / "prediction"
    write_mha(truth / "1_t2.mha", spine(labels=(1, 10, 12)))
    write_mha(prediction / "1_t2.mha", spine(labels=(1, 2, 3)))
    with pytest.warns(LabelWarning, match="no prediction holds a class above 3.*'structures4'"):
        evaluate((truth, prediction), tmp_path, "levels20")
    write_mha(prediction / "1_t2.mha", spine(labels=(1, 10, 12)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", LabelWarning)
        evaluate((truth, prediction), tmp_path, "levels20")


def test_formats_may_differ_and_other_files_are_ignored(folders, tmp_path):
    image = sitk.ReadImage(str(folders[1] / "40_t1.mha"))
    (folders[1] / "40_t1.mha").unlink()
    sitk.WriteImage(sitk.Cast(image, sitk.sitkFloat32), str(folders[1] / "40_t1.nii.gz"))
    (folders[0] / "README.txt").write_text("notes")
    (folders[0] / ".hidden.mha").write_text("")
    table, _ = evaluate(folders, tmp_path)
    assert table["case"].nunique() == 3


# -------------------------------------------------------------------------------------------------------------------- png


@pytest.fixture
def slices(tmp_path):
    """Released gray masks of two slices of one patient and one of another; predictions one row too low."""
    truth, prediction = tmp_path / "truth", tmp_path / "prediction"
    for case in ("12_t2_SPACE_slice7", "12_t2_SPACE_slice8", "40_t2_SPACE_slice7"):
        write_png(truth / f"{case}.png", spine(0, (76, 150, 29))[1])
        write_png(prediction / f"{case}.png", spine(1, (76, 150, 29))[1])
    return truth, prediction


def test_released_gray_slices_with_their_pixel_size(slices, tmp_path):
    table, summary = evaluate(slices, tmp_path, scheme="released_gray", spacing_mm=(0.46875, 0.5))
    assert (table["unit"] == "slice").all()
    assert table["patient"].tolist() == ["12"] * 8 + ["40"] * 4
    assert dict(zip(table["class"], table["name"], strict=True)) == {
        0: "background", 29: "disc", 76: "vertebra", 150: "spinal canal",
    }  # fmt: skip
    assert table.loc[table["class"] == 76, "hd95_mm"].tolist() == pytest.approx([0.46875] * 3)
    assert (summary["unit"] == "slice").all()
    assert (summary["patients"] == 2).any()


def test_pixel_size_by_patient_or_case(slices, tmp_path):
    spacing = {12: (0.5, 0.5), "12_t2_SPACE_slice8": (0.8, 0.5), "40": (1.2, 0.5)}
    table, _ = evaluate(slices, tmp_path, scheme="released_gray", spacing_mm=spacing)
    assert table.loc[table["class"] == 76, "hd95_mm"].tolist() == pytest.approx([0.5, 0.8, 1.2])
    del spacing["40"]
    (tmp_path / "out" / "scores.csv").unlink()
    (tmp_path / "out" / "scores_summary.csv").unlink()
    refused(slices, tmp_path, "40_t2_SPACE_slice7.png", "spacing_mm", scheme="released_gray", spacing_mm=spacing)


def test_png_without_pixel_size_gives_no_distances(slices, tmp_path):
    with pytest.warns(SpacingWarning, match="spacing_mm"):
        table, _ = evaluate(slices, tmp_path, scheme="released_gray")
    assert table["dice"].notna().all()
    assert table[["asd_mm", "hd95_mm", "nsd"]].isna().all(axis=None)


def test_prediction_in_four_classes_against_released_gray(slices, tmp_path):
    for path in slices[1].iterdir():
        write_png(path, spine(0, (1, 2, 3))[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SpacingWarning)
        table, _ = evaluate(slices, tmp_path, truth_scheme="released_gray")
    assert (table["dice"] == 1).all()


def test_files_with_spacing_keep_it(folders, tmp_path):
    plain, _ = evaluate(folders, tmp_path)
    given, _ = evaluate(folders, tmp_path, spacing_mm=(9.0, 9.0))
    pd.testing.assert_frame_equal(plain, given)


def test_single_slice_volumes_are_measured_in_2d(tmp_path):
    folders = tmp_path / "truth", tmp_path / "prediction"
    for folder, shift in zip(folders, (0, 1), strict=True):
        write_mha(folder / "5_t2.mha", spine(shift)[1:2])
    table, _ = evaluate(folders, tmp_path)
    expected = measure_case(spine()[1], spine(1)[1], SPACING[1:], [1], 1.0).iloc[0]
    assert table.loc[1, ["unit", "asd_mm", "nsd"]].tolist() == ["slice", expected["asd_mm"], expected["nsd"]]


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("12_t2_SPACE", "12"),
        ("12_t2_slice7", "12"),
        ("12", "12"),
        ("case01_t2", "case01_t2"),
        ("12b_t1", "12b_t1"),
    ],
)
def test_patient_of(case, patient):
    assert patient_of(case) == patient


# ----------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("side", [0, 1])
def test_missing_folder(folders, tmp_path, side):
    wrong = [*folders]
    wrong[side] = tmp_path / "nowhere"
    refused(wrong, tmp_path, "nowhere", "no such folder")


@pytest.mark.parametrize("side", [0, 1])
def test_empty_folder(folders, tmp_path, side):
    for path in folders[side].iterdir():
        path.rename(path.with_suffix(".txt"))
    refused(folders, tmp_path, str(folders[side]), "holds no mask", ".mha", ".png")


@pytest.mark.parametrize("side", [0, 1])
def test_unpaired_files(folders, tmp_path, side):
    (folders[side] / "12_t1.mha").unlink()
    (folders[side] / "40_t1.mha").unlink()
    refused(folders, tmp_path, str(folders[side]), "12_t1.mha, 40_t1.mha", "same names")


def test_many_unpaired_files_are_summed_up(folders, tmp_path):
    for number in range(50, 60):
        write_mha(folders[0] / f"{number}_t1.mha", spine())
    refused(folders, tmp_path, "54_t1.mha and 5 more")


def test_two_files_for_one_case(folders, tmp_path):
    write_png(folders[1] / "12_t1.png", spine()[1])
    refused(folders, tmp_path, "12_t1.png", "same case as 12_t1.mha")


@pytest.mark.parametrize("side", [0, 1])
def test_unknown_label(folders, tmp_path, side):
    mask = spine()
    mask[0, 0, :5] = 77
    write_mha(folders[side] / "40_t1.mha", mask)
    refused(folders, tmp_path, str(folders[side] / "40_t1.mha"), "77 (5 px)", "structures4")


@pytest.mark.parametrize(
    ("name", "geometry"),
    [
        ("size", {"array": np.pad(spine(), ((0, 0), (0, 1), (0, 0)))}),
        ("spacing", {"spacing": (3.3, 0.6, 0.95)}),
        ("origin", {"origin": (1.0, 2.0, 4.0)}),
        ("direction", {"direction": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)}),
    ],
)
def test_geometry_that_differs(folders, tmp_path, name, geometry):
    write_mha(folders[1] / "40_t1.mha", **({"array": spine()} | geometry))
    refused(folders, tmp_path, str(folders[1] / "40_t1.mha"), "differs", name)
    others = {"size", "spacing", "origin", "direction"} - {name}
    with pytest.raises(DataError) as caught:
        evaluate(folders, tmp_path)
    assert not any(f"{other} (" in str(caught.value) for other in others)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_unreadable_file(folders, tmp_path, side, content):
    path = folders[side] / "40_t1.mha"
    path.write_bytes(path.read_bytes()[:-500] if content is None else content)
    refused(folders, tmp_path, str(path))


def test_unreadable_png(slices, tmp_path):
    path = slices[1] / "40_t2_SPACE_slice7.png"
    path.write_bytes(path.read_bytes()[:60])
    refused(slices, tmp_path, str(path), scheme="released_gray")


def test_empty_ground_truth(folders, tmp_path):
    write_mha(folders[0] / "40_t1.mha", np.zeros_like(spine()))
    refused(folders, tmp_path, str(folders[0] / "40_t1.mha"), "empty")


def test_slices_and_volumes_do_not_mix(folders, tmp_path):
    for folder in folders:
        write_mha(folder / "50_t1.mha", spine()[1:2])
    refused(folders, tmp_path, "12_t1 (a volume)", "50_t1 (a slice)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "levels21"}, "levels21"),
        ({"scheme": "levels20", "truth_scheme": "structures4"}, "cannot be converted"),
        ({"tolerance_mm": -1.0}, "tolerance_mm"),
        ({"spacing_mm": (0.5, 0.0)}, "spacing_mm"),
        ({"spacing_mm": (0.5, 0.5, 0.5)}, "spacing_mm"),
        ({"spacing_mm": {"12": (0.5,)}}, "spacing_mm"),
    ],
)
def test_bad_options_are_refused_before_any_file_is_read(tmp_path, options, message):
    refused((tmp_path / "a", tmp_path / "b"), tmp_path, message, kind=KitError, **options)


def test_output_that_cannot_be_written(folders, tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        evaluate_folders(*folders, "structures4", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        evaluate_folders(*folders, "structures4", tmp_path / "file" / "scores.csv")


def test_a_failed_run_leaves_the_former_tables_alone(folders, tmp_path):
    evaluate(folders, tmp_path)
    before = (tmp_path / "out" / "scores.csv").read_bytes()
    (folders[1] / "40_t1.mha").write_bytes(b"")
    with pytest.raises(DataError):
        evaluate(folders, tmp_path)
    assert (tmp_path / "out" / "scores.csv").read_bytes() == before


# ------------------------------------------------------------------------------------------------------- the released slices


@pytest.fixture
def released(tmp_path) -> Path:
    """Released slices of two patients, 40 rows of pixels each; those of patient 8 were squeezed from 60."""
    root = tmp_path / "released"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for patient in (7, 8):
        mask = np.zeros((40, 32), np.uint8)
        mask[10:20, 5:25] = 76
        for folder, array in (("images", np.arange(40 * 32, dtype=np.uint16).reshape(40, 32).astype(np.uint8)), ("masks", mask)):
            Image.fromarray(array).save(root / folder / f"{patient}_t2_SPACE_slice1.png")
    (root / "cases.csv").write_text("patient,native_width,native_height\n7,32,40\n8,32,60\n", encoding="utf-8")
    predicted = tmp_path / "predicted"
    predicted.mkdir()
    for path in (root / "masks").iterdir():
        Image.fromarray(np.roll(np.asarray(Image.open(path)), 2, axis=0)).save(predicted / path.name)  # two rows too low
    return root


def evaluate_command(released: Path, *options: str):
    given = ["evaluate", "--truth", str(released / "masks"), "--pred", str(released.parent / "predicted")]
    return CliRunner().invoke(cli.app, [*given, "--scheme", "released_gray", "--out", str(released.parent / "a.csv"), *options])


def test_released_slices_have_the_pixel_sizes_of_their_patients(released):
    done = evaluate_command(released)
    assert done.exit_code == 0, done.output
    assert "pixel sizes: of each patient, by" in done.output
    hd95_mm = pd.read_csv(released.parent / "a.csv").query("`class` == 76").set_index("patient")["hd95_mm"]
    assert hd95_mm.to_dict() == pytest.approx({7: 2 * 0.46875, 8: 2 * 0.46875 * 1.5})


def test_one_pixel_size_for_squeezed_and_other_patients_is_refused(released):
    done = evaluate_command(released, "--spacing-mm", "0.46875", "0.46875")
    assert done.exit_code == 2 and "the pixels of 1 patients (8) have another size" in " ".join(done.output.split())
    assert not (released.parent / "a.csv").exists()
    (released / "cases.csv").write_text("patient,native_width,native_height\n7,32,40\n8,32,40\n", encoding="utf-8")
    assert evaluate_command(released, "--spacing-mm", "0.469", "0.469").exit_code == 0
    (released / "cases.csv").unlink()
    assert evaluate_command(released, "--spacing-mm", "0.3", "0.3").exit_code == 0, "a folder of pictures like any other"
