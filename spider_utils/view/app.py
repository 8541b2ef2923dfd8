"""The page for a scan (Streamlit), as the source `medfusion` has one: an image in, mask and measurements out.

Started by ``spider-kit app``, which binds it to this machine alone. Here is only what stands where on the page: uploads are
checked in data.uploads, a scan is read in view.scan.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st
from matplotlib.colors import to_hex

from spider_utils.data.uploads import UPLOAD_SUFFIXES, Upload, read_upload
from spider_utils.data.volumes import PICTURE_SUFFIXES, Volume, suffix_of, with_pixel_size
from spider_utils.errors import KitError
from spider_utils.measure.report import COLUMNS
from spider_utils.predict import Track, VolumePredictor, load_predictor
from spider_utils.view import scan
from spider_utils.view.frame_marks import MARK_COLORS, level_names, write_on_frame
from spider_utils.view.frames import render_frame
from spider_utils.view.plots import PLANES, legend_for, window_of
from spider_utils.workflow import caution

TITLE = "A lumbar spine scan, segmented and measured"
NO_DEVICE = (
    "**This is not a medical device.** It is for teaching and research. Do not use what it draws or measures for any decision "
    "about a patient."
)
PRIVACY = "The file is read on this computer, kept in memory while this page is open, and sent nowhere."
_LONGEST_MESSAGE = 400
_FRAME_PIXELS = 640  # longer side of the picture: it fits on a laptop's screen
_STYLE = "<style>.stMainBlockContainer {padding-top: 2.5rem}</style>"  # Streamlit leaves a sixth of the screen empty
_SIGNS = (
    "Angles are positive where front is higher than back, slips where the upper vertebra lies further forward. "
    "Definitions and their sources: notebook 13."
)


def page() -> None:
    """The whole page, from top to bottom; Streamlit runs it anew after every click."""
    st.set_page_config(page_title="Spider kit: a scan", layout="wide")
    st.html(_STYLE)
    st.header(TITLE)
    st.warning(NO_DEVICE, icon=":material/warning:")
    with st.sidebar:
        st.header("1. Image")
        sent = st.file_uploader(
            "One image or series",
            type=[suffix.removeprefix(".") for suffix in UPLOAD_SUFFIXES],
            help="A PNG slice, a .mha or .nii.gz volume, a .dcm slice, or a zip that holds one patient's DICOM files.",
        )
        st.caption(PRIVACY)
    try:
        if sent is None:
            st.info(
                "Choose an image at the left: a sagittal MRI series or slice of the lumbar spine.", icon=":material/upload_file:"
            )
            _choose_model(scan.usable_runs())
            return
        uploaded = _uploaded(sent)
        with st.sidebar:
            image, has_pixel_size = _choose_image(uploaded)
        folder = _choose_model(scan.usable_runs(series=len(image.array) > 1))
        key = (sent.file_id, image.path, image.spacing, id(image.array), has_pixel_size, str(folder))
        reading = _read(key, image, folder, has_pixel_size)
    except KitError as error:
        st.error(_plain(str(error)))
        return
    _show(uploaded, reading, has_pixel_size)


def _plain(text: str) -> str:
    """Text for where Streamlit takes Markdown: every sign stands for itself, and there is an end to it."""
    short = text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]} ..."
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", short)


# ------------------------------------------------------------------------------------------------------------------ choices


def _uploaded(sent: st.runtime.uploaded_file_manager.UploadedFile) -> Upload:
    """The upload, read once."""
    kept = st.session_state.get("upload")
    if kept is None or kept[0] != sent.file_id:
        st.session_state.pop("upload", None)
        with st.spinner("Reading the file ..."):
            kept = (sent.file_id, read_upload(sent.name, sent))
        st.session_state["upload"] = kept
    return kept[1]


def _choose_image(uploaded: Upload) -> tuple[Volume, bool]:
    """Which of the series, and how large the pixels of a picture are; the second is whether that is known."""
    titles = list(uploaded.volumes)
    title = titles[0]
    if len(titles) > 1:
        title = st.selectbox("Series", titles, help="Sagittal series come first: the networks know no other.")
    if uploaded.left_out:
        with st.expander(f"Left out of the zip: {len(uploaded.left_out)}"):
            st.text("\n".join(uploaded.left_out))
    image = uploaded.volumes[title]
    if suffix_of(uploaded.name) not in PICTURE_SUFFIXES:
        return image, True
    st.markdown("Pixel size, which a PNG does not store")
    left, right = st.columns(2)
    sizes = [
        column.number_input(f"{what} [mm]", min_value=0.01, max_value=20.0, value=None, step=0.01, format="%.4f", key=what)
        for column, what in ((left, "height"), (right, "width"))
    ]
    if None in sizes:
        return image, False
    return with_pixel_size(image, tuple(sizes)), True


def _choose_model(runs: list[Path]) -> Path:
    """Which of the trained models."""
    described = {folder: scan.describe_run(folder) for folder in runs}
    words = [called for called, _ in described.values()]

    def label(folder: Path) -> str:
        called = described[folder][0]
        return called if words.count(called) == 1 else f"{called}: {folder.name}"

    with st.sidebar:
        st.header("2. Model")
        folder = st.selectbox(
            "Trained network",
            runs,
            format_func=label,
            help="What comes with the kit, the best guess first, and finished runs of this project.",
        )
        st.caption(_plain(f"{folder.name}. {described[folder][1]}"))
    if said := caution(folder):
        st.warning(_plain(f"Run {folder.name} was {said}."))
    return folder


# ------------------------------------------------------------------------------------------------------------------ reading


@st.cache_resource(max_entries=2, show_spinner="Loading the network ...")
def _predictor(folder: str, changed: float) -> VolumePredictor:
    """A loaded network; ``changed`` is when its weights were written, so that a newer training is loaded anew."""
    return load_predictor(folder)


def _read(key: tuple, image: Volume, folder: Path, has_pixel_size: bool) -> scan.Reading:
    """The reading of this image by this network, made once."""
    kept = st.session_state.get("reading")
    if kept is None or kept[0] != key:
        st.session_state.pop("reading", None)
        predictor = _predictor(str(folder), (folder / "model.safetensors").stat().st_mtime)
        place = st.empty()
        try:
            kept = (key, scan.read_scan(image, predictor, has_pixel_size, _bar(place)))
        finally:
            place.empty()
        st.session_state["reading"] = kept
    return kept[1]


def _bar(place: st.delta_generator.DeltaGenerator) -> Track:
    """A bar in ``place`` that moves on with every slice; when all are done it says what comes after them.

    It counts from the first slice on: a network of whole volumes has done nearly all of its work by then.
    """
    bar = place.progress(0.0, "Segmenting ...")

    def track(slices: Iterable[np.ndarray], total: int) -> Iterator[np.ndarray]:
        for done, one in enumerate(slices, start=1):
            yield one
            bar.progress(done / total, f"Segmenting: {done} of {total} slices")
        bar.progress(1.0, "Naming levels and measuring")

    return track


# ---------------------------------------------------------------------------------------------------------------- what is shown


def _show(uploaded: Upload, reading: scan.Reading, has_pixel_size: bool) -> None:
    shape, spacing = reading.image.array.shape, reading.image.spacing
    size = " x ".join(f"{step:.2f}" for step in spacing[1:]) + " mm a pixel" if has_pixel_size else "pixel size not known"
    apart = f", slices {spacing[0]:.2f} mm apart" if shape[0] > 1 else ""
    slices = "1 slice" if shape[0] == 1 else f"{shape[0]} slices"
    st.caption(f"{_plain(uploaded.name)}: {slices} of {shape[1]} x {shape[2]} pixels, {size}{apart}")
    for said in reading.cautions:
        st.warning(_plain(said), icon=":material/warning:")
    _show_picture(reading, has_pixel_size)
    st.subheader("Measurements")
    for note in reading.notes:
        st.caption(_plain(note))
    if not has_pixel_size:
        st.info("Nothing is measured, as the pixel size is not known. Enter it at the left.", icon=":material/straighten:")
    if reading.table is not None:
        _show_table(reading.table)
    _downloads(uploaded.name, reading)


@st.fragment
def _show_picture(reading: scan.Reading, has_pixel_size: bool) -> None:
    """The picture with its controls; moving one draws nothing else anew."""
    left, right = st.columns([3, 2], gap="large")
    volume = len(reading.image.array) > 1
    with right:
        name = "sagittal"
        if volume:
            name = st.radio("Plane", list(PLANES), horizontal=True)
        plane = PLANES[name]
        low, high = window_of(reading.image.array)
        bottom, top = float(reading.image.array.min()), float(reading.image.array.max())
        window = (low, high)
        if top > bottom:
            window = st.slider(
                "Grey values from black to white", bottom, top, (max(low, bottom), min(high, top)),
                format="%.0f" if top - bottom > 20 else "%.2f",
            )  # fmt: skip
        style = st.radio("Overlay", ["filled", "outlines", "none"], horizontal=True)
        opacity = st.slider("Opacity", 0.1, 1.0, 0.4, 0.05) if style == "filled" else 0.4
        with_names = st.toggle("names of levels", value=True, disabled=style == "none")
        middle = plane.axis == 0 and bool(reading.marks)
        with_lines = st.toggle("lines that were measured on", value=False, disabled=not middle)
    with left:
        count = reading.image.array.shape[plane.axis]
        index = 0
        if count > 1:
            index = st.slider("Slice", 0, count - 1, _fullest(reading, plane.axis), key=f"slice {name}")
        mask = plane.cut(reading.mask.array, index)
        spacing = plane.spacing(reading.image.spacing)
        frame = render_frame(
            plane.cut(reading.image.array, index), mask if style != "none" else None, reading.scheme, window, opacity,
            style == "outlines", spacing_mm=spacing, size=_FRAME_PIXELS, letters=plane.letters,
        )  # fmt: skip
        names = level_names(mask, reading.scheme, spacing) if with_names and style != "none" and plane.axis == 0 else []
        lines = reading.marks if with_lines and middle else ()
        if names or lines:
            frame = write_on_frame(frame, mask.shape, spacing, names, lines)
        st.image(frame)
        st.caption(_position(reading, name, index, has_pixel_size))
    with right:
        if style != "none":
            patches = legend_for(reading.scheme, np.unique(reading.mask.array).tolist())
            st.html("".join(_swatch(to_hex(patch.get_facecolor()), patch.get_label()) for patch in patches))
        if lines:
            st.html("".join(_swatch(color, kind) for kind, color in MARK_COLORS.items()))


def _fullest(reading: scan.Reading, axis: int) -> int:
    """The slice with most labels, of the middle half: a mask that is drawn everywhere must not open at the edge of the body."""
    others = tuple({0, 1, 2} - {axis})
    counts = np.count_nonzero(reading.mask.array, axis=others)
    middle = len(counts) // 2
    inner = range(middle - len(counts) // 4, middle + len(counts) // 4 + 1)
    return max(inner, key=lambda index: (counts[index], -abs(index - middle)))


def _position(reading: scan.Reading, name: str, index: int, has_pixel_size: bool) -> str:
    plane, count = PLANES[name], reading.image.array.shape[PLANES[name].axis]
    letters = "S head, I feet, A front, P back, L left, R right"
    if count == 1:
        return f"Letters: {letters}."
    offset = (index - (count - 1) / 2) * reading.image.spacing[plane.axis]
    where = "in the middle" if abs(offset) < 0.05 else f"{abs(offset):.1f} mm {plane.sides[int(offset > 0)]} the middle"
    return f"{name.capitalize()} slice {index} (of 0 to {count - 1}), {where}. Letters: {letters}."


def _swatch(color: str, text: str) -> str:
    box = f"display:inline-block;width:0.9em;height:0.9em;margin-right:0.4em;background:{color};border:1px solid #888"
    return (
        f'<span style="display:inline-block;margin-right:1.5em;font-size:0.9rem"><span style="{box}"></span>{escape(text)}</span>'
    )


def _show_table(table: pd.DataFrame) -> None:
    spine = scan.by_level(table, scan.SPINE_QUANTITIES)
    for column, name in zip(st.columns(len(spine.columns)), spine.columns, strict=True):
        value = spine[name].iloc[0] if len(spine) else float("nan")
        column.metric(name.partition(" [")[0], "not measurable" if np.isnan(value) else f"{value:.1f}°")
    for title, quantities in (("Discs", scan.DISC_QUANTITIES), ("Vertebrae", scan.VERTEBRA_QUANTITIES)):
        wide = scan.by_level(table, quantities)
        if not len(wide):
            continue
        st.markdown(f"**{title}**, from the head down")
        shown = wide.map(lambda value: "–" if np.isnan(value) else f"{round(value, 1) + 0.0:.1f}")  # no "-0.0"
        st.table(shown)
        if reasons := scan.not_measured(table, list(quantities)):
            st.caption(_plain(f"Not measurable: {'; '.join(reasons)}."))
    st.caption(_SIGNS)


def _downloads(name: str, reading: scan.Reading) -> None:
    called, data = scan.mask_file(reading.mask, name)
    stem = called.partition("_mask.")[0]
    st.subheader("Downloads")
    left, right = st.columns(2)
    left.download_button("Mask", data, called, "application/octet-stream", icon=":material/download:", on_click="ignore")
    left.caption(f"{_plain(called)}: on the image's own grid, values of label scheme {reading.scheme}.")
    if reading.table is not None:
        right.download_button(
            "Measurements", reading.table[list(COLUMNS)].to_csv(index=False), f"{stem}_measurements.csv", "text/csv",
            icon=":material/download:", on_click="ignore",
        )  # fmt: skip
        right.caption("CSV: level, label, quantity, value, unit, status; all quantities, also those not shown above.")


if __name__ == "__main__":
    page()
