"""Verify: a sound root passes, and each fault is found alone and by name."""

import hashlib
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from spider_utils.data.manifest import RECEIPT, load_manifest
from spider_utils.data.mend import MENDED_FILE, write_mended
from spider_utils.data.sources import open_source
from spider_utils.data.verify import Finding, detect_kind, format_findings, verify
from spider_utils.errors import DataError, KitError
from spider_utils.files import sha256_of

CASES = ["2_t1", "2_t2", "10_t2_SPACE"]


def write_mha(path, array, spacing=(3.3, 0.9, 0.5), origin=(1.0, 2.0, 3.0), compress=False):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    sitk.WriteImage(image, str(path), compress)


def a_mask():
    mask = np.zeros((4, 6, 5), np.uint8)
    mask[1, :2], mask[1, 2:4], mask[1, 4], mask[2, 0, 0] = 1, 100, 201, 101
    return mask


def an_image():
    return np.random.default_rng(0).integers(0, 900, (4, 6, 5)).astype(np.int16)


def write_tables(root, cases=CASES):
    subset = ["validation" if case.startswith("10_") else "training" for case in cases]
    pd.DataFrame({"new_file_name": cases, "subset": subset, "Manufacturer": "Philips"}).to_csv(root / "overview.csv", index=False)
    columns = ["Patient", "IVD label", "Modic", "UP endplate", "Pfirrman grade"]
    rows = [(2, 1, 0, 1, 5), (2, 2, 3, 0, 1), (10, 1, 0, 0, 3)]
    pd.DataFrame(rows, columns=columns).to_csv(root / "radiological_gradings.csv", index=False)


