"""Fixtures that many tests share: small made-up series, data roots in every layout, and the way to the real MRI."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from PIL import Image

from spider_utils.data.volumes import Volume, kit_direction, write_volume
from spider_utils.models import shipped as models_shipped

settings.register_profile("kit", max_examples=40, deadline=None, derandomize=True)
settings.load_profile("kit")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real MRI (see the marker ``real_data``)."""
    return real_data_folder()


def real_data_folder() -> Path:
    return Path(os.environ.get("SPIDER_TEST_DATA", REPOSITORY.parent / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``real_data("folder", ...)`` run where those folders are, and say what is missing where they are not."""
    for item in items:
        for marker in item.iter_markers("real_data"):
            missing = [name for name in marker.args if not (real_data_folder() / name).is_dir()]
            if missing or not real_data_folder().is_dir():
                place = "../shared/data beside the checkout" if "SPIDER_TEST_DATA" not in os.environ else "SPIDER_TEST_DATA"
                item.add_marker(pytest.mark.skip(reason=f"needs real MRI: {', '.join(missing) or 'the folder'} in {place}"))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes in a test's name are told by their length alone: a file made at collection may hold the time of its making, and
    processes of pytest-xdist refuse to share tests whose names differ."""
    return f"{len(val)}bytes" if isinstance(val, bytes) else None


# ---------------------------------------------------------------------------------------------------------- made-up series


def _made_volume(
    shape: tuple[int, int, int] = (5, 24, 20),
    spacing: tuple[float, float, float] = (3.3, 1.1, 0.9),
    origin: tuple[float, float, float] = (-7.25, 31.5, -120.125),
    direction: np.ndarray | None = None,
    dtype: type = np.int16,
    seed: int = 0,
) -> Volume:
    """Every voxel another value, as far as the dtype allows, so that no flip or permutation can pass unnoticed."""
    n = int(np.prod(shape))
    values = np.random.default_rng(seed).permutation(n).reshape(shape) % (np.iinfo(dtype).max + 1 if dtype == np.uint8 else n)
    return Volume(values.astype(dtype), spacing, origin, kit_direction() if direction is None else direction)


@pytest.fixture(scope="session")
def made_volume() -> Callable[..., Volume]:
    """make(shape, spacing, origin, direction, dtype, seed) -> Volume."""
    return _made_volume


def _made_case(patient: int, sequence: str, seed: int = 0) -> tuple[Volume, Volume]:
    """A tiny "spine": three vertebrae and three discs from below, a canal behind them, noise around. 24 x 20 mm and a bit."""
    rng = np.random.default_rng([patient, len(sequence), seed])
    mask = np.zeros((5, 24, 20), np.uint8)
    for level, top in enumerate((17, 10, 3)):
        mask[1:4, top : top + 5, 6:12] = level + 1
        mask[1:4, top + 5 : top + 7, 6:12] = 201 + level
    mask[1:4, 0:3, 6:12] = 104
    mask[2, :, 14:16] = 100
    image = (rng.normal(100, 15, mask.shape) + 300 * (mask > 200) + 150 * (mask == 100)).clip(0).astype(np.int16)
    base = _made_volume()
    return base.with_array(image), base.with_array(mask)


@pytest.fixture(scope="session")
def made_case() -> Callable[..., tuple[Volume, Volume]]:
    """make(patient, sequence, seed=0) -> image and mask in scheme "spider"."""
    return _made_case


def _write_spider(root: Path, patients: range) -> Path:
    rows = []
    for patient in patients:
        for sequence in ("t1", "t2"):
            image, mask = _made_case(patient, sequence)
            write_volume(image, root / "images" / f"{patient}_{sequence}.mha")
            write_volume(mask, root / "masks" / f"{patient}_{sequence}.mha")
            rows.append((f"{patient}_{sequence}", "validation" if patient % 4 == 0 else "training"))
    pd.DataFrame(rows, columns=["new_file_name", "subset"]).to_csv(root / "overview.csv", index=False)
    gradings = [(patient, level, 2) for patient in patients for level in (1, 2, 3)]
    pd.DataFrame(gradings, columns=["Patient", "IVD label", "Pfirrman grade"]).to_csv(
        root / "radiological_gradings.csv", index=False
    )
    return root


@pytest.fixture(scope="session")
def spider_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root in SPIDER's layout: 6 patients, T1 and T2 of 5 slices of 24 x 20, overview and gradings. Read only."""
    return _write_spider(tmp_path_factory.mktemp("spider"), range(1, 7))


@pytest.fixture
def spider_root(spider_layout: Path, tmp_path: Path) -> Path:
    """A copy of ``spider_layout`` that a test may spoil."""
    return Path(shutil.copytree(spider_layout, tmp_path / "root"))


@pytest.fixture
def released_root(tmp_path: Path) -> Path:
    """A root in the layout of the released 2D slices, a tenth of their size: patient 5 plain, 81 lower than the others, 142 RGBA
    and squeezed from 60 x 50 (rows x columns) into 64 x 51.
    """
    root = tmp_path / "released"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(3)
    for patient, shape, slices in ((5, (64, 51), (49, 50, 51)), (81, (62, 51), (99, 100)), (142, (64, 51), (7, 8))):
        for number in slices:
            image = rng.integers(0, 256, shape, dtype=np.uint8)
            mask = np.zeros(shape, np.uint8)
            mask[10:20, 10:30], mask[22:26, 10:30], mask[:, 35:39] = 76, 29, 150
            for folder, array in (("images", image), ("masks", mask)):
                picture = Image.fromarray(array)
                name = f"{patient}_t2_SPACE_slice{number}.png"
                (picture.convert("RGBA") if patient == 142 else picture).save(root / folder / name)
    table = pd.DataFrame(
        [(5, 51, 64, 51, 64), (81, 51, 62, 51, 62), (142, 51, 64, 50, 60)],
        columns=["patient", "width", "height", "native_width", "native_height"],
    )
    table.to_csv(root / "cases.csv", index=False)
    return root


@pytest.fixture
def nothing_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no network came with the kit: own runs alone are there."""
    monkeypatch.setattr(models_shipped, "SHIPPED_FOLDER", tmp_path / "shipped")


# ------------------------------------------------------------------------------------------------------------------ DICOM


def _element(group: int, number: int, kind: str, value: bytes | str) -> bytes:
    """One DICOM data element, explicit VR little endian (DICOM PS3.5, section 7.1.2)."""
    data = value.encode() if isinstance(value, str) else value
    data += (b"\0" if kind in ("UI", "OW", "OB") else b" ") * (len(data) % 2)
    head = struct.pack("<HH", group, number) + kind.encode()
    return head + (struct.pack("<HI", 0, len(data)) if kind in ("OW", "OB") else struct.pack("<H", len(data))) + data


def _write_dicom(
    path: Path,
    pixels: np.ndarray,
    position: tuple[float, ...],
    cosines: tuple[float, ...],
    spacing: tuple[float, float],
    series: str = "1.2.3.4",
    leave_out: tuple[str, ...] = (),
) -> Path:
    """One 16-bit DICOM slice without a SOP class, as anonymised files often come."""

    def numbers(values: tuple[float, ...]) -> str:
        return "\\".join(f"{v:.10g}" for v in values)

    def us(value: int) -> bytes:
        return struct.pack("<H", value)

    meta = _element(2, 0x10, "UI", "1.2.840.10008.1.2.1")
    tags = {
        "modality": _element(0x08, 0x60, "CS", "MR"),
        "series": _element(0x20, 0x0E, "UI", series),
        "position": _element(0x20, 0x32, "DS", numbers(position)),
        "cosines": _element(0x20, 0x37, "DS", numbers(cosines)),
        "samples": _element(0x28, 0x02, "US", us(1)),
        "photometric": _element(0x28, 0x04, "CS", "MONOCHROME2"),
        "rows": _element(0x28, 0x10, "US", us(pixels.shape[0])),
        "columns": _element(0x28, 0x11, "US", us(pixels.shape[1])),
        "spacing": _element(0x28, 0x30, "DS", numbers(spacing)),
        "allocated": _element(0x28, 0x100, "US", us(16)),
        "stored": _element(0x28, 0x101, "US", us(16)),
        "high": _element(0x28, 0x102, "US", us(15)),
        "sign": _element(0x28, 0x103, "US", us(0)),
        "pixels": _element(0x7FE0, 0x10, "OW", pixels.astype("<u2").tobytes()),
    }
    body = b"".join(element for name, element in tags.items() if name not in leave_out)
    head = b"\0" * 128 + b"DICM" + _element(2, 0, "UL", struct.pack("<I", len(meta))) + meta
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + body)
    return path


@pytest.fixture(scope="session")
def write_dicom() -> Callable[..., Path]:
    """write(path, pixels uint16 (rows, columns), position, cosines, spacing, series, leave_out) -> path."""
    return _write_dicom


# ------------------------------------------------------------------------------------------------------------ bad machines


@pytest.fixture
def full_disk() -> Callable[[int], contextlib.AbstractContextManager]:
    """with full_disk(n): no file can grow beyond n bytes, as on a disk that runs full while a file is written."""
    import resource  # not on Windows

    @contextlib.contextmanager
    def limit(n: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)

    return limit


@pytest.fixture
def unchanged() -> Callable[[Path], contextlib.AbstractContextManager]:
    """with unchanged(folder): afterwards the folder holds the same files with the same bytes, hidden ones included."""

    def listing(folder: Path) -> dict[str, bytes | None]:
        return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}

    @contextlib.contextmanager
    def watch(folder: Path) -> Iterator[None]:
        before = listing(folder)
        yield
        assert listing(folder) == before

    return watch
