"""From any image file to a mask with the same geometry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from spider_utils.data.dicom import has_dicom_mark, is_dicom_name
from spider_utils.data.slices import CROP_MM, SliceGrid, intensity_range, scale_to_uint8, windows
from spider_utils.data.volume_store import check_preparation, covering_size, fit_volume, prepare
from spider_utils.data.volumes import PICTURE_SUFFIXES, VOLUME_SUFFIXES, Volume, read_volume, suffix_of, write_volume
from spider_utils.ensemble.pooling import Agreement, classes_in, pool_classes
from spider_utils.errors import DataError, KitError
from spider_utils.labels import convert, get_scheme
from spider_utils.measure.levels import SCHEMES_WITH_LEVELS, one_level_a_part
from spider_utils.models import VOLUME_ARCHITECTURES
from spider_utils.models.network import VolumeNetwork, top_class, whole_numbers
from spider_utils.runtime import pick_device, progress
from spider_utils.tidy import Tidy
from spider_utils.training.checkpoints import CARD_FILE, load_model, read_card

IMAGE_SUFFIXES = (*(s for s in VOLUME_SUFFIXES if s != ".mhd"), *PICTURE_SUFFIXES)
SLICES_AT_ONCE = 8  # bounds the memory of class probabilities, whatever the volume's size
HEADER_LIES = "If the slices are sagittal and the header is wrong: spider-kit data reorient"
LEAST_MM = 40.0  # the longer side of a picture: below it a header is more likely wrong than a picture of one vertebra
LOW_AGREEMENT = 0.8  # below it masks may be worth anything (docs/results/trust.md)
MOST_VOXELS = 2**27  # of a network's grid
PIXELS_AT_ONCE = 8 * 320 * 256  # bounds that of a forward pass: on eight slices of 640x512 a wide ResUNet takes 7.7 GB
# Gets the masks of slices, as they are made, and how many there will be; gives them on, and tells somebody meanwhile.
Track = Callable[[Iterable[np.ndarray], int], Iterable[np.ndarray]]


class VolumePredictor:
    """What makes masks of volumes.

    Attributes:
        scheme: label scheme of the masks.
        whole_parts: whether in masks with levels each vertebra and each disc gets one number: they are counted in the order of
            the spine, from the lowest in view, or from where ``own_votes`` times as many voxels want it; what is neither becomes
            background (see measure.levels.one_level_a_part). Without it levels stay as the network draws them, voxel by voxel.
        tidy: what is done to masks before that; some of it to those of series alone. None for nothing.
        field_mm: height and width of what it learned from, at whose size it is shown crops (see SliceGrid); None where it is
            shown them magnified.
    """

    scheme: str
    whole_parts: bool = True
    tidy: Tidy | None = None
    field_mm: tuple[float, float] | None = None

    def predict_volume(self, volume: Volume, track: Track | None = None) -> Volume:
        """Segment a volume.

        Args:
            volume: image in the kit's axes.
            track: goes through the slices' masks as they come (up to SLICES_AT_ONCE together), to tell how many are done.

        Returns:
            uint8 mask of classes on the same grid. Class probabilities are held of a few slices, never of the whole volume.

        Raises:
            DataError: the volume is nothing for this predictor.
        """
        mask = self._drawn(volume, track)
        if self.tidy:
            mask = mask.with_array(self.tidy.tidied(mask.array, self.scheme, mask.spacing))
        if self.whole_parts and self.scheme in SCHEMES_WITH_LEVELS:
            mask = mask.with_array(one_level_a_part(mask.array, mask.spacing, self.scheme, self.own_votes))
        return mask

    @property
    def own_votes(self) -> float:
        """How many times as many voxels must ask for the network's own numbers as for those counted from the lowest part."""
        return self.tidy.own_votes if self.tidy else 1.0

    def _drawn(self, volume: Volume, track: Track | None) -> Volume:
        """The mask as the network draws it."""
        raise NotImplementedError


