"""A trained network as an ONNX file that says what goes in, what comes out, and what it learned from."""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spider_utils import __version__
from spider_utils.data.manifest import known_manifests, load_manifest
from spider_utils.data.slices import PERCENTILES
from spider_utils.data.volume_store import CT_WINDOW
from spider_utils.errors import DataError, KitError
from spider_utils.export import optional_library
from spider_utils.files import atomic_path
from spider_utils.labels import SCHEMES
from spider_utils.models.network import SegmentationNetwork, VolumeNetwork, top_class
from spider_utils.training.checkpoints import load_model

OPSET = 17  # the newest that torch's exporter without further packages writes well; onnxruntime reads it since 1.12
INPUT, OUTPUT = "images", "probabilities"
TOLERANCE = 1e-3  # of a probability: a wrong export is off by far more, sums in another order by far less
_CHECKED_AT_ONCE = (1, 3)  # batch sizes, one of them not the one that was traced
_TRACED_STRIDES = 4  # rows and columns of the picture that is traced where the network takes any


@dataclass(frozen=True)
class OnnxExport:
    """An exported network and how it compares with the one that was trained, on random images.

    Attributes:
        path: the .onnx file.
        largest_difference: of any class probability between onnxruntime and torch.
        same_class: share of pixels whose most likely class is the same.
        metadata: what the file says of itself.
    """

    path: Path
    largest_difference: float
    same_class: float
    metadata: dict[str, str]


class _Probabilities(torch.nn.Module):
    """The network with its last step, from logits to probabilities, and without checks of sizes, which cannot be traced."""

    def __init__(self, network: SegmentationNetwork):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = images.expand(-1, self.network.in_channels, *(-1 for _ in self.network.axes))
        return torch.softmax(self.network.body(seen), dim=1)


def export_onnx(folder: str | Path, path: str | Path) -> OnnxExport:
    """Write the network of a run folder as ONNX and compare both.

    The file takes float32 ``images`` (batch, channels, rows, columns) in 0..1, for a network of volumes (batch, channels, slices,
    rows, columns), and gives float32 ``probabilities`` (batch, classes, ...) of the same size. The batch is free; the other
    sides are those that the network was trained on, or free (multiples of its stride) where its run names none. What else is to
    be known stands in the file's metadata (see ``describe``).

    Args:
        folder: of the run.
        path: the .onnx file to write.

    Returns:
        Where it is and how far it is from the trained network.

    Raises:
        KitError: onnx or onnxruntime is not installed; the network classifies whole pictures; what onnxruntime makes of the
            file differs by more than TOLERANCE, and then nothing is written.
        DataError: no model there, or ``path`` has another suffix or cannot be written.
    """
    folder, path = Path(folder), Path(path)
    if path.suffix.lower() != ".onnx":
        raise DataError(path, "an ONNX model is a .onnx file", "Give a name that ends in .onnx.")
    onnx, runtime = optional_library("onnx"), optional_library("onnxruntime")
    network, card = load_model(folder)
    if not isinstance(network, SegmentationNetwork):
        raise KitError(
            f"{folder} holds the classifier {card['architecture']}, which gives several answers a picture: networks that segment "
            "are exported"
        )
    model = _Probabilities(network).eval()
    sides, free = _sides(network, card)
    channels = _channels(network, card)
    axes = [{0: "batch"} | ({k: side for k, side in enumerate(network.axes, 2)} if free else {}) for _ in range(2)]
    traced = io.BytesIO()
    with warnings.catch_warnings():
        # Sizes that are traced as constants are meant to be; the exporter that torch recommends instead needs onnxscript.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.rand(2, channels, *sides),),
            traced,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes=dict(zip((INPUT, OUTPUT), axes, strict=True)),
            opset_version=OPSET,
            **_without_onnxscript(),
        )
    proto = onnx.load_model_from_string(traced.getvalue())
    metadata = describe(network, card, folder.resolve().name)
    onnx.helper.set_model_props(proto, metadata)
    proto.producer_name, proto.producer_version = "spider-utils", metadata["kit_version"]
    onnx.checker.check_model(proto)
    data = proto.SerializeToString()
    shapes = [(batch, channels, *sides) for batch in _CHECKED_AT_ONCE]
    if free:
        shapes.append((1, channels, *(side + network.stride for side in sides)))
    difference, same = _compare(model, runtime.InferenceSession(data, providers=["CPUExecutionProvider"]), shapes)
    if not difference <= TOLERANCE:  # also when it is no number
        raise KitError(f"onnxruntime's probabilities differ from {folder}'s by up to {difference:.2g}: no file was written")
    with atomic_path(path) as partial:
        partial.write_bytes(data)
    return OnnxExport(path, difference, same, metadata)


def _without_onnxscript() -> dict[str, bool]:
    """The argument that chooses torch's own exporter; versions before 2.5 have no other."""
    return {"dynamo": False} if "dynamo" in torch.onnx.export.__annotations__ else {}


