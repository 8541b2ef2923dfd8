"""Drawings of networks and of the course: boxes for blocks, arrows for what flows between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spider_utils.view.plots import CourseFigure, new_figure, styled

KIND_COLORS = {"data": "#ffffff", "down": "#cfe3f2", "up": "#fbe6c2", "between": "#d5ecd9", "new": "#f6d5e6"}
"""Fill of a box by its kind: data, way down (encoder), way up (decoder), between both, or what is new in a network."""


@dataclass(frozen=True)
class Box:
    """A block in a drawing: of a network, or a stage of the course.

    Attributes:
        x, y: its middle, in steps of the drawing; y grows upward.
        text: its lines.
        kind: one of KIND_COLORS.
    """

    x: float
    y: float
    text: str
    kind: str = "data"


@styled
def block_diagram(
    boxes: Mapping[str, Box],
    arrows: Sequence[tuple[str, str]],
    skips: Sequence[tuple[str, str]] = (),
    *,
    height_in: float = 5.0,
    font_size: float = 8,
    bend: float = 0.0,
    title: str = "",
) -> CourseFigure:
    """Draw a network, or anything else that is made of blocks.

    Args:
        boxes: its blocks by name.
        arrows: pairs of names, from and to: what each block passes on.
        skips: pairs that are drawn dashed: skip connections and shortcuts.
        height_in: of the figure, inches.
        font_size: of the texts in boxes, points.
        bend: curvature of the dashed arrows, 0 for straight ones; needed where they would cross other boxes.
        title: above the drawing.

    Raises:
        ValueError: an arrow from or to a box that is not there, or an unknown kind.
    """
    for name in (end for pair in (*arrows, *skips) for end in pair):
        if name not in boxes:
            raise ValueError(f"an arrow ends at '{name}', but the boxes are: {', '.join(boxes)}")
    if unknown := {box.kind for box in boxes.values()} - set(KIND_COLORS):
        raise ValueError(f"unknown kind of box: {', '.join(sorted(unknown))}. Known are: {', '.join(KIND_COLORS)}")
    figure = new_figure(height_in, title)
    ax = figure.subplots()
    drawn = {}
    for name, box in boxes.items():
        style = {"boxstyle": "round", "facecolor": KIND_COLORS[box.kind], "edgecolor": "#555555"}
        drawn[name] = ax.text(box.x, box.y, box.text, ha="center", va="center", fontsize=font_size, bbox=style, zorder=3)
    xs, ys = [box.x for box in boxes.values()], [box.y for box in boxes.values()]
    ax.set(xlim=(min(xs) - 0.6, max(xs) + 0.6), ylim=(min(ys) - 0.5, max(ys) + 0.5), title=title)
    ax.set_axis_off()
    figure.draw_without_rendering()  # boxes know their size now, so that arrows can end at their edges
    for pairs, look in ((arrows, {}), (skips, {"linestyle": "--", "connectionstyle": f"arc3,rad={bend}"})):
        for start, end in pairs:
            arrow = {"arrowstyle": "-|>", "color": "#555555", "shrinkA": 3, "shrinkB": 3, **look}
            arrow |= {"patchA": drawn[start].get_bbox_patch(), "patchB": drawn[end].get_bbox_patch()}
            ax.annotate("", (boxes[end].x, boxes[end].y), (boxes[start].x, boxes[start].y), arrowprops=arrow, zorder=2)
    return figure


@dataclass(frozen=True)
class Stage:
    """A step of the course in its workflow.

    Attributes:
        x, y: where its box stands, see ``Box``.
        kind: its colour, one of KIND_COLORS.
        text: what happens there, in lines.
        notebooks: the names of those that teach it.
    """

    x: float
    y: float
    kind: str
    text: str
    notebooks: tuple[str, ...]

    def box(self) -> Box:
        """Its box: the numbers of its notebooks below its text."""
        numbers = ", ".join(name.split("_")[0] for name in self.notebooks)
        return Box(self.x, self.y, f"{self.text}\n[{numbers}]", self.kind)


WORKFLOW = {
    "data": Stage(0, 2, "data", "Data\nvolumes, masks,\ntables", ("00_start_here", "01_data_exploration")),
    "prepare": Stage(1, 2, "down", "Preprocessing\none orientation,\nsplit by patient", ("02_preprocessing",)),
    "augment": Stage(1, 3, "down", "Augmentation\nchanged copies\nto learn from", ("03_augmentation",)),
    "slices": Stage(
        2,
        3,
        "between",
        "Networks of slices\nU-Net, U-Net++,\nResUNet, DeepLab,\nmodified U-Net",
        ("04_unet", "05_unetplusplus", "06_resunet", "07_deeplabv3", "08_modified_unet"),
    ),  # fmt: skip
    "planes": Stage(2, 2, "between", "Three planes\na network each,\nfused in 3D", ("10_triplanar_ensemble",)),
    "volumes": Stage(2, 1, "between", "Network of volumes\nUNETR", ("09_unetr_3d",)),
    "ensemble": Stage(3, 3, "up", "Ensemble\npredictions\naveraged", ("11_ensemble_weight_search",)),
    "evaluate": Stage(3, 2, "up", "Evaluation\nDice, distances,\nhow sure we are", ("12_evaluation",)),
    "view": Stage(3, 1, "data", "Slice viewer\nimages and masks,\nworst slices", ("16_interactive_viewer",)),
    "audit": Stage(4, 3, "up", "Audit\nprinted numbers\nbeside ours", ("15_reproducibility_audit",)),
    "patients": Stage(0, 3, "data", "From phantom\nto patient\nrandom looks", ("15b_from_phantom_to_patient",)),
    "measure": Stage(4, 2, "new", "Measurements\nmm and degrees", ("13_measurements",)),
    "grade": Stage(4, 1, "new", "Gradings\nwhat radiologists\nwrite", ("13b_gradings",)),
    "axial": Stage(0, 1, "new", "Axial slices\ntissues around\na disc", ("13c_axial_tissues",)),
    "classify": Stage(1, 1, "new", "Classification\nfindings without\na mask", ("14_disease_classification",)),
}
"""The course from data to findings, by stage."""

WORKFLOW_ARROWS = (
    ("data", "prepare"), ("data", "axial"), ("data", "classify"), ("data", "patients"),
    ("prepare", "augment"), ("prepare", "planes"), ("prepare", "volumes"), ("augment", "slices"),
    ("slices", "ensemble"), ("slices", "evaluate"), ("planes", "evaluate"), ("volumes", "evaluate"),
    ("ensemble", "evaluate"), ("evaluate", "measure"), ("measure", "grade"), ("evaluate", "view"),
    ("evaluate", "audit"),
)  # fmt: skip


def workflow_notebooks() -> list[str]:
    """The notebooks that the workflow names, in reading order."""
    return sorted(name for stage in WORKFLOW.values() for name in stage.notebooks)


def course_workflow() -> CourseFigure:
    """Draw the way through the course: from data to measurements and findings, with the numbers of each step's notebooks."""
    boxes = {name: stage.box() for name, stage in WORKFLOW.items()}
    return block_diagram(boxes, WORKFLOW_ARROWS, height_in=4.6, font_size=9.5)