class SlicePredictor(VolumePredictor):
    """What segments volumes slice by slice from class probabilities; how those come about, a subclass says."""

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

    def _drawn(self, volume: Volume, track: Track | None) -> Volume:
        return _mask_of(volume, self._segmented_slices(scale_to_uint8(volume.array), volume.spacing), track)

    def _segmented_slices(self, scaled: np.ndarray, spacing_mm: tuple[float, float, float]) -> Iterator[np.ndarray]:
        """The mask (rows, columns) of one slice after the other."""
        starts = range(0, len(scaled), SLICES_AT_ONCE)
        found = (self.slice_probabilities(scaled, spacing_mm[1:], slice(start, start + SLICES_AT_ONCE)) for start in starts)
        for part in self.tidy.blended(found, spacing_mm[0]) if self.tidy else found:
            yield from top_class(part)
            del part  # before the next is made


def _mask_of(volume: Volume, slices: Iterator[np.ndarray], track: Track | None) -> Volume:
    """The mask of a volume from those of its slices, as they come."""
    mask = np.zeros(volume.array.shape, np.uint8)
    for k, one in enumerate(track(slices, len(mask)) if track else slices):
        mask[k] = one
    return volume.with_array(mask)


@dataclass
class Predictor(SlicePredictor):
    """A trained 2D network.

    Attributes:
        model: in evaluation mode, on ``device``.
        grid: the slice size that it was trained on.
        scheme: label scheme of its output.
        device: "cpu", "cuda" or "mps".
        neighbours: slices on each side that it sees as further channels (see data.slices.windows).
        mirror: whether each slice is also shown with front and back swapped, and the two answers averaged. Of use to networks
            that were trained with flips (augment "medfusion"); to others a mirrored spine is a strange sight.
        whole_parts, tidy: see VolumePredictor.
    """

    model: torch.nn.Module
    grid: SliceGrid
    scheme: str
    device: str
    neighbours: int = 0
    mirror: bool = False
    whole_parts: bool = True
    tidy: Tidy | None = None

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> Predictor:
        """Load a trained model from its run folder.

        Raises:
            DataError: the folder holds no readable model.
            KitError: the device is not there, or the network is one of volumes.
        """
        chosen = pick_device(device)
        model, card = load_model(folder, chosen)
        if isinstance(model, VolumeNetwork):
            raise KitError(f"{folder} holds a network of volumes: open it with load_predictor")
        try:
            field_mm = card.get("field_mm")
            if field_mm is not None and not (len(field_mm) == 2 and all(0 < float(mm) < np.inf for mm in field_mm)):
                raise ValueError(f"{field_mm!r} is no height and width in mm")
            grid = SliceGrid(*_grid_sides(card["size"], 2), field_mm and (float(field_mm[0]), float(field_mm[1])))
            if grid.rows % model.stride or grid.columns % model.stride:
                raise ValueError(f"its sides must be divisible by {model.stride}")
            scheme, neighbours = _scheme_of(card), card.get("neighbours", 0)
            tidy = Tidy(**card["tidy"]) if "tidy" in card else None
            if type(neighbours) is not int or neighbours < 0 or (neighbours and card["in_channels"] != 2 * neighbours + 1):
                raise ValueError(f"{neighbours!r} neighbours do not fit {card['in_channels']} channels")
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                Path(folder) / CARD_FILE, f"does not say how slices go in ({str(error)[:160]})", "Train the model again."
            ) from error
        model = model.eval().to(memory_format=model.channels_last)  # on CPUs in four fifths of the time
        return cls(model, grid, scheme, chosen, neighbours, tidy=tidy)

    @property
    def field_mm(self) -> tuple[float, float] | None:  # type: ignore[override]
        """See VolumePredictor."""
        return self.grid.field_mm

    def slice_probabilities(self, slices: np.ndarray, spacing_mm: tuple[float, float], wanted: slice = slice(None)) -> np.ndarray:
        """As SlicePredictor says."""
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
        images = slices if slices.ndim == 4 else slices[:, None]
        if images.shape[1] != 2 * self.neighbours + 1:
            raise ValueError(f"this network sees {2 * self.neighbours + 1} slices at once, not {images.shape[1]}: see windows")
        at_once = max(1, PIXELS_AT_ONCE // (images.shape[2] * images.shape[3]))
        return np.concatenate([self._pass(images[k : k + at_once]) for k in range(0, len(images), at_once)])

    def _pass(self, slices: np.ndarray) -> np.ndarray:
        """What grid_probabilities gives, of few enough slices for one forward pass."""
        images = torch.from_numpy(slices).to(self.device).float() / 255
        found = torch.softmax(self.model(images).float(), dim=1)
        if self.mirror:
            found = (found + torch.softmax(self.model(images.flip(-1)).float(), dim=1).flip(-1)) / 2
        return found.cpu().numpy()


@dataclass
class MeanPredictor(SlicePredictor):
    """The mean of several networks' class probabilities, each made at its own slice size.

    Attributes:
        members: networks of one label scheme.
        whole_parts, tidy: see VolumePredictor.

    Raises:
        KitError: there is none, or they differ in their scheme.
    """

    members: Sequence[Predictor]
    whole_parts: bool = True
    tidy: Tidy | None = None

    def __post_init__(self) -> None:
        if len({member.scheme for member in self.members}) != 1:
            raise KitError("a mean needs networks of one label scheme, not " + ", ".join(m.scheme for m in self.members))

    @property
    def scheme(self) -> str:
        """Label scheme of the output."""
        return self.members[0].scheme

    def slice_probabilities(self, slices: np.ndarray, spacing_mm: tuple[float, float], wanted: slice = slice(None)) -> np.ndarray:
        """As SlicePredictor says."""
        found = (member.slice_probabilities(slices, spacing_mm, wanted) for member in self.members)
        return sum(found) / len(self.members)  # one member's probabilities at a time beside the sum


@dataclass
class PooledPredictor(SlicePredictor):
    """A network that names levels, which asks another about classes (see ensemble.pooling.pool_classes).

    Attributes:
        first: names levels; the masks have its scheme.
        second: of fewer classes, into which those of ``first`` convert.
        weight: of ``second``, from 0 to 1.
        whole_parts, tidy: see VolumePredictor.

    Raises:
        KitError: the classes of the one do not convert into those of the other, or the weight is none.
    """

    first: Predictor
    second: Predictor
    weight: float = 0.5
    whole_parts: bool = True
    tidy: Tidy | None = None
    _listener: Callable[[np.ndarray, np.ndarray], None] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            self._class_of = classes_in(self.first.scheme, self.second.scheme)
        except ValueError as error:
            raise KitError(f"{self.second.scheme} is no second opinion on {self.first.scheme}: {error}") from error
        if isinstance(self.weight, bool) or not isinstance(self.weight, (int, float)) or not 0 <= self.weight <= 1:
            raise KitError(f"a second opinion has a weight from 0 to 1, not {self.weight!r}")

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> PooledPredictor:
        """Load a network whose card names another one, that lies in a folder beside its own, and its weight.

        Raises:
            DataError: one of the folders holds no readable model, or both do not fit together.
            KitError: the device is not there.
        """
        folder, first = Path(folder), Predictor.load(folder, device)
        card, asked = folder / CARD_FILE, read_card(folder)["second_opinion"]
        name, weight = (asked.get("network"), asked.get("weight")) if isinstance(asked, dict) else (asked, None)
        own = folder.resolve()
        if not isinstance(name, str) or Path(name).name != name or name in ("", "..", own.name) or len(name) > 200:
            why = f"names no folder beside its own as second opinion: {str(name)[:160]!r}"
            raise DataError(card, why, "Name that folder alone, or remove the entry.")
        beside = own.parent / name
        if not (beside / CARD_FILE).is_file():
            why = f"asks the network in {beside} for a second opinion, which is not there"
            raise DataError(card, why, "Copy both folders.")
        about = read_card(beside)
        if "plane" in about or about["architecture"] in VOLUME_ARCHITECTURES:
            raise DataError(card, f"asks {name} for a second opinion, which is no network of slices", "Name another.")
        second = Predictor.load(beside, device)
        try:
            return cls(first, second, weight, tidy=first.tidy)
        except KitError as error:
            raise DataError(card, str(error)[:300], 'Write {"network": "structures4", "weight": 0.5}, or the like.') from error

    @property
    def scheme(self) -> str:
        """Label scheme of the output."""
        return self.first.scheme

    @property
    def field_mm(self) -> tuple[float, float] | None:  # type: ignore[override]
        """See VolumePredictor."""
        return self.first.field_mm

    def slice_probabilities(self, slices: np.ndarray, spacing_mm: tuple[float, float], wanted: slice = slice(None)) -> np.ndarray:
        """As SlicePredictor says."""
        asked = self.second.slice_probabilities(slices, spacing_mm, wanted)
        found = self.first.slice_probabilities(slices, spacing_mm, wanted)
        if self._listener:
            self._listener(self._class_of[top_class(found)], top_class(asked))
        return pool_classes(found, asked, self._class_of, self.weight)

    def with_agreement(self, volume: Volume, track: Track | None = None) -> tuple[Volume, Agreement]:
        """As predict_volume, and how far the two networks agree.

        Compared is what each draws of each slice by itself, in the classes of ``second``: before neighbouring slices are averaged
        and before anything is left out (see Tidy).
        """
        agreement = Agreement(self.second.scheme)
        return replace(self, _listener=agreement.add).predict_volume(volume, track), agreement


@dataclass
class WholeVolumePredictor(VolumePredictor):
    """A trained network of volumes.

    A volume is resampled to the grid that the network was trained on; what lies beyond it becomes background. Where the grid is
    larger than the network's size, or is made larger by ``slide``, the network goes over it in windows of its own size, and
    where windows overlap their probabilities are averaged (MONAI's sliding window).

    Attributes:
        model: in evaluation mode, on ``device``.
        grid: slices, rows and columns; at least the network's size on every side.
        scheme: label scheme of its output.
        device: "cpu", "cuda" or "mps".
        preparation: of intensities, as in training (see data.volume_store).
        voxel_mm: of the grid; None stretches it over the whole field of view.
        slide: go on beyond the grid, in voxels of the same size, until the field of view is covered. Of use to networks that were
            trained on parts of the field of view; one that always saw the same part takes every other for it.
        overlap: of neighbouring windows, as a share of their side.
        whole_parts: see VolumePredictor.
    """

    model: VolumeNetwork
    grid: tuple[int, int, int]
    scheme: str
    device: str
    preparation: str = "mended"
    voxel_mm: tuple[float, float, float] | None = None
    slide: bool = False
    overlap: float = 0.25
    whole_parts: bool = True

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> WholeVolumePredictor:
        """Load a trained model from its run folder.

        Raises:
            DataError: the folder holds no readable model of volumes.
            KitError: the device is not there.
        """
        chosen = pick_device(device)
        model, card = load_model(folder, chosen)
        try:
            slices, rows, columns = _grid_sides(card["size"], 3)
            if any(side < least for side, least in zip((slices, rows, columns), model.image_size or (), strict=False)):
                raise ValueError(f"its sides must be at least the network's {model.image_size}")
            scheme, preparation = _scheme_of(card), card["preparation"]
            check_preparation(preparation)
            voxel_mm = card["voxel_mm"] and tuple(map(float, card["voxel_mm"]))
            if voxel_mm and not (len(voxel_mm) == 3 and np.isfinite(voxel_mm).all() and min(voxel_mm) > 0):
                raise ValueError(f"voxels of {card['voxel_mm']} mm")
        except (KeyError, TypeError, ValueError, KitError) as error:
            raise DataError(
                Path(folder) / CARD_FILE, f"does not say how volumes go in ({str(error)[:160]})", "Train the model again."
            ) from error
        return cls(model.eval(), (slices, rows, columns), scheme, chosen, preparation, voxel_mm)

    @property
    def reach(self) -> str:
        """What of a series it labels, in words."""
        if self.voxel_mm is None or self.slide:
            return "the whole field of view"
        box = " x ".join(f"{n * mm:.0f}" for n, mm in zip(self.grid, self.voxel_mm, strict=True))
        return f"a box of {box} mm (slices, rows, columns) on the lower edge of the picture; the rest becomes background"

    @torch.inference_mode()
    def grid_probabilities(self, volume: Volume) -> torch.Tensor:
        """Class probabilities in the grid (see data.volume_store.fit_volume): float32 (classes, slices, rows, columns).

        Raises:
            DataError: the volume is a single slice, or thinner than one voxel of the grid.
        """
        from monai.inferers.utils import sliding_window_inference  # takes seconds

        extent_mm = np.multiply(volume.array.shape, volume.spacing)
        if len(volume.array) < 2 or (self.voxel_mm is not None and (extent_mm < self.voxel_mm).any()):
            size = " x ".join(map(str, volume.array.shape))
            fix = "Give a whole series, or use a network of slices."
            raise DataError(volume.path or "image", f"{size} voxels are no volume for a network of volumes", fix)
        low, high = intensity_range(volume.array)
        size = covering_size(volume, self.grid, self.voxel_mm) if self.slide else self.grid
        prepared = prepare(fit_volume(volume, size, voxel_mm=self.voxel_mm).array, self.preparation, low, high)
        images = torch.from_numpy(prepared)[None, None].to(self.device)

        def probabilities(windows: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.model(windows).float(), dim=1)

        return sliding_window_inference(images, self.model.image_size, 1, probabilities, self.overlap)[0].cpu()

    def _drawn(self, volume: Volume, track: Track | None) -> Volume:
        """As VolumePredictor says.

        Probabilities, not labels, are interpolated back to the volume's own voxels, linearly and along all three axes, so that
        borders need not follow the coarse grid.
        """
        found = self.grid_probabilities(volume)
        shape, extent_mm = volume.array.shape, np.multiply(volume.array.shape, volume.spacing)
        # Places in a grid run from -1 at one outer edge to 1 at the other. Slices and columns of both grids have one centre, rows
        # one lower edge.
        shares = np.ones(3) if self.voxel_mm is None else extent_mm / np.multiply(found.shape[1:], self.voxel_mm)
        slices, rows, columns = (torch.linspace(1 / n - 1, 1 - 1 / n, n) * share for n, share in zip(shape, shares, strict=True))
        rows = rows + float(1 - shares[1])
        inside = [((places >= -1) & (places <= 1)).numpy() for places in (slices, rows, columns)]
        # Interpolation along one axis after another is the same as along all at once: slices here, rows and columns in parts.
        flat = found.permute(0, 2, 3, 1).reshape(1, -1, 1, found.shape[1])
        along = torch.stack([slices, torch.zeros_like(slices)], dim=-1)[None, None]
        cut = F.grid_sample(flat, along, padding_mode="border", align_corners=False)
        cut = cut.reshape(len(found), *found.shape[2:], len(slices)).permute(3, 0, 1, 2)
        within = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)[None]

        native = (
            top_class(F.grid_sample(one[None], within, padding_mode="border", align_corners=False).numpy())[0]
            for one in cut.contiguous()
        )
        mask = _mask_of(volume, native, track)
        for axis, there in enumerate(inside):  # beyond the grid nothing is known: background
            np.moveaxis(mask.array, axis, 0)[~there] = 0
        return mask