def _sides(network: SegmentationNetwork, card: dict[str, Any]) -> tuple[tuple[int, ...], bool]:
    """Sides of the images that are traced, and whether the file takes others as well."""
    if "size" in card and not isinstance(network, VolumeNetwork):
        return tuple(card["size"]), False
    if network.image_size is not None:
        return tuple(network.image_size), False
    return tuple(_TRACED_STRIDES * network.stride for _ in network.axes), True


def _channels(network: SegmentationNetwork, card: dict[str, Any]) -> int:
    """Channels of the input: contrasts, or a slice with its neighbours; a gray image goes to all channels of its network."""
    if "plane" in card:
        return network.in_channels
    return 2 * int(card.get("neighbours", 0)) + 1


def _compare(model: _Probabilities, session: Any, shapes: list[tuple[int, ...]]) -> tuple[float, float]:
    """(largest difference of a probability, share of places with the same top class) on random images of some shapes."""
    numbers = np.random.default_rng(0)
    largest, same = [], []
    for shape in shapes:
        images = numbers.random(shape, dtype=np.float32)
        with torch.inference_mode():
            wanted = model(torch.from_numpy(images)).numpy()
        found = session.run([OUTPUT], {INPUT: images})[0]
        largest.append(np.abs(found - wanted).max())
        same.append(top_class(found) == top_class(wanted))
    return float(np.max(largest)), float(np.concatenate([one.reshape(-1) for one in same]).mean())


def describe(network: SegmentationNetwork, card: dict[str, Any], run: str) -> dict[str, str]:
    """What the file says of itself, each entry text; lists and tables as JSON.

    Args:
        network: as it was trained.
        card: of its run.
        run: the run's name.

    Returns:
        ``kit_version``, ``run``, ``architecture``, ``scheme``, ``classes`` (number -> name), ``input``, ``normalisation``,
        ``pixel_grid``, ``data``, ``licence``, ``citation``, ``purpose``, and ``card``, the whole card of the run.
    """
    scheme = card.get("scheme", "not known")
    names = [*SCHEMES[scheme].names.values()] if scheme in SCHEMES else ["background", scheme]
    data = card.get("data", {}).get("kind", "not known")
    return {
        "kit_version": __version__,
        "run": run,
        "architecture": card["architecture"],
        "scheme": scheme,
        "classes": json.dumps(dict(enumerate(names))),
        "input": _input(network, card),
        "normalisation": _normalisation(network, card),
        "pixel_grid": _pixel_grid(network, card),
        "data": data,
        **_rights(data),
        "purpose": "teaching and research; not a medical device",
        "card": json.dumps(card),
    }


def _input(network: SegmentationNetwork, card: dict[str, Any]) -> str:
    """What the axes of the input are."""
    if isinstance(network, VolumeNetwork):
        return "float32 (batch, channel, slice from left to right, row from top to bottom, column from front to back), 0 to 1"
    channels = "contrasts" if "plane" in card else "slices, left to right" if card.get("neighbours") else "one gray channel"
    plane = card.get("plane", "axial" if card.get("scheme") == "axial8" else "sagittal")
    rows = "from top to bottom, column from front to back" if plane == "sagittal" else "and column as the kit cuts this plane"
    return f"float32 (batch, channel, row, column) of {plane} slices, 0 to 1; channels: {channels}; row {rows}"


def _normalisation(network: SegmentationNetwork, card: dict[str, Any]) -> str:
    """How intensities become 0 to 1."""
    if isinstance(network, VolumeNetwork) and card.get("preparation") == "as_printed":
        return f"(value + {-CT_WINDOW[0]:g}) / {CT_WINDOW[1] - CT_WINDOW[0]:g}, clipped to 0..1"
    low, high = PERCENTILES
    return f"percentiles {low:g} and {high:g} of the whole series to 0 and 1, clipped; 8-bit images: value / 255"


def _pixel_grid(network: SegmentationNetwork, card: dict[str, Any]) -> str:
    """How slices or series are brought to the input's size, as JSON."""
    if isinstance(network, VolumeNetwork):
        how = "resampled linearly; slices and columns centred, rows standing on the lower edge"
        if not card.get("voxel_mm"):
            how = "stretched over the whole field of view"
        return json.dumps({"size": card["size"], "voxel_mm": card.get("voxel_mm"), "how": how})
    if "size" not in card:
        return json.dumps({"size": None, "multiple_of": network.stride, "how": "native pixels, padded"})
    how = "whole field of view scaled in proportion of mm until it fits, antialiased, centred, filled with 0"
    return json.dumps({"size": card["size"], "multiple_of": network.stride, "how": how})


def _rights(data: str) -> dict[str, str]:
    """Licence and citation of the data that a network learned from."""
    if data in known_manifests():
        manifest = load_manifest(data)
        return {"licence": f"{manifest.licence} {manifest.licence_url}".strip(), "citation": manifest.citation}
    if data.endswith("phantom") or data == "axial":  # the kit's other generated sets
        manifest = load_manifest("phantom")
        return {"licence": f"{manifest.licence} {manifest.licence_url}", "citation": manifest.citation}
    unknown = "not known: ask whoever trained it"
    return {"licence": unknown, "citation": unknown}