@pytest.fixture
def root(tmp_path):
    """A sound phantom-like root of two patients and three series."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number, case in enumerate(CASES):
        write_mha(tmp_path / "images" / f"{case}.mha", an_image(), compress=number == 1)
        write_mha(tmp_path / "masks" / f"{case}.mha", a_mask(), compress=number != 1)
    write_tables(tmp_path)
    return tmp_path


def only(findings, level, path, *words):
    """Assert that there is exactly this one finding, and that it says these words."""
    assert [(f.level, f.path) for f in findings] == [(level, path)], format_findings(findings, "root")
    text = str(findings[0])
    assert all(word in text for word in words), text
    assert "\n" not in text and findings[0].fix


@pytest.mark.parametrize("deep", [True, False])
def test_a_sound_root_has_no_findings(root, deep):
    assert verify("phantom", root, deep=deep) == []
    assert format_findings([], root) == f"{root}: all is well"
    assert verify("phantom", root.parent / root.name, deep=deep, progress=True) == []


def test_images_may_lie_one_folder_down(root, tmp_path_factory):
    outer = tmp_path_factory.mktemp("outer")
    shutil.copytree(root, outer / "set")
    (outer / "set" / "masks" / "2_t2.mha").unlink()
    only(verify("phantom", outer), "error", "set/images/2_t2.mha", "has no mask of the same name")


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("case", ["2_t1", "2_t2"], ids=["raw", "compressed"])
def test_truncated_image(root, case, deep):
    path = root / "images" / f"{case}.mha"
    path.write_bytes(path.read_bytes()[:-40])
    findings = verify("phantom", root, deep=deep)
    if case == "2_t2" and not deep:
        assert findings == [], "a cut in compressed voxels shows only when they are read"
    else:
        words = "announces 240 bytes of voxels but the file holds 200" if case == "2_t1" else "cut or damaged"
        only(findings, "error", f"images/{case}.mha", words, "etch")


@pytest.mark.parametrize("deep", [True, False])
def test_header_that_promises_more_voxels_than_there_are(root, deep):
    path = root / "images" / "2_t1.mha"
    path.write_bytes(path.read_bytes().replace(b"DimSize = 5 6 4", b"DimSize = 5 6 9"))
    findings = verify("phantom", root, deep=deep)
    assert findings and all(f.level == "error" for f in findings)
    assert "images/2_t1.mha" in [f.path for f in findings]


@pytest.mark.parametrize("deep", [True, False])
def test_no_header_at_all(root, deep):
    (root / "images" / "2_t1.mha").write_bytes(b"")
    only(verify("phantom", root, deep=deep), "error", "images/2_t1.mha")


def test_nan_voxels(root):
    broken = an_image().astype(np.float32)
    broken[0, 0, :2] = np.nan
    write_mha(root / "images" / "2_t1.mha", broken)
    only(verify("phantom", root), "error", "images/2_t1.mha", "2 voxels are NaN")


def test_image_of_one_value(root):
    write_mha(root / "images" / "2_t1.mha", np.zeros((4, 6, 5), np.int16))
    only(verify("phantom", root), "error", "images/2_t1.mha", "every voxel has the same value")


@pytest.mark.parametrize(("spacing", "plane"), [((0.5, 0.9, 4.0), "axial"), ((0.5, 4.0, 0.9), "coronal")])
def test_series_of_another_plane(root, spacing, plane):
    for folder, array in (("images", an_image()), ("masks", a_mask())):
        write_mha(root / folder / "2_t1.mha", array, spacing=spacing)
    only(verify("phantom", root), "warning", "images/2_t1.mha", f"{plane} plane", "coarse")


def test_empty_mask(root):
    write_mha(root / "masks" / "2_t1.mha", np.zeros((4, 6, 5), np.uint8))
    only(verify("phantom", root), "error", "masks/2_t1.mha", "empty")


def test_unknown_label_is_named_with_its_count(root):
    mask = a_mask()
    mask[3, 0, :3] = 77
    write_mha(root / "masks" / "2_t1.mha", mask)
    only(verify("phantom", root), "error", "masks/2_t1.mha", "77 (3 px)")


def test_image_given_as_mask(root):
    shutil.copy(root / "images" / "2_t1.mha", root / "masks" / "2_t1.mha")
    only(verify("phantom", root), "error", "masks/2_t1.mha", "does not know")


@pytest.mark.parametrize("what", ["spacing", "origin"])
def test_mask_of_another_place(root, what):
    write_mha(root / "masks" / "2_t1.mha", a_mask(), **{what: (0.9, 0.7, 3.3) if what == "spacing" else (1.0, 2.0, 9.0)})
    only(verify("phantom", root), "error", "masks/2_t1.mha", what)


@pytest.mark.parametrize("deep", [True, False])
def test_mask_of_another_size(root, deep):
    write_mha(root / "masks" / "2_t1.mha", a_mask()[:, :, :4])
    only(verify("phantom", root, deep=deep), "error", "masks/2_t1.mha", "size")


@pytest.mark.parametrize(("lost", "kept", "what"), [("images", "masks", "image"), ("masks", "images", "mask")])
def test_unpaired(root, lost, kept, what):
    (root / lost / "2_t1.mha").unlink()
    only(verify("phantom", root), "error", f"{kept}/2_t1.mha", f"has no {what} of the same name")


def test_series_and_patients_that_are_missing(root):
    for folder in ("images", "masks"):
        (root / folder / "2_t1.mha").unlink()
    only(verify("phantom", root), "error", "images/2_t1.mha", "image and mask are missing")
    for folder in ("images", "masks"):
        (root / folder / "2_t2.mha").unlink()
    only(verify("phantom", root), "error", "images", "patient 2 is in overview.csv (2_t1, 2_t2) but has no files")


@pytest.mark.parametrize(("name", "words"), [("2_T1", "2_t1.mha"), ("02_t1", "2_t1.mha"), ("patient2", "not a series name")])
def test_mislabelled_pair_comes_with_advice(root, name, words):
    for folder in ("images", "masks"):
        (root / folder / "2_t1.mha").rename(root / folder / f"{name}.mha")
    findings = verify("phantom", root)
    assert {f.path for f in findings} == {f"images/{name}.mha", f"masks/{name}.mha", "images/2_t1.mha"}
    assert words in next(str(f) for f in findings if f.path == f"images/{name}.mha")


def test_file_that_the_table_does_not_know(root):
    for folder in ("images", "masks"):
        shutil.copy(root / folder / "2_t1.mha", root / folder / "33_t1.mha")
    findings = verify("phantom", root)
    assert [f.path for f in findings] == ["images/33_t1.mha", "masks/33_t1.mha"] and "not in overview.csv" in findings[0].problem


@pytest.mark.parametrize("table", ["overview.csv", "radiological_gradings.csv"])
def test_tables_that_are_missing_or_garbled(root, table):
    content = (root / table).read_bytes()
    (root / table).write_text("a,b\n1,2\n")
    only(verify("phantom", root), "error", table, "lacks the column(s)")
    (root / table).write_bytes(b"")
    only(verify("phantom", root), "error", table, "cannot be read as CSV")
    (root / table).unlink()
    only(verify("phantom", root), "error", table, "missing")
    (root / table).write_bytes(content)
    assert verify("phantom", root) == []


def add_row(path, row):
    path.write_text(path.read_text() + row + "\n")


@pytest.mark.parametrize(
    ("table", "row", "level", "words"),
    [
        ("overview.csv", "2_t1,training,Philips", "error", "lists 2_t1 more than once"),
        ("overview.csv", "two_t1,training,Philips", "error", "'two_t1' is not a series name"),
        ("radiological_gradings.csv", "10,0,0,0,1", "warning", "row 5 (patient 10) has the invalid IVD label 0"),
        ("radiological_gradings.csv", "2,1,0,0,1", "error", "grades disc 1 of patient 2 more than once"),
        ("radiological_gradings.csv", "2,3,0,0,6", "warning", "row 5 has Pfirrman grade 6, outside 1-5"),
        ("radiological_gradings.csv", "2,3,0,2,1", "warning", "row 5 has UP endplate 2, outside 0-1"),
        ("radiological_gradings.csv", "99,1,0,0,1", "error", "grades patient 99, who is not in overview.csv"),
    ],
)
def test_rows_that_cannot_be_right(root, table, row, level, words):
    add_row(root / table, row)
    only(verify("phantom", root), level, table, words)


def test_patient_without_gradings_and_patient_in_two_subsets(root):
    gradings = root / "radiological_gradings.csv"
    gradings.write_text("".join(line for line in gradings.read_text().splitlines(True) if not line.startswith("10,")))
    only(verify("phantom", root), "warning", "radiological_gradings.csv", "no gradings of patient 10")
    write_tables(root)
    (root / "overview.csv").write_text((root / "overview.csv").read_text().replace("2_t2,training", "2_t2,validation"))
    only(verify("phantom", root), "error", "overview.csv", "patient 2 is in training and validation")
    (root / "overview.csv").write_text(
        (root / "overview.csv").read_text().replace("training", "test").replace("validation", "test")
    )
    assert [f.problem for f in verify("phantom", root)] == ["patient 2 has subset 'test'", "patient 10 has subset 'test'"]


def test_leftovers_and_strangers(root):
    (root / "images.zip.partial").write_bytes(b"x")
    only(verify("phantom", root), "warning", "images.zip.partial", "cut download")
    (root / "images.zip.partial").unlink()
    (root / "images" / "notes.txt").write_text("x")
    only(verify("phantom", root), "warning", "images/notes.txt", "is no .mha file")
    shutil.rmtree(root / "images")
    findings = verify("phantom", root)
    assert any(f.path == "images" and "folder is missing" in f.problem for f in findings)


def test_receipt_of_the_download(root):
    paths = [f"{folder}/{case}.mha" for folder in ("images", "masks") for case in CASES]
    sums = [hashlib.sha256((root / path).read_bytes()).hexdigest() for path in paths]
    pd.DataFrame({"path": paths, "bytes": 1, "sha256": sums, "source": "x", "checked": "archive"}).to_csv(
        root / RECEIPT, index=False
    )
    assert verify("phantom", root) == []
    write_mha(root / "images" / "2_t1.mha", an_image() + np.int16(1))
    only(verify("phantom", root), "error", "images/2_t1.mha", sums[0])
    assert verify("phantom", root, deep=False) == []
    (root / "images" / "2_t1.mha").unlink()
    assert "was fetched but is missing now" in format_findings(verify("phantom", root), root)


def test_spider_tables_are_compared_with_the_published_sums(root):
    findings = verify("spider", root)
    assert [f.path for f in findings] == ["overview.csv", "radiological_gradings.csv"]
    assert load_manifest("spider").file("overview.csv").sha256 in findings[0].problem


def test_order_and_text(root):
    for case in CASES:
        write_mha(root / "masks" / f"{case}.mha", np.zeros((4, 6, 5), np.uint8))
    add_row(root / "radiological_gradings.csv", "10,0,0,0,1")
    findings = verify("phantom", root)
    assert [f.path for f in findings] == [
        "masks/2_t1.mha",
        "masks/2_t2.mha",
        "masks/10_t2_SPACE.mha",
        "radiological_gradings.csv",
    ]
    text = format_findings(findings, "ROOT").splitlines()
    assert text[0] == "ROOT: 3 error(s), 1 warning(s)" and text[1].startswith("error    masks/2_t1.mha: ") and len(text) == 5
    assert str(Finding("error", "a", "b", "C.")) == "error    a: b. C."


def test_kind_is_found_out_or_refused(root, tmp_path_factory):
    assert detect_kind(root) == "spider"
    (root / "phantom.json").write_text("{}")
    assert detect_kind(root) == "phantom" and verify(None, root) == []
    (root / "phantom.json").unlink()
    (root / "overview.csv").write_text((root / "overview.csv").read_text().replace("Philips", "Phantom"))
    assert detect_kind(root) == "phantom"
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DataError, match="holds neither"):
        verify(None, empty)
    for kind in (None, "spider", "spider-2d"):
        with pytest.raises(DataError, match="does not exist"):
            verify(kind, empty / "nowhere")
    with pytest.raises(KitError, match=r"unknown kind of data 'brats'\. Known are: phantom, spider, spider-2d, rsna"):
        verify("brats", root)


# ---- the released 2D slices -------------------------------------------------------------------------------------------

SLICES = [f"300_t2_SPACE_slice{n}" for n in (9, 10)] + ["301_t2_SPACE_slice4"]  # patients that the release does not have


@pytest.fixture
def slices(tmp_path):
    """A sound root of three slices of two patients, one of them RGBA."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number, stem in enumerate(SLICES):
        gray = Image.fromarray(rng.integers(0, 256, (12, 10)).astype(np.uint8))
        (gray.convert("RGBA") if number == 0 else gray).save(tmp_path / "images" / f"{stem}.png")
        mask = np.repeat(np.uint8([0, 29, 76, 150]), 3)[:, None].repeat(10, axis=1)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{stem}.png")
    pd.DataFrame({"patient": [300, 301], "native_width": 10, "native_height": [12, 14]}).to_csv(
        tmp_path / "cases.csv", index=False
    )
    return tmp_path