def _grid_sides(size: Sequence[int], dimensions: int) -> tuple[int, ...]:
    """The sides of a network's grid as its card has them. Raises ValueError when they are no sides, or of more than any image."""
    sides = whole_numbers("size", size, dimensions, dimensions)
    if np.prod([float(side) for side in sides]) > MOST_VOXELS:
        raise ValueError(f"size {size} is larger than any image")
    return sides


def _scheme_of(card: dict[str, Any]) -> str:
    """The label scheme of a card. Raises ValueError when it is none, or not one of as many classes as the network has."""
    scheme = get_scheme(card["scheme"])
    if scheme.n_classes != card["n_classes"]:
        raise ValueError(f"{card['n_classes']} classes are not those of '{scheme.name}'")
    return scheme.name


def load_predictor(folder: str | Path, device: str = "auto") -> Predictor | PooledPredictor | WholeVolumePredictor:
    """The trained model in a run folder, of slices or of volumes; with the second opinion that its card asks for.

    Raises:
        DataError: the folder holds no readable model.
        KitError: the device is not there, or the network is one plane of an ensemble (see ensemble.planes).
    """
    card = read_card(folder)
    if "plane" in card:
        raise KitError(
            f"{folder} holds the {card['plane']} network of a three-plane ensemble, which takes three contrasts of the same "
            "voxels and means little alone: predict does not run it. Choose another model; notebook 10 and "
            "`spider-kit triplanar tables` run the ensemble"
        )
    if card["architecture"] in VOLUME_ARCHITECTURES:
        return WholeVolumePredictor.load(folder, device)
    return (PooledPredictor if "second_opinion" in card else Predictor).load(folder, device)


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
    if suffix_of(path) in PICTURE_SUFFIXES:
        return f"{path.stem}.png"  # JPEG would change labels
    return path.name if suffix_of(path) in IMAGE_SUFFIXES else f"{path.stem}.nii.gz"


