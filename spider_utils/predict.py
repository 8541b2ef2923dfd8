"""From any image file to a mask with the same geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spider_utils.data.dicom import has_dicom_mark, is_dicom_name
from spider_utils.data.slices import SliceGrid, scale_to_uint8, windows
from spider_utils.data.volumes import VOLUME_SUFFIXES, Volume, read_volume, suffix_of, write_volume
from spider_utils.errors import DataError, KitError
from spider_utils.labels import get_scheme
from spider_utils.models.network import top_class
from spider_utils.runtime import pick_device, progress
from spider_utils.training.checkpoints import load_model

IMAGE_SUFFIXES = (*(s for s in VOLUME_SUFFIXES if s != ".mhd"), ".png")
SLICES_AT_ONCE = 8  # bounds the memory of a forward pass, whatever the volume's size


class VolumePredictor:
    """What segments volumes slice by slice from class probabilities; how those come about, a subclass says.

    Attributes:
        scheme: label scheme of the masks.
    """

    scheme: str

    def slice_probabilities(self, slices: np.ndarray, spacing_mm: tuple[float, float], wanted: slice = slice(None)) -> np.ndarray:
        """Class probabilities of some slices of a series, in their own pixels.

        Args:
            slices: uint8 (series' slices, rows, columns), scaled as scale_to_uint8 does for the whole volume.
            spacing_mm: row and column spacing.
            wanted: for which of them; all when left out.

        Returns:
            float32 (n, classes, rows, columns), summing to 1 over classes.
        """
        raise NotImplementedError

    def predict_volume(self, volume: Volume, show_progress: bool = False) -> Volume:
        """Segment a volume.

        Args:
            volume: image in the kit's axes.
            show_progress: tell how far it is, for long volumes.

        Returns:
            uint8 mask of classes on the same grid. Memory beyond the volume and its mask stays bounded by a few slices.
        """
        scaled = scale_to_uint8(volume.array)
        mask = np.zeros(scaled.shape, np.uint8)
        starts: object = range(0, len(scaled), SLICES_AT_ONCE)
        if show_progress:
            starts = progress(starts, desc="segmenting")
        for start in starts:
            chunk = slice(start, start + SLICES_AT_ONCE)
            mask[chunk] = top_class(self.slice_probabilities(scaled, volume.spacing[1:], chunk))
        return volume.with_array(mask)


@dataclass
class Predictor(VolumePredictor):
    """A trained 2D network.

    Attributes:
        model: in evaluation mode, on ``device``.
        grid: the slice size that it was trained on.
        scheme: label scheme of its output.
        device: "cpu", "cuda" or "mps".
        neighbours: slices on each side that it sees as further channels (see data.slices.windows).
        mirror: whether each slice is also shown with front and back swapped, and the two answers averaged. Of use to networks
            that were trained with flips (augment "medfusion"); to others a mirrored spine is a strange sight.
    """

    model: torch.nn.Module
    grid: SliceGrid
    scheme: str
    device: str
    neighbours: int = 0
    mirror: bool = False

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> Predictor:
        """Load a trained model from its run folder.

        Raises:
            DataError: the folder holds no readable model.
            KitError: the device is not there.
        """
        chosen = pick_device(device)
        model, card = load_model(folder, chosen)
        try:
            grid, scheme = SliceGrid(*card["size"]), get_scheme(card["scheme"]).name
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                Path(folder) / "model.json", f"does not say how slices go in ({error})", "Train the model again."
            ) from error
        return cls(model.eval(), grid, scheme, chosen, int(card.get("neighbours", 0)))

    def slice_probabilities(self, slices: np.ndarray, spacing_mm: tuple[float, float], wanted: slice = slice(None)) -> np.ndarray:
        """As VolumePredictor says."""
        seen = windows(len(slices), self.neighbours, wanted)
        first, last = seen[0, 0], seen[-1, -1]
        fitted = self.grid.fit(slices[first : last + 1], spacing_mm)
        return self.grid.unfit(self.grid_probabilities(fitted[seen - first]), slices.shape[1:], spacing_mm)

    @torch.inference_mode()
    def grid_probabilities(self, slices: np.ndarray) -> np.ndarray:
        """Class probabilities of a few slices that have the network's own size, as those of a slice store.

        Args:
            slices: uint8 (n, 2 neighbours + 1, rows, columns) on ``grid``; without neighbours also (n, rows, columns).

        Returns:
            float32 (n, classes, rows, columns), summing to 1 over classes.
        """
        images = torch.from_numpy(slices if slices.ndim == 4 else slices[:, None]).to(self.device).float() / 255
        if images.shape[1] != 2 * self.neighbours + 1:
            raise ValueError(f"this network sees {2 * self.neighbours + 1} slices at once, not {images.shape[1]}: see windows")
        found = torch.softmax(self.model(images).float(), dim=1)
        if self.mirror:
            found = (found + torch.softmax(self.model(images.flip(-1)).float(), dim=1).flip(-1)) / 2
        return found.cpu().numpy()


@dataclass
class MeanPredictor(VolumePredictor):
    """The mean of several networks' class probabilities, each made at its own slice size.

    Attributes:
        members: networks of one label scheme.

    Raises:
        KitError: there is none, or they differ in their scheme.
    """

    members: Sequence[Predictor]

    def __post_init__(self) -> None:
        if len({member.scheme for member in self.members}) != 1:
            raise KitError("a mean needs networks of one label scheme, not " + ", ".join(m.scheme for m in self.members))

    @property
    def scheme(self) -> str:
        """Label scheme of the output."""
        return self.members[0].scheme

    def slice_probabilities(self, slices: np.ndarray, spacing_mm: tuple[float, float], wanted: slice = slice(None)) -> np.ndarray:
        """As VolumePredictor says."""
        return np.mean([member.slice_probabilities(slices, spacing_mm, wanted) for member in self.members], axis=0)


def find_inputs(path: str | Path) -> list[Path]:
    """The images that a path means: one file, every image file of a folder, or a folder with one DICOM series.

    Raises:
        DataError: nothing there that can be read, or a file of an unknown format.
    """
    path = Path(path)
    if path.is_dir():
        there = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
        files = [p for p in there if suffix_of(p) in IMAGE_SUFFIXES]
        dicom = [p for p in there if suffix_of(p) not in IMAGE_SUFFIXES and is_dicom_name(p)]
        if files:
            # Beside images, a file without a suffix may be anything (README): only the mark makes it DICOM.
            if mixed := next((p for p in dicom if has_dicom_mark(p)), None):
                raise DataError(
                    path, f"mixes {files[0].name} with DICOM files such as {mixed.name}", "Give each a folder of its own."
                )
            return files
        if dicom:
            return [path]
        raise DataError(path, "holds no image", f"Give a folder with {', '.join(IMAGE_SUFFIXES)} files, or one DICOM series.")
    if not path.exists():
        raise DataError(path, "the file does not exist", "Check the path.")
    if suffix_of(path) not in (*IMAGE_SUFFIXES, ".dcm"):
        raise DataError(path, f"the format '{suffix_of(path)}' is not known", f"Use one of {', '.join(IMAGE_SUFFIXES)}, .dcm.")
    return [path]


def _mask_name(path: Path) -> str:
    if path.is_dir():
        return f"{path.resolve().name}.nii.gz"  # whole: UIDs are full of dots
    return path.name if suffix_of(path) in IMAGE_SUFFIXES else f"{path.stem}.nii.gz"


def predict_path(source: str | Path, out: str | Path, predictor: Predictor) -> list[Path]:
    """Segment a file or every image of a folder.

    Masks keep the input's name and lie in the input's own grid: same size, spacing, origin and direction. A DICOM series
    becomes <folder name>.nii.gz. A PNG gives a PNG of label values.

    Args:
        source: file, folder of files, or folder with a DICOM series.
        out: folder for the masks.
        predictor: the model.

    Returns:
        The masks written.

    Raises:
        DataError: the one image that was given cannot be read, or ``out`` cannot be written.
        KitError: some images of a folder could not be read; the others are done, and each failure is named.
    """
    inputs, out = find_inputs(source), Path(out)
    written, failures = [], []
    for path in inputs:
        try:
            volume = read_volume(path)
            if volume.array.size == 0:
                raise DataError(path, "holds no voxel", "Export the image again.")
        except DataError as error:
            if len(inputs) == 1:
                raise
            failures.append(str(error))
            continue
        target = out / _mask_name(path)
        if target.resolve() == path.resolve():
            raise DataError(path, "the mask would overwrite the image", "Choose another folder for --out.")
        mask = predictor.predict_volume(volume, show_progress=len(inputs) == 1 and len(volume.array) > 4 * SLICES_AT_ONCE)
        written.append(write_volume(mask, target))
    if failures:
        raise KitError(f"{len(written)} of {len(inputs)} images were segmented; these were not: " + " | ".join(failures))
    return written