def of_slices(root, **options):
    """Findings but for the one that always stands here: three slices are not the whole release."""
    findings = verify("spider-2d", root, **options)
    share = [f for f in findings if "of the 853 released slices" in f.problem]
    assert len(share) == 1 and share[0].level == "warning"
    return [f for f in findings if f not in share]


@pytest.mark.parametrize("deep", [True, False])
def test_sound_slices(slices, deep):
    assert of_slices(slices, deep=deep) == [] and detect_kind(slices) == "spider-2d"


def test_slices_that_cannot_be_read_or_do_not_fit(slices):
    path = slices / "images" / f"{SLICES[1]}.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:-60])
    only(of_slices(slices), "error", f"images/{SLICES[1]}.png", "cannot be read as PNG")
    path.write_bytes(b"")
    only(of_slices(slices, deep=False), "error", f"images/{SLICES[1]}.png", "cannot be read as PNG")
    Image.fromarray(np.arange(110, dtype=np.uint8).reshape(11, 10)).save(path)
    only(of_slices(slices, deep=False), "error", f"masks/{SLICES[1]}.png", "size (10, 12) differs from the image's (10, 11)")
    Image.fromarray(np.zeros((12, 10), np.uint8)).save(path)
    only(of_slices(slices), "error", f"images/{SLICES[1]}.png", "same value")