def _targets(inputs: list[Path], out: Path) -> dict[Path, Path]:
    """Where the mask of each image goes.

    Raises:
        DataError: a mask would overwrite an image, or two images would share one.
    """
    targets = {path: out / _mask_name(path) for path in inputs}
    images, owners = {path.resolve() for path in inputs}, {}
    for path, target in targets.items():
        if target.resolve() in images:
            raise DataError(path, "the mask would overwrite the image", "Choose another folder for --out.")
        if target in owners:
            raise DataError(
                path, f"its mask would have the name of that of {owners[target].name}", "Rename one of the two images."
            )
        owners[target] = path
    return targets


def plane_note(image: Volume) -> str | None:
    """What must be known of a series that was not taken in sagittal slices; None of others."""
    words = {"axial": "axial (crosswise)", "coronal": "coronal (from the front)"}.get(image.acquired_plane)
    if words is None:
        return None
    return f"This series was taken in {words} slices. The network knows sagittal ones: do not trust what it draws."


class Segmented(NamedTuple):
    """A mask, and what is to be said of two networks' agreement where two drew it.

    Attributes:
        mask: on the image's grid.
        agreement: a sentence or two; None where one network drew the mask alone, or where it is empty.
        is_doubtful: whether they agree so little that the mask may be worth anything.
    """

    mask: Volume
    agreement: str | None = None
    is_doubtful: bool = False


