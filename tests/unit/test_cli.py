"""The command: exit statuses, one-line errors, examples in --help."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from typer.testing import CliRunner

from spider_utils import cli
from spider_utils.cli.common import SchemeName, write_table
from spider_utils.cli.data import PhantomKind, data_phantom
from spider_utils.data.augment import AUGMENTS
from spider_utils.data.volumes import read_volume, write_volume
from spider_utils.errors import DataError
from spider_utils.labels import SCHEMES
from spider_utils.locks import file_lock
from spider_utils.mask_table import MaskTable
from spider_utils.measure.levels import name_levels
from spider_utils.models import available_models
from spider_utils.models.shipped import shipped
from spider_utils.training.checkpoints import read_card
from spider_utils.training.losses import LOSSES
from tests.known_labels import box_spine

COMMANDS = [
    ("data", "phantom"), ("data", "fetch"), ("data", "verify"), ("data", "reorient"), ("data", "export-slices"),
    ("course",), ("run-notebook",), ("train",), ("rerun",), ("predict",), ("evaluate",), ("audit",), ("levels",), ("measure",),
    ("centres",),
    ("medfusion", "table"), ("medfusion", "protocol"), ("ahmed", "ladder"), ("ahmed", "choices"),
    ("triplanar", "train"), ("triplanar", "tables"), ("triplanar", "axial", "train"), ("triplanar", "axial", "tables"),
    ("classify", "labels"), ("classify", "train"), ("classify", "score"),
    ("gradings", "table"), ("gradings", "models"), ("gradings", "herniation"),
    ("export", "seg"), ("export", "colors"), ("export", "onnx"),
    ("weights", "list"), ("weights", "figure"), ("weights", "make"), ("weights", "score"), ("weights", "names"),
    ("weights", "ladder"), ("weights", "sizes"), ("weights", "limits"), ("weights", "pack"), ("weights", "tidy"),
    ("weights", "trust"),
]  # fmt: skip


def kit(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "spider_utils.cli", *arguments]
    return subprocess.run(command, cwd=cwd, text=True, capture_output=True, timeout=300)


def mask_file(path: Path, value: int, spacing: tuple[float, float, float] = (1, 1, 1)) -> None:
    array = np.zeros((4, 8, 8), np.uint8)
    array[1:3, 2:6, 2:6] = value
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(image, str(path))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_an_example(command: tuple[str, ...]) -> None:
    said = kit(*command, "--help")
    assert said.returncode == 0
    assert "Example: spider-kit " + " ".join(command) in re.sub(r"\s+", " ", said.stdout)


def test_label_schemes_are_named_in_the_help_and_others_refused(tmp_path) -> None:
    assert [one.value for one in SchemeName] == list(SCHEMES)
    refused = kit("export", "colors", "levels", "--out", str(tmp_path / "tables"))
    assert refused.returncode == 2 and "levels20" in refused.stderr and not (tmp_path / "tables").exists()


def test_help_of_train_names_every_choice() -> None:
    words = re.findall(r"[\w.]*\w", CliRunner().invoke(cli.app, ["train", "--help"], env={"COLUMNS": "1000"}).stdout)
    assert set(words) >= {*AUGMENTS, *LOSSES, *available_models()}


@pytest.mark.parametrize(
    "arguments",
    [
        ("frobnicate",),
        ("predict",),
        ("evaluate", "--truth", "a"),
        ("course", "--profile", "huge"),
        ("data", "phantom", "--patients", "0", "--out", "x"),
    ],
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...]) -> None:
    said = kit(*arguments)
    assert said.returncode == 2
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    ("kind", "maker"),
    [
        ("spider", "spider_utils.data.phantom.generate_dataset"),
        ("ivd", "spider_utils.data.phantom.isotropic.generate_disc_set"),
        ("axial", "spider_utils.data.phantom.axial_set.generate_axial_set"),
        ("rsna", "spider_utils.data.phantom.rsna.generate_rsna_set"),
    ],
)
def test_a_phantom_is_made_under_the_lock_that_the_course_asks_for(tmp_path, monkeypatch, kind: str, maker: str) -> None:
    monkeypatch.chdir(tmp_path)
    asked = []

    def course_starts(out: Path, *_: object, **__: object) -> Path:
        with pytest.raises(DataError, match="is making it right now"), file_lock(tmp_path / "set.lock", "is making it"):
            pass
        asked.append(out)
        return out

    monkeypatch.setattr(maker, course_starts)
    data_phantom(Path("set"), kind=PhantomKind(kind))
    assert asked == [Path("set")] and not list(tmp_path.iterdir())


def test_a_phantom_of_discs(tmp_path: Path) -> None:
    out = tmp_path / "ivd"
    said = kit("data", "phantom", "--kind", "ivd", "--size", "small", "--patients", "1", "--jobs", "1", "--out", str(out))
    assert said.returncode == 0 and str(out) in said.stdout, said.stderr
    assert sitk.ReadImage(str(out / "01" / "01_wat.nii.gz")).GetSpacing() == (2.5, 2.5, 2.5)


def test_phantom_studies_and_their_check(tmp_path: Path) -> None:
    out = tmp_path / "rsna"
    said = kit("data", "phantom", "--kind", "rsna", "--size", "small", "--patients", "1", "--jobs", "1", "--out", str(out))
    assert said.returncode == 0 and str(out) in said.stdout, said.stderr
    assert len(list(out.glob("train_images/*/*"))) == 3
    said = kit("data", "verify", str(out))
    assert said.returncode == 0 and said.stdout.splitlines()[-1] == f"{out}: all is well"
    next(out.glob("train_images/*/*/1.dcm")).unlink()
    points = out / "train_label_coordinates.csv"
    lines = points.read_text().splitlines()
    points.write_text("\n".join([lines[0], lines[1].replace("L1/L2", "L9"), *lines[2:]]) + "\n")
    said = kit("data", "verify", str(out), "--kind", "rsna")
    assert said.returncode == 1
    assert "error    train_label_coordinates.csv row 2: unknown level: 'L9' is no known level. Known are l1_l2" in said.stdout


def assert_one_line_error(said: subprocess.CompletedProcess, *wanted: str) -> None:
    assert said.returncode == 1, said.stdout + said.stderr
    errors = [line for line in said.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in said.stderr, said.stderr
    for text in wanted:
        assert text in errors[0]


def run_reorient(image: Path, orientation: str, out: Path):
    return CliRunner().invoke(cli.app, ["data", "reorient", str(image), "--orientation", orientation, "--out", str(out)])


@pytest.mark.parametrize(("orientation", "suffix"), [("PIR", ".mha"), ("pil", ".nii.gz")])
def test_a_copy_with_a_header_that_tells_the_truth(tmp_path: Path, orientation: str, suffix: str) -> None:
    """Sagittal slices stored with the identity as direction, as in some public sets."""
    voxels = np.arange(5 * 8 * 6, dtype=np.int16).reshape(5, 8, 6)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((1.25, 1.5, 4.0))
    sitk.WriteImage(image, str(tmp_path / "lying.mha"))
    assert read_volume(tmp_path / "lying.mha").acquired_plane == "axial"
    done = run_reorient(tmp_path / "lying.mha", orientation, tmp_path / f"true{suffix}")
    assert done.exit_code == 0, done.output
    found = read_volume(tmp_path / f"true{suffix}")
    assert found.acquired_plane == "sagittal"
    np.testing.assert_allclose(found.spacing, (4.0, 1.5, 1.25), rtol=1e-6)
    np.testing.assert_array_equal(found.array, voxels if orientation == "PIR" else voxels[::-1])


def test_reorient_errors(tmp_path: Path) -> None:
    path = tmp_path / "scan.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((3, 4, 5), np.int16)), str(path))
    before = path.read_bytes()
    for orientation, out, words in (("PIP", "new.mha", "not an orientation"), ("PIR", "scan.mha", "overwrite the image")):
        done = run_reorient(path, orientation, tmp_path / out)
        assert done.exit_code == 2 and words in " ".join(done.output.split()), done.output
    assert path.read_bytes() == before and not (tmp_path / "new.mha").exists()


def test_evaluate(tmp_path: Path) -> None:
    mask_file(tmp_path / "truth" / "1_t2.mha", 201)
    mask_file(tmp_path / "pred" / "1_t2.mha", 3)
    out = tmp_path / "scores.csv"
    said = kit("evaluate", "--truth", str(tmp_path / "truth"), "--pred", str(tmp_path / "pred"), "--scheme", "structures4",
               "--truth-scheme", "spider", "--out", str(out))  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert out.is_file() and (tmp_path / "scores_summary.csv").is_file()
    assert "disc" in said.stdout and "1.000" in said.stdout


@pytest.mark.parametrize(
    ("pred_name", "pred_value", "spacing", "wanted"),
    [
        ("2_t2.mha", 3, (1, 1, 1), "1_t2"),
        ("1_t2.mha", 77, (1, 1, 1), "77"),
        ("1_t2.mha", 3, (1, 2, 1), "spacing"),
    ],
    ids=["unpaired", "unknown label", "other geometry"],
)
def test_evaluate_errors(tmp_path: Path, pred_name: str, pred_value: int, spacing: tuple, wanted: str) -> None:
    mask_file(tmp_path / "truth" / "1_t2.mha", 1)
    mask_file(tmp_path / "pred" / pred_name, pred_value, spacing)
    said = kit("evaluate", "--truth", str(tmp_path / "truth"), "--pred", str(tmp_path / "pred"), "--scheme", "structures4",
               "--out", str(tmp_path / "scores.csv"))  # fmt: skip
    assert_one_line_error(said, wanted, str(tmp_path))
    assert not list(tmp_path.glob("*.csv"))


def test_levels(tmp_path: Path) -> None:
    array = np.zeros((3, 60, 40), np.uint8)
    for top in (4, 24, 44):
        array[:, top : top + 5, 10:34] = 3
    image = sitk.GetImageFromArray(array)
    image.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation("PIR"))
    image.SetSpacing((1.5, 1.5, 4.0))
    sitk.WriteImage(image, str(tmp_path / "mask.mha"))
    said = kit("levels", str(tmp_path / "mask.mha"), "--out", str(tmp_path / "levels.mha"))
    assert said.returncode == 0, said.stderr
    assert "discs from below: L5/S1, L4/L5, L3/L4" in said.stdout and str(tmp_path / "levels.mha") in said.stdout
    assert "LevelResult" not in said.stdout
    written = sitk.ReadImage(str(tmp_path / "levels.mha"))
    assert written.GetSpacing() == image.GetSpacing() and written.GetDirection() == image.GetDirection()
    assert [int(v) for v in sitk.GetArrayFromImage(written)[1, (6, 26, 46), 20]] == [203, 202, 201]
    table = pd.read_csv(tmp_path / "levels.csv")
    assert table["name"].tolist() == ["L5/S1", "L4/L5", "L3/L4"] and table["row_mm"].tolist() == [
        69.0,
        39.0,
        9.0,
    ]  # 1.5 mm pixels


def test_levels_of_a_slice_as_png(tmp_path: Path) -> None:
    array = np.zeros((60, 40), np.uint8)
    for top in (4, 24, 44):
        array[top : top + 5, 10:34] = 29  # discs in the gray masks that the authors of `ahmed` released
    Image.fromarray(array).save(tmp_path / "slice.png")
    said = kit(
        "levels", str(tmp_path / "slice.png"), "--out", str(tmp_path / "out.png"), "--scheme", "released_gray",
        "--spacing-mm", "1.5", "1.5",
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert [int(v) for v in np.asarray(Image.open(tmp_path / "out.png"))[(6, 26, 46), 20]] == [203, 202, 201]
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["size_mm2"].tolist() == [270.0] * 3  # 5 x 24 pixels of 2.25 mm2
    assert said.stderr == ""
    said = kit("levels", str(tmp_path / "slice.png"), "--out", str(tmp_path / "out.png"), "--scheme", "released_gray")
    assert said.stderr.startswith("warning: ") and "1 x 1 mm" in said.stderr and said.stderr.count("\n") == 1
    assert pd.read_csv(tmp_path / "out.csv")["size_mm2"].tolist() == [120.0] * 3


@pytest.mark.parametrize("name", ["mask.mha", "mask.nii.gz", "mask.nrrd"])
def test_levels_refuse_a_pixel_size_where_the_file_tells_its_own(tmp_path: Path, name: str) -> None:
    mask_file(tmp_path / name, 3, (1.5, 1.25, 4))
    said = kit("levels", str(tmp_path / name), "--out", str(tmp_path / "out.mha"), "--spacing-mm", "0.5", "0.5")
    assert_one_line_error(said, name, "tells its own voxel size", "--spacing-mm", ".png")
    assert not (tmp_path / "out.mha").exists()


def test_pixel_sizes_joined_by_a_comma_say_what_to_write() -> None:
    said = kit("levels", "mask.png", "--spacing-mm", "0.6,0.6", "--out", "out.mha")
    assert said.returncode == 2 and "two numbers with a space between" in said.stderr
    assert "--spacing-mm ROW COLUMN" in kit("evaluate", "--help").stdout


def test_an_unknown_classifier_is_refused_before_any_work(tmp_path: Path) -> None:
    said = kit("classify", "train", "--network", "resnet18", cwd=tmp_path)
    assert said.returncode == 2 and "resnet18" in said.stderr and "resnet50" in said.stderr
    assert not any(tmp_path.iterdir())


def test_levels_errors(tmp_path: Path) -> None:
    mask_file(tmp_path / "mask.mha", 77)
    assert_one_line_error(
        kit("levels", str(tmp_path / "mask.mha"), "--out", str(tmp_path / "out.mha")), "mask.mha: ", "77", "right one"
    )
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(256, dtype=np.uint8).reshape(4, 8, 8)), str(tmp_path / "image.mha"))
    said = kit("levels", str(tmp_path / "image.mha"), "--out", str(tmp_path / "out.mha"))
    assert_one_line_error(said, "image.mha: ", "is this an image instead of a mask?")
    mask_file(tmp_path / "mask.mha", 2)
    assert_one_line_error(kit("levels", str(tmp_path / "mask.mha"), "--out", str(tmp_path / "out.mha")), "nothing to number")
    said = kit("levels", str(tmp_path / "mask.mha"), "--out", str(tmp_path / "out.mha"), "--scheme", "clamped20")
    assert_one_line_error(said, "clamped20", "one class")
    said = kit("levels", str(tmp_path), "--out", str(tmp_path / "out.mha"))
    assert said.returncode == 2 and "is a directory" in said.stderr
    assert not (tmp_path / "out.mha").exists()


def test_measure(tmp_path: Path) -> None:
    # Two bodies of 30 x 36 mm, 9 mm apart, a disc between them, 1.5 mm pixels; a picture in which the disc is half as bright.
    mask, picture = np.zeros((5, 70, 60), np.uint8), np.full((5, 70, 60), 100, np.int16)
    mask[:, 8:28, 10:34], mask[:, 28:34, 10:34], mask[:, 34:54, 10:34], mask[:, 4:60, 36:44] = 2, 202, 1, 100
    picture[mask == 202] = 50
    for name, array in (("mask", mask), ("image", picture)):
        image = sitk.GetImageFromArray(array)
        image.SetDirection(sitk.DICOMOrientImageFilter.GetDirectionCosinesFromOrientation("PIR"))
        image.SetSpacing((1.5, 1.5, 4.0))
        sitk.WriteImage(image, str(tmp_path / f"{name}.mha"))
    out = tmp_path / "table.csv"
    said = kit("measure", str(tmp_path / "mask.mha"), "--image", str(tmp_path / "image.mha"), "--out", str(out))
    assert said.returncode == 0, said.stderr
    assert "disc height middle [mm]" in said.stdout and "not measurable" in said.stdout and str(out) in said.stdout
    table = pd.read_csv(out).set_index(["level", "quantity"])["value"]
    assert table["L4/L5", "disc height middle"] == pytest.approx(9, abs=0.1)
    assert table["L4", "body height anterior"] == pytest.approx(30, abs=0.1)
    assert table["L4/L5", "canal diameter"] == pytest.approx(12, abs=0.2)
    assert table["L4/L5", "disc signal over marrow"] == pytest.approx(0.5)
    Image.fromarray(mask[2]).save(tmp_path / "slice.png")
    assert_one_line_error(kit("measure", str(tmp_path / "slice.png")), "slice.png", "no pixel size", "--spacing-mm ROW COLUMN")
    said = kit("measure", str(tmp_path / "slice.png"), "--spacing-mm", "1.5", "1.5")
    assert said.returncode == 0 and "9.00" in said.stdout and "single slice" in said.stdout


def test_gradings_of_a_table(tmp_path: Path) -> None:
    from spider_utils.data.phantom import make_anatomy

    table = pd.concat([make_anatomy(seed).gradings(seed + 1, [1, 2, 3]) for seed in range(8)])
    table.to_csv(tmp_path / "radiological_gradings.csv", index=False)
    said = kit("gradings", "table", str(tmp_path), "--out", str(tmp_path / "out"))
    assert said.returncode == 0, said.stderr
    assert "Pfirrmann grade 4 to 5" in said.stdout and "level and other findings" in said.stdout
    assert len(pd.read_csv(tmp_path / "out" / "co-occurrence.csv")) == 56
    table[table["Patient"] == 1].to_csv(tmp_path / "radiological_gradings.csv", index=False)
    said = kit("gradings", "table", str(tmp_path), "--out", str(tmp_path / "one"))
    assert said.returncode == 0 and "Pfirrmann grade 4 to 5" in said.stdout and "not predicted" in said.stdout, said.stderr
    assert (tmp_path / "one" / "prevalence.csv").is_file() and not (tmp_path / "one" / "predicted-from-the-table.csv").exists()


def test_gradings_models_say_what_was_left_out(tmp_path: Path) -> None:
    from spider_utils.data.phantom import generate_dataset

    generate_dataset(tmp_path / "set", 3, seed=12, jobs=1, size="small")
    path = tmp_path / "set" / "radiological_gradings.csv"
    path.write_bytes(path.read_bytes() + b"1,0,0,0,0,0,0,0,0,1\r\n99,1,0,0,0,0,0,0,0,1\r\n")
    said = kit("gradings", "models", "--root", str(tmp_path / "set"), "--out", str(tmp_path / "out"))
    assert said.returncode == 0, said.stderr
    assert "mistakes in the table" in said.stdout and "IVD label 0 of patient 1" in said.stdout
    assert re.search(r"\d+ graded discs of 3 patients; [0-9] without a measurement", said.stdout)
    assert set(pd.read_csv(tmp_path / "out" / "gains.csv")["base"]) == {"level alone", "measurements"}


def test_gradings_errors(tmp_path: Path) -> None:
    assert_one_line_error(kit("gradings", "table", str(tmp_path)), "radiological_gradings.csv", "missing")
    assert_one_line_error(kit("gradings", "herniation", "--root", str(tmp_path), "--out", str(tmp_path / "o")), "images")
    assert_one_line_error(kit("gradings", "models", "--root", str(tmp_path)), "--root needs --out")
    for name in ("images", "masks"):
        mask_file(tmp_path / name / "1_t2.mha", 1)
    assert_one_line_error(kit("gradings", "herniation", "--root", str(tmp_path), "--out", str(tmp_path / "o")), "phantom.json")
    assert not (tmp_path / "o").exists(), "what is no phantom must be refused before it is measured"


def test_measure_tells_what_was_said_against_the_mask_when_it_was_predicted(tmp_path: Path) -> None:
    image, classes = box_spine()
    write_volume(image.with_array(name_levels(classes, image.spacing).mask), tmp_path / "mask.mha")
    row = {
        "image": "a.mha",
        "network": "",
        "scheme": "spider",
        "doubtful": "no",
        "agreement": 0.9,
        "vertebrae": "",
        "notes": "good",
    }
    for doubtful in ("no", "yes"):
        table = MaskTable(tmp_path)
        table.write(tmp_path / "mask.mha", lambda: None, row | {"doubtful": doubtful, "notes": "A crop of 3 x 4 mm."})
        said = kit("measure", str(tmp_path / "mask.mha"))
        assert said.returncode == 0 and "chosen on made-up patients" in said.stdout
        assert ("said to be doubtful: A crop of 3 x 4 mm." in said.stdout) == (doubtful == "yes")
    told = kit("levels", str(tmp_path / "mask.mha"), "--scheme", "spider", "--out", str(tmp_path / "levels" / "mask.mha"))
    assert told.returncode == 0 and "said to be doubtful: A crop of 3 x 4 mm." in told.stdout
    (tmp_path / "predicted-masks.csv").write_text("mask;image")
    said = kit("measure", str(tmp_path / "mask.mha"), "--out", str(tmp_path / "sizes.csv"))
    assert said.returncode == 0 and "is not a table that predict wrote" in said.stdout and (tmp_path / "sizes.csv").is_file()


def test_measure_errors(tmp_path: Path) -> None:
    (tmp_path / "levels.csv").write_text("component,level\ndisc,1\n")
    assert_one_line_error(kit("measure", str(tmp_path / "levels.csv")), "levels.csv", "is no image", ".mha")
    mask_file(tmp_path / "mask.mha", 77)
    assert_one_line_error(kit("measure", str(tmp_path / "mask.mha")), "77", "spider")
    mask_file(tmp_path / "mask.mha", 1)
    said = kit("measure", str(tmp_path / "mask.mha"), "--scheme", "structures4")
    assert_one_line_error(said, "mask.mha: ", "without levels")
    assert "MASK" not in said.stderr
    mask_file(tmp_path / "image.mha", 1, (2, 1, 1))
    said = kit("measure", str(tmp_path / "mask.mha"), "--image", str(tmp_path / "image.mha"))
    assert_one_line_error(said, "geometry differs", "spacing")


def test_predict_errors(tmp_path: Path) -> None:
    assert_one_line_error(kit("predict", str(tmp_path / "no.mha"), "--out", str(tmp_path / "out")), "no.mha", "does not exist")
    mask_file(tmp_path / "in" / "scan.mha", 1)
    said = kit("predict", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--model", str(tmp_path / "none"), cwd=tmp_path)
    assert_one_line_error(said, "no trained model")
    said = kit("predict", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--model", "newest", cwd=tmp_path)
    assert_one_line_error(said, "no trained model")
    assert not (tmp_path / "out").exists()


def test_predict_takes_what_comes_with_the_kit_by_itself_and_says_which(tmp_path: Path) -> None:
    mask_file(tmp_path / "scan.mha", 1, (3, 1, 1))
    Image.fromarray(np.arange(64 * 40, dtype=np.uint8).reshape(64, 40)).save(tmp_path / "slice.png")
    for name, network in {"scan.mha": "levels20", "slice.png": "structures4"}.items():
        said = kit("predict", str(tmp_path / name), "--out", str(tmp_path / "out"), cwd=tmp_path)
        what = read_card(shipped()[network])["what"].rstrip(".")
        advice = " with a second opinion of structures4" if network == "levels20" else ""
        assert f"model: {network}{advice}, masks in scheme {network}. {what}\n" in said.stdout, said.stderr
        assert said.stdout.rstrip().split("\n")[-1].startswith("not a medical device")
        assert (tmp_path / "out" / name).is_file()


def test_real_data_needs_a_root(tmp_path: Path) -> None:
    assert_one_line_error(kit("train", "--data", "spider", cwd=tmp_path), "ROOT")


def test_export_slices_wants_both_sizes(tmp_path: Path) -> None:
    assert kit("data", "export-slices", "--out", str(tmp_path / "out"), "--rows", "32").returncode == 2


@pytest.mark.parametrize("text", ["widths=3", "[16, 32]"])
def test_options_of_an_architecture_are_a_json_object(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPIDER_KIT_HOME", str(tmp_path))
    said = CliRunner().invoke(cli.app, ["train", "--profile", "smoke", "--options", text])
    assert said.exit_code == 2 and "--options" in said.output and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "unetr", "--crop-columns", "32"], "'unetr' sees volumes: it has no --crop-columns"),
        (["--model", "unet", "--preparation", "as_printed"], "'unet' sees slices: it has no --preparation"),
        (["--model", "unet", "--slices", "32"], "'unet' sees slices: it has no --slices"),
        (["--model", "unetr", "--rows", "64", "--columns", "64"], "give --slices, --rows and --columns together"),
    ],
)
def test_options_of_slices_and_volumes_are_told_apart(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SPIDER_KIT_HOME", str(tmp_path))
    said = CliRunner().invoke(cli.app, ["train", "--profile", "smoke", *arguments])
    assert said.exit_code == 2 and message in " ".join(said.output.split()) and not any(tmp_path.iterdir())


@pytest.mark.parametrize(("rank", "said"), [(None, True), ("0", True), ("1", False)])
def test_train_in_several_processes_is_told_once(
    rank: str | None, said: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`--processes` is passed on; of processes that torchrun started, the first alone scores and speaks."""
    asked = []

    def launched(trained: object, processes: int) -> tuple[None, SimpleNamespace]:
        asked.append(processes)
        return None, SimpleNamespace(folder=Path("runs/smoke-x"))

    monkeypatch.setattr("spider_utils.training.launch.train_on_all_gpus", launched)
    monkeypatch.setenv("SPIDER_KIT_HOME", str(tmp_path))
    for name, value in {} if rank is None else {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    found = CliRunner().invoke(cli.app, ["train", "--profile", "smoke", "--processes", "2", "--no-score"])
    lines = [
        "note: smoke-x was trained in profile smoke: its masks mean nothing",
        "next: spider-kit predict SCAN --out masks --model smoke-x",
        "runs/smoke-x",
    ]
    assert (found.exit_code, found.output.splitlines(), asked) == (0, lines if said else [], [2])


def test_a_split_file_must_exist(tmp_path: Path) -> None:
    said = kit("train", "--split", "none.csv", cwd=tmp_path)
    assert_one_line_error(said, "none.csv", "is not a split")


def test_run_notebook_names_the_notebook_that_is_missing(tmp_path: Path) -> None:
    said = kit("run-notebook", "none.ipynb", "out.ipynb", cwd=tmp_path)
    assert_one_line_error(said, "none.ipynb", "does not exist")


@pytest.mark.parametrize("error", ["DefaultCPUAllocator: can't allocate memory", "CUDA out of memory. Tried to allocate 2 GiB"])
def test_no_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, error: str) -> None:
    def fail() -> None:
        raise RuntimeError(error)

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    assert capsys.readouterr().err.startswith("error: not enough memory")


def test_other_failures_of_the_program_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(RuntimeError, match="mistake"):
        cli.main()


def test_a_table_that_replaces_another_one_says_so(tmp_path: Path) -> None:
    path, table = tmp_path / "out" / "ladder.csv", pd.DataFrame({"rung": ["printed"], "mean": [0.5]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_table(path, table)
        write_table(path, table)  # the same once more
    with pytest.warns(UserWarning, match="ladder.csv held another table, which is replaced; give --out another folder"):
        write_table(path, table.assign(mean=0.6))
    assert pd.read_csv(path)["mean"].tolist() == [0.6]