def test_slice_masks(slices):
    path = slices / "masks" / f"{SLICES[1]}.png"
    Image.fromarray(np.zeros((12, 10), np.uint8)).save(path)
    only(of_slices(slices), "error", f"masks/{SLICES[1]}.png", "empty")
    Image.fromarray(np.full((12, 10), 77, np.uint8)).save(path)
    only(of_slices(slices), "error", f"masks/{SLICES[1]}.png", "77 (120 px)")
    path.unlink()
    only(of_slices(slices), "error", f"images/{SLICES[1]}.png", "has no mask of the same name")


def test_slice_names(slices):
    for folder in ("images", "masks"):
        (slices / folder / f"{SLICES[1]}.png").rename(slices / folder / "300_slice10.png")
    only(of_slices(slices), "error", "images/300_slice10.png", "its name does not follow the layout")


def test_native_sizes(slices):
    (slices / "cases.csv").write_text("patient,native_width,native_height\n300,10,12\n302,10,12\n")
    findings = of_slices(slices)
    assert [(f.level, f.path) for f in findings] == [("error", "images"), ("warning", "cases.csv")]
    assert "patient 302" in findings[0].problem and "patient 301" in findings[1].problem
    (slices / "cases.csv").write_text("patient,width\n300,10\n")
    only(of_slices(slices), "error", "cases.csv", "native_width, native_height")
    (slices / "cases.csv").unlink()
    only(of_slices(slices), "warning", "cases.csv", "native sizes are not known")