def segment(predictor: VolumePredictor, volume: Volume, track: Track | None = None, has_pixel_size: bool = True) -> Segmented:
    """The mask of an image, with what two networks' agreement tells of it.

    Args:
        predictor, volume, track: as for VolumePredictor.predict_volume, which also says what is raised.
        has_pixel_size: False for a picture whose size in mm nobody told: it is no crop, however few its pixels.
    """
    longer_mm = max(n * mm for n, mm in zip(volume.array.shape[1:], volume.spacing[1:], strict=True))
    if not has_pixel_size and longer_mm < CROP_MM:
        rows_mm, columns_mm = (mm * CROP_MM / longer_mm for mm in volume.spacing[1:])
        drawn = segment(predictor, replace(volume, spacing=(volume.spacing[0], rows_mm, columns_mm)), track)
        return drawn._replace(mask=volume.with_array(drawn.mask.array))
    if not isinstance(predictor, PooledPredictor):
        return Segmented(predictor.predict_volume(volume, track))
    mask, agreement = predictor.with_agreement(volume, track)
    if not mask.array.any():
        return Segmented(mask)
    mean = round(agreement.mean(), 2)  # what is told and what is compared must not differ
    parts = ", ".join(f"{name} {dice:.2f}" for name, dice in agreement.by_class().items() if not np.isnan(dice))
    said = f"Two networks drew this mask; they agree to a Dice of {mean:.2f} ({parts})."
    if mean < LOW_AGREEMENT:
        said += f" Below {LOW_AGREEMENT:g} a mask may be worth anything: look at every slice before you use it."
    else:
        said += f" Masks with {LOW_AGREEMENT:g} and more were nearly always good where measured; of names it says nothing."
    return Segmented(mask, said, mean < LOW_AGREEMENT)


