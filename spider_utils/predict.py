"""What makes masks of volumes: one network, the mean of several, one with a second opinion, a network of whole volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from spider_utils.data.slices import SliceGrid, intensity_range, scale_to_uint8, windows
from spider_utils.data.volume_store import check_preparation, covering_size, fit_volume, prepare
from spider_utils.data.volumes import Volume
from spider_utils.ensemble.pooling import NetworkAgreement, classes_in, pool_classes
from spider_utils.errors import DataError, KitError
from spider_utils.labels import get_scheme
from spider_utils.measure.levels import SCHEMES_WITH_LEVELS, one_level_a_part
from spider_utils.models import VOLUME_ARCHITECTURES
from spider_utils.models.network import VolumeNetwork, top_class, whole_numbers
from spider_utils.runtime import pick_device
from spider_utils.tidy import Tidy
from spider_utils.training.checkpoints import CARD_FILE, load_model, read_card

SLICES_AT_ONCE = 8  # bounds the memory of class probabilities, whatever the volume's size
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

    def with_agreement(self, volume: Volume, track: Track | None = None) -> tuple[Volume, NetworkAgreement]:
        """As predict_volume, and how far the two networks agree.

        Compared is what each draws of each slice by itself, in the classes of ``second``: before neighbouring slices are averaged
        and before anything is left out (see Tidy).
        """
        agreement = NetworkAgreement(self.second.scheme)
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
