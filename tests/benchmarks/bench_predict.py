"""`spider-kit predict` on a whole T2_SPACE series, 120 x 640 x 512 voxels, on two cores, and numbering its levels; and, with the
networks that come with the kit, on a picture, also once the network is loaded, and on a series of 20 slices."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import SimpleITK as sitk  # noqa: N813

from spider_utils.data.phantom.anatomy import make_anatomy
from spider_utils.data.phantom.scanner import draw_protocols, render
from spider_utils.data.slices import scale_to_uint8
from spider_utils.data.volumes import read_volume, write_volume
from spider_utils.labels import get_scheme
from spider_utils.masks import predict_path
from spider_utils.models import build_model
from spider_utils.models.shipped import shipped_for
from spider_utils.predict import Predictor
from spider_utils.runtime import get_profile
from spider_utils.training.checkpoints import save_model
from spider_utils.workflow import find_run
from tests.benchmarks.apart import Cost, run_apart

SHAPE = (120, 640, 512)  # 0.9 x 0.47 x 0.47 mm, as SPIDER's T2_SPACE
CORES, MOST_BYTES = 2, 4e9


def run() -> Iterator[Cost]:
    """Segment one phantom series with U-Nets of profile quick, and give its true mask one number a part.

    The networks are untrained: weights change neither time nor memory of what they draw. What ``predict`` does after that with
    levels depends on the mask, so it is measured by itself, on one that looks like a spine.
    """
    profile = get_profile("quick")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        anatomy = make_anatomy(7)
        protocol = replace(draw_protocols(anatomy, "UMC", ("t2_SPACE",), 7)[0], shape=SHAPE)
        scan, truth = (
            write_volume(volume, root / f"{name}.mha")
            for name, volume in zip(("scan", "truth"), render(anatomy, "t2_SPACE", protocol), strict=True)
        )
        for scheme in ("structures4", "levels20"):
            n_classes = len(get_scheme(scheme).names)
            model = build_model("unet", profile.in_channels, n_classes, **profile.networks["unet"])
            save_model(root / scheme, model, {"scheme": scheme, "size": list(profile.slice_size)})
            command = [
                "-m",
                "spider_utils.cli",
                "predict",
                str(scan),
                "--out",
                str(root / "masks"),
                "--device",
                "cpu",
                "--as-drawn",
            ]
            name = f"predict {'x'.join(map(str, SHAPE))}, {n_classes} classes"
            cost = run_apart(name, [sys.executable, *command, "--model", str(root / scheme)], CORES)
            assert sitk.ReadImage(str(root / "masks" / scan.name)).GetSize() == sitk.ReadImage(str(scan)).GetSize()
            assert cost.peak_bytes < MOST_BYTES, f"{name}: {cost.peak_bytes / 1e9:.2f} GB"
            yield cost
        volume = read_volume(scan)
        middle = SHAPE[0] // 2
        own = {
            "a picture of 640x512": write_volume(
                replace(volume, array=scale_to_uint8(volume.array)[middle : middle + 1], stored=None), root / "slice.png"
            ),
            "120x640x512": scan,
            "20x640x512": write_volume(
                replace(volume, array=volume.array[middle - 10 : middle + 10], stored=None), root / "short.mha"
            ),
        }
        for what, path in own.items():
            command = ["-m", "spider_utils.cli", "predict", str(path), "--out", str(root / "own"), "--device", "cpu"]
            yield run_apart(f"predict {what}, by the kit's own network", [sys.executable, *command], CORES)
        command = [sys.executable, "-m", "tests.benchmarks.bench_predict", str(own["a picture of 640x512"]), str(root)]
        cost = run_apart("the same picture, when the network is loaded", command, CORES)
        yield replace(cost, wall_s=float((root / "seconds").read_text()))
        command = ["-m", "spider_utils.cli", "levels", str(truth), "--scheme", "spider", "--count-from", "own"]
        name = f"levels {'x'.join(map(str, SHAPE))}, one number a part"
        cost = run_apart(name, [sys.executable, *command, "--out", str(root / "levels.mha")], CORES)
        assert cost.peak_bytes < MOST_BYTES, f"{name}: {cost.peak_bytes / 1e9:.2f} GB"
        yield cost


def seconds_a_picture(picture: Path, out: Path, rounds: int = 5) -> float:
    """Median time from a picture's file to its mask's file by the kit's own network, loaded and used once before."""
    predictor, times = Predictor.load(find_run(shipped_for(series=False)), "cpu"), []
    for number in range(rounds + 1):
        start = time.monotonic()
        predict_path(picture, out / f"again-{number}", predictor)
        times.append(time.monotonic() - start)
    return statistics.median(times[1:])


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    (folder / "seconds").write_text(str(seconds_a_picture(Path(sys.argv[1]), folder)))