def field_note(image: Volume, predictor: VolumePredictor) -> str | None:
    """What must be known of an image that shows much less than its network learned from; None of others."""
    sides = [n * mm for n, mm in zip(image.array.shape[1:], image.spacing[1:], strict=True)]
    if predictor.field_mm is None or max(sides) >= CROP_MM:
        return None
    shown, usual = ("{:.3g} x {:.3g}".format(*mm) for mm in (sides, predictor.field_mm))
    if max(sides) < LEAST_MM:
        return f"By its header it shows {shown} mm: is that in cm or metres? Nothing can be found in so little."
    names = ", and guess levels" if predictor.scheme in SCHEMES_WITH_LEVELS else ""
    return f"It is a crop of {shown} mm. The networks learned from {usual} mm: they miss much of crops{names}."


def levels_note(mask: Volume, scheme: str) -> str | None:
    """Which vertebrae a mask names, from below; None where its scheme knows no levels, or where it holds no vertebra."""
    if scheme not in SCHEMES_WITH_LEVELS:
        return None
    values = np.unique(convert(mask.array, scheme, "spider"))
    named = [get_scheme("spider").names[int(value)] for value in values if 0 < value < 100]
    return f"Vertebrae named, from below: {', '.join(named)}." if named else None


def _tell(slices: Iterable[np.ndarray], total: int) -> Iterator[np.ndarray]:
    return progress(slices, "segmenting slices", total)