def test_released_slices_are_compared_with_their_sums(slices):
    """A slice under a released name but with other bytes, and the patient's other slices absent."""
    for folder in ("images", "masks"):
        (slices / folder / f"{SLICES[2]}.png").rename(slices / folder / "5_t2_SPACE_slice49.png")
    (slices / "cases.csv").write_text("patient,native_width,native_height\n300,10,12\n5,10,12\n")
    findings = of_slices(slices)
    changed = [f.path for f in findings if "has sha256" in f.problem]
    absent = [f.path for f in findings if "this slice and its mask are missing" in f.problem]
    assert changed == ["images/5_t2_SPACE_slice49.png", "masks/5_t2_SPACE_slice49.png"]
    assert absent == [f"images/5_t2_SPACE_slice{n}.png" for n in range(50, 67)] and len(findings) == 19


def test_discs_lined_with_canal_are_told_and_a_mended_copy_is_sound(slices, tmp_path_factory):
    path = slices / "masks" / f"{SLICES[2]}.png"
    mask = np.asarray(Image.open(path)).copy()
    mask[2, 1:4] = mask[2, 6:9] = 150  # on top of the disc
    Image.fromarray(mask).save(path)
    problem = "of 1 patients line discs with 2 thin pieces of canal: 301_t2_SPACE"
    only(of_slices(slices), "warning", "masks", problem)
    assert of_slices(slices, deep=False) == []
    copy = write_mended(open_source("spider-2d", slices), tmp_path_factory.mktemp("copy") / "mended")
    assert of_slices(copy) == []


def test_masks_that_were_mended_have_checksums_of_their_own(slices, tmp_path_factory, monkeypatch):
    path = slices / "masks" / f"{SLICES[2]}.png"
    mask = np.asarray(Image.open(path)).copy()
    mask[2, 1:4] = 150
    Image.fromarray(mask).save(path)
    names = [f"{folder}/{stem}.png" for folder in ("images", "masks") for stem in SLICES]
    manifest = SimpleNamespace(sums={name: sha256_of(slices / name) for name in names}, facts={"slices": 853})
    monkeypatch.setattr("spider_utils.data.verify.load_manifest", lambda name: manifest)
    copy = write_mended(open_source("spider-2d", slices), tmp_path_factory.mktemp("copy") / "mended")
    assert of_slices(copy) == []
    Image.fromarray(mask).save(copy / "masks" / f"{SLICES[2]}.png")
    assert [f.path for f in of_slices(copy) if "sha256" in f.problem] == [f"masks/{SLICES[2]}.png"], "put back by hand"
    (slices / MENDED_FILE).write_text('{"canal_made_background": 7}', encoding="utf-8")
    only(of_slices(slices, deep=False), "error", MENDED_FILE, "does not say which series")