def predict_path(
    source: str | Path, out: str | Path, predictor: VolumePredictor, note: Callable[[str], None] | None = None
) -> list[Path]:
    """Segment a file or every image of a folder.

    Masks keep the input's name and lie in the input's own grid: same size, spacing, origin and direction. A DICOM series
    becomes <folder name>.nii.gz. A picture gives a PNG of label values. Tells how many images of a folder, or slices of a long
    volume, are done.

    Args:
        source: file, folder of files, or folder with a DICOM series.
        out: folder for the masks.
        predictor: the model.
        note: told what must be known of an image: not taken in sagittal slices by its header, a small crop, or nothing found in
            it; and where two networks drew it, how far they agree.

    Returns:
        The masks written.

    Raises:
        DataError: the one image that was given cannot be read or is nothing for this model, or ``out`` cannot be written.
        KitError: so it is with some images of a folder; the others are done, and each failure is named.
    """
    inputs = find_inputs(source)
    targets, written, failures = _targets(inputs, Path(out)), [], []
    for path in progress(inputs, "segmenting images") if len(inputs) > 1 else inputs:
        try:
            volume = read_volume(path)
            if volume.array.size == 0:
                raise DataError(path, "holds no voxel", "Export the image again.")
            is_long = len(inputs) == 1 and len(volume.array) > 4 * SLICES_AT_ONCE
            if note and (said := plane_note(volume)):
                note(f"{path.name}: {said} {HEADER_LIES}")
            has_pixel_size = suffix_of(path) not in PICTURE_SUFFIXES
            if note and has_pixel_size and (said := field_note(volume, predictor)):
                note(f"{path.name}: {said}")
            show = _tell if is_long else None
            drawn = segment(predictor, volume, show, has_pixel_size)
            mask = drawn.mask
            if note and drawn.agreement:
                note(f"{path.name}: {drawn.agreement}")
            if note and (said := levels_note(mask, predictor.scheme)):
                note(f"{path.name}: {said}")
            if note and not mask.array.any():
                tip = f" {HEADER_LIES}" if has_pixel_size else ""
                note(f"{path.name}: the network found nothing, the mask is empty.{tip}")
        except DataError as error:
            if len(inputs) == 1:
                raise
            failures.append(str(error))
            continue
        written.append(write_volume(mask, targets[path]))
    if failures:
        raise KitError(f"{len(written)} of {len(inputs)} images were segmented; these were not: " + " | ".join(failures))
    return written
