"""Who lies in the scanner: one made-up patient's lumbar spine as numbers, with the findings a radiologist would grade.

Everything is in millimetres and degrees in the patient's own frame: ``right`` grows to the patient's right, ``down`` towards
the feet, ``back`` towards the spine's back; the origin is the middle of the third vertebra's body. Vertebrae and discs are
numbered as SPIDER's masks do: vertebra 1 is the lowest mobile one, disc 1 lies below it. Nothing here knows of voxels.

Sizes follow published morphometry: bodies, pedicles and canal of Panjabi et al. (Spine 17:299, 1992; thoracic 16:888, 1991),
disc heights of Roberts et al. (Clin Anat 10:223, 1997), segmental lordosis of Been & Kalichman (Spine J 14:87, 2014), conus
level of Saifuddin et al. (Spine 23:1452, 1998). Findings are drawn with the prevalences counted in SPIDER's
``radiological_gradings.csv`` (van der Graaf et al., Sci Data 11:264, 2024; 1,520 discs), grade and level together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd

GENERATOR_VERSION = 1  # raise it whenever the same seed gives other numbers

N_VERTEBRAE = 11  # enough to fill any field of view: L5 up to T7
_NORMAL = NormalDist()

# By table level: L5, L4, ... L1, T12, ... T7 (mm). A spine with four or six lumbar vertebrae reads the lumbar part stretched.
_HEIGHT = (27.2, 27.8, 27.8, 27.4, 26.6, 25.2, 23.8, 22.7, 21.8, 21.0, 20.4)
_DEPTH = (34.8, 34.8, 34.6, 34.0, 33.0, 31.8, 30.6, 29.6, 28.6, 27.6, 26.8)
_WIDTH = (51.0, 49.5, 47.5, 45.5, 43.5, 41.5, 38.5, 36.0, 34.0, 32.5, 31.5)
_DISC = (6.2, 6.7, 6.3, 5.6, 4.8, 4.0, 3.5, 3.1, 2.9, 2.8, 2.8)  # disc below the vertebra
_SAC_AP = (11.6, 12.1, 12.3, 12.8, 13.5, 13.6, 13.0, 12.4, 12.0, 11.8, 11.6)  # dural sac at mid-body
_SAC_WIDTH = (16.5, 18.5, 19.5, 20.0, 20.0, 19.0, 17.5, 16.5, 16.0, 15.6, 15.4)
_PEDICLE_GAP = (14.0, 12.6, 11.8, 11.2, 10.8, 10.2, 9.2, 8.6, 8.3, 8.2, 8.0)  # half distance between the pedicles
_SPINOUS = (22.0, 28.0, 30.0, 29.0, 27.0, 26.0, 28.0, 31.0, 34.0, 36.0, 38.0)  # length behind the lamina
_SPINOUS_HEIGHT = (13.0, 18.0, 20.0, 20.0, 19.0, 17.0, 14.0, 12.0, 11.0, 10.5, 10.0)
_SPINOUS_DROP = (10.0, 8.0, 8.0, 9.0, 12.0, 17.0, 27.0, 36.0, 43.0, 47.0, 50.0)  # degrees below the body's own axis
# Lordotic wedge (front higher) in degrees of the disc below each vertebra and of its body, for a lumbar lordosis of 52 degrees.
_DISC_WEDGE = (14.5, 10.5, 8.0, 6.0, 4.0, 1.5, 0.5, 0.0, 0.0, 0.0, 0.0)
_BODY_WEDGE = (9.0, 3.0, 1.0, -1.0, -2.5, -3.5, -4.0, -4.0, -4.0, -4.5, -4.5)
_TABLE_LORDOSIS = 52.5

# Share of Pfirrmann grades 1..5 by disc, counted in SPIDER's gradings; discs above the seventh read the last row.
_GRADE_SHARE = (
    (0.11, 0.13, 0.27, 0.22, 0.27),
    (0.10, 0.12, 0.33, 0.26, 0.19),
    (0.14, 0.20, 0.33, 0.22, 0.11),
    (0.18, 0.23, 0.32, 0.16, 0.11),
    (0.22, 0.29, 0.23, 0.18, 0.08),
    (0.27, 0.34, 0.25, 0.11, 0.03),
    (0.28, 0.30, 0.19, 0.19, 0.04),
)
# Chance of a finding given the disc's grade 1..5 (same table), and how much likelier than the average it is at discs 1..7.
_BY_GRADE = {
    "modic": (0.07, 0.11, 0.34, 0.51, 0.87),
    "endplate": (0.18, 0.19, 0.42, 0.59, 0.85),
    "narrowing": (0.07, 0.06, 0.33, 0.64, 0.99),
    "bulging": (0.13, 0.20, 0.61, 0.78, 0.88),
    "herniation": (0.01, 0.01, 0.05, 0.08, 0.15),
    "listhesis": (0.00, 0.01, 0.01, 0.04, 0.11),
}
_BY_LEVEL = {
    "modic": (0.9, 1.15, 1.05, 1.05, 1.05, 0.9, 0.8),
    "endplate": (0.65, 0.9, 1.1, 1.15, 1.25, 1.1, 1.2),
    "narrowing": (1.1, 1.2, 1.1, 1.0, 0.8, 0.7, 0.7),
    "bulging": (1.1, 1.2, 1.2, 1.1, 0.8, 0.5, 0.5),
    "herniation": (1.4, 2.3, 0.9, 0.4, 0.2, 0.2, 0.2),
    "listhesis": (2.0, 1.4, 0.7, 0.5, 0.5, 0.4, 0.0),
}
# Disc height left at each grade (Pfirrmann et al., Spine 26:1873, 2001: normal, normal, slightly, normal to moderately
# decreased, collapsed); when narrowing is graded the second row holds.
_HEIGHT_LEFT = ((1.0, 1.0, 0.96, 0.92, 0.70), (0.82, 0.80, 0.78, 0.68, 0.46))


@dataclass(frozen=True)
class Frame:
    """Where a body or a disc sits and how it is turned.

    Attributes:
        right, down, back: its centre (mm).
        tilt: degrees by which its upper face looks forward (positive at the sacrum).
        roll: degrees of sideways bend; twist: degrees of rotation about its own long axis.
    """

    right: float
    down: float
    back: float
    tilt: float
    roll: float = 0.0
    twist: float = 0.0

    def point(self, u: float, v: float, w: float) -> tuple[float, float, float]:
        """(right, down, back) in mm of the point ``u`` to the right, ``v`` backwards and ``w`` upwards in this frame."""
        cos, sin = math.cos(math.radians(self.tilt)), math.sin(math.radians(self.tilt))
        roll, twist = math.radians(self.roll), math.radians(self.twist)
        u, v = u + twist * v, v - twist * u
        right, w = u + roll * w, w - roll * u
        return self.right + right, self.down - v * sin - w * cos, self.back + v * cos - w * sin

    def local(self, right: np.ndarray, down: np.ndarray, back: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(u, v, w) in mm of places in the patient's frame: to the right, backwards and upwards here. Inverse of ``point``."""
        right, down, back = right - np.float32(self.right), down - np.float32(self.down), back - np.float32(self.back)
        cos, sin = np.float32(math.cos(math.radians(self.tilt))), np.float32(math.sin(math.radians(self.tilt)))
        v, w = back * cos - down * sin, -(back * sin) - down * cos
        roll, twist = np.float32(math.radians(self.roll)), np.float32(math.radians(self.twist))
        w, u = w + roll * right, right - roll * w
        return u - twist * v, v + twist * u, w


@dataclass(frozen=True)
class Vertebra:
    """One vertebra: SPIDER number, place and sizes (mm, degrees).

    ``thoracic`` runs from 0 (lumbar shape of the arch) to 1 (thoracic shape). ``cups`` are the depths of the upper and lower
    endplate's hollow. ``lip`` is the size of osteophytes at the upper and lower rim. ``fat`` is the marrow's fat fraction.
    """

    number: int
    frame: Frame
    height: float
    depth: float
    width: float
    wedge: float
    waist: float
    cups: tuple[float, float]
    lip: tuple[float, float]
    fat: float
    thoracic: float
    pedicle_gap: float
    canal_depth: float
    spinous_length: float
    spinous_height: float
    spinous_drop: float
    texture: int
    hemangioma: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class Disc:
    """One disc and everything that is graded at its level (mm, degrees).

    ``herniation`` is how far the hernia reaches behind the line of the body's back wall, 0 for none; ``hernia_side`` is its
    distance from the midline and ``hernia_drop`` how far it has slid downwards. ``sac`` is the dural sac's front-to-back
    diameter at this disc before disc material presses on it, ``flavum`` the thickness of the ligamentum flavum.
    ``listhesis`` is how far the vertebra above has slipped forward. ``up_defect``/``low_defect`` concern the endplate above
    and below the disc: (right, back, depth) of the defect, or None.
    """

    number: int
    frame: Frame
    height: float
    depth: float
    width: float
    grade: int
    narrowing: int
    bulge: float
    herniation: float
    hernia_side: float
    hernia_drop: float
    listhesis: float
    modic: int
    modic_extent: float
    up_defect: tuple[float, float, float] | None
    low_defect: tuple[float, float, float] | None
    sac: float
    flavum: float
    texture: int

    @property
    def overhang(self) -> float:
        """How far the disc reaches behind the posterior body line at its worst place (mm)."""
        return max(self.bulge, self.herniation)

    @property
    def canal_ap(self) -> float:
        """Front-to-back diameter of the dural sac that disc and ligament leave at this level (mm)."""
        return self.sac - max(0.0, self.overhang - EPIDURAL_GAP)


CANAL_DEPTH = 16.0  # mm, bony canal of the average patient, front to back
EPIDURAL_GAP = 0.9  # mm between the back wall of a lumbar body and the dura


@dataclass(frozen=True)
class SacralSegment:
    """One piece of the sacrum (S1 = 1): place, height, depth at its top and bottom, half width of its ala (mm)."""

    number: int
    frame: Frame
    height: float
    depth: tuple[float, float]
    ala: float


@dataclass(frozen=True)
class Anatomy:
    """One made-up patient. See the module's text for the frame; every length is in mm.

    ``vertebrae[k]`` and ``discs[k]`` have number k + 1; disc k + 1 lies below vertebra k + 1.
    """

    seed: int
    sex: str
    age: int
    scale: float
    n_lumbar: int
    lordosis: float
    scoliosis: float
    vertebrae: tuple[Vertebra, ...]
    discs: tuple[Disc, ...]
    sacrum: tuple[SacralSegment, ...]
    conus: float
    sac_end: float
    subcutaneous: float
    muscle_fat: float
    texture: int

    def gradings(self, patient: int = 1, discs: list[int] | None = None) -> pd.DataFrame:
        """The patient's rows of ``radiological_gradings.csv``: SPIDER's column names and order, a row a disc.

        Args:
            patient: the id to write in ``Patient``.
            discs: disc numbers to list (those in view), default all.
        """
        rows = [
            {
                "Patient": patient,
                "IVD label": d.number,
                "Modic": d.modic,
                "UP endplate": int(d.up_defect is not None),
                "LOW endplate": int(d.low_defect is not None),
                "Spondylolisthesis": int(d.listhesis > 0),
                "Disc herniation": int(d.herniation > 0),
                "Disc narrowing": d.narrowing,
                "Disc bulging": int(d.bulge > 0),
                "Pfirrman grade": d.grade,
            }
            for d in self.discs
            if discs is None or d.number in discs
        ]
        return pd.DataFrame(rows)

    def truth(self, patient: int = 1, discs: list[int] | None = None) -> pd.DataFrame:
        """What the lessons on measuring are checked against: a row a disc, lengths in mm, angles in degrees.

        ``disc_height_mm`` is the distance between the endplates in the middle of the disc, where both are hollow, and
        ``disc_rim_height_mm`` the mean distance of their rims; ``canal_ap_mm`` what disc and
        ligament leave of the dural sac in the plane of the disc, ``canal_midbody_ap_mm`` the free sac behind the vertebra above;
        ``herniation_mm`` and ``bulge_mm`` reach behind the posterior body line; ``lordosis_deg`` runs from the upper face of L1
        to the sacrum and repeats on each row.
        """
        rows = []
        for d in self.discs:
            if discs is not None and d.number not in discs:
                continue
            above = self.vertebrae[d.number - 1]
            hollow = above.cups[1] + (self.vertebrae[d.number - 2].cups[0] if d.number > 1 else 0.0)
            rows.append(
                {
                    "patient": patient,
                    "disc": d.number,
                    "sex": self.sex,
                    "age": self.age,
                    "n_lumbar": self.n_lumbar,
                    "lordosis_deg": round(self.lordosis, 2),
                    "scoliosis_deg": round(self.scoliosis, 2),
                    "pfirrmann": d.grade,
                    "disc_height_mm": round(d.height + hollow, 2),
                    "disc_rim_height_mm": round(d.height, 2),
                    "disc_depth_mm": round(d.depth, 2),
                    "vertebra_height_mm": round(above.height, 2),
                    "vertebra_depth_mm": round(above.depth, 2),
                    "canal_ap_mm": round(d.canal_ap, 2),
                    "canal_midbody_ap_mm": round(self.sac_ap(d.number), 2),
                    "bulge_mm": round(d.bulge, 2),
                    "herniation_mm": round(d.herniation, 2),
                    "herniation_side_mm": round(d.hernia_side, 2),
                    "listhesis_mm": round(d.listhesis, 2),
                }
            )
        return pd.DataFrame(rows)

    def sac_ap(self, number: int) -> float:
        """Front-to-back diameter of the dural sac behind the body of vertebra ``number`` (mm)."""
        return _at(_SAC_AP, number, self.n_lumbar) * self.canal_factor

    def sac_width(self, number: int) -> float:
        """Width of the dural sac behind the body of vertebra ``number`` (mm)."""
        return _at(_SAC_WIDTH, number, self.n_lumbar) * self.canal_factor

    @property
    def canal_factor(self) -> float:
        """How wide this patient's canal is against the table (1 = average)."""
        return self.vertebrae[2].canal_depth / CANAL_DEPTH


def _at(table: tuple[float, ...], number: float, n_lumbar: int) -> float:
    """A table's value at vertebra ``number`` of a spine with ``n_lumbar`` lumbar vertebrae (linear between entries)."""
    index = (number - 1) * 4 / (n_lumbar - 1) if number <= n_lumbar else number - 1 - n_lumbar + 5
    low = min(int(index), len(table) - 2)
    return table[low] + (min(index, len(table) - 1) - low) * (table[low + 1] - table[low])


def _grade(number: int, latent: float) -> int:
    """Pfirrmann grade whose share at this disc holds the given standard-normal degeneration score."""
    left = _NORMAL.cdf(latent)
    for grade, share in enumerate(_GRADE_SHARE[min(number, 7) - 1], start=1):
        left -= share
        if left < 0:
            return grade
    return 5


_PATIENT_OVERRIDES = {
    "sex": "'F' or 'M'",
    "age": "years, 18 to 95",
    "scale": "size against the average, 0.8 to 1.2",
    "n_lumbar": "4, 5 or 6 lumbar vertebrae",
    "lordosis": "degrees from L1 to the sacrum, 20 to 80",
    "scoliosis": "degrees, -25 to 25",
    "subcutaneous": "thickness of the fat under the skin in mm, 4 to 60",
    "muscle_fat": "share of fat in the back muscles, 0 to 0.7",
}
_DISC_OVERRIDES = {
    "pfirrmann": ("Pfirrmann grade 1 to 5", 1, 5),
    "narrowing": ("0 or 1", 0, 1),
    "bulge": ("mm behind the body line, 0 to 4", 0, 4),
    "herniation": ("mm behind the body line, 0 to 9", 0, 9),
    "listhesis": ("mm of forward slip, 0 to 12", 0, 12),
    "modic": ("Modic type 0 to 3", 0, 3),
    "up_endplate": ("0 or 1", 0, 1),
    "low_endplate": ("0 or 1", 0, 1),
    "stenosis": ("share of the dural sac lost to the ligaments, 0 to 0.6", 0, 0.6),
}
_PATIENT_LIMITS = {
    "age": (18, 95), "scale": (0.8, 1.2), "n_lumbar": (4, 6), "lordosis": (20, 80), "scoliosis": (-25, 25),
    "subcutaneous": (4, 60), "muscle_fat": (0, 0.7),
}  # fmt: skip


def _check_overrides(overrides: dict) -> None:
    for key, value in overrides.items():
        if key in _DISC_OVERRIDES:
            text, low, high = _DISC_OVERRIDES[key]
            if not isinstance(value, dict):
                raise ValueError(f"{key} must be a dict of disc number -> value, as in {key}={{1: {low}}} ({text})")
            for number, size in value.items():
                if number not in range(1, N_VERTEBRAE + 1) or not low <= size <= high:
                    raise ValueError(f"{key}={{{number}: {size}}}: disc numbers are 1 to {N_VERTEBRAE}, the value is {text}")
        elif key == "sex":
            if value not in ("F", "M"):
                raise ValueError(f"sex must be 'F' or 'M', not {value!r}")
        elif key in _PATIENT_LIMITS:
            low, high = _PATIENT_LIMITS[key]
            if not low <= value <= high:
                raise ValueError(f"{key}={value}: expected {_PATIENT_OVERRIDES[key]}")
        else:
            known = ", ".join([*_PATIENT_OVERRIDES, *_DISC_OVERRIDES])
            raise ValueError(f"unknown override '{key}'. Known are: {known}")


def _draw_findings(rng: np.random.Generator, degeneration: float, scale: float, overrides: dict) -> list[dict]:
    """One dict of findings a disc, before geometry."""
    findings = []
    for number in range(1, N_VERTEBRAE + 1):
        # Always the same count of draws, so that an override moves nothing else.
        own, uniform = rng.standard_normal(4).tolist(), rng.random(16).tolist()
        column = min(number, 7) - 1
        grade = _grade(number, 0.75 * degeneration + 0.66 * own[0])
        grade = int(overrides.get("pfirrmann", {}).get(number, grade))

        def given(name: str, draw: float, grade: int = grade, column: int = column) -> bool:
            return draw < min(0.99, _BY_GRADE[name][grade - 1] * _BY_LEVEL[name][column])

        narrowing = int(overrides.get("narrowing", {}).get(number, given("narrowing", uniform[0])))
        bulge = (1.2 + 1.6 * uniform[2]) * scale if given("bulging", uniform[1]) else 0.0
        herniation = (4.0 + 3.5 * uniform[4]) * scale if given("herniation", uniform[3]) else 0.0
        if herniation and uniform[5] < 0.5:
            bulge = 0.0  # half of SPIDER's herniated discs are not graded as bulging
        listhesis = (3.5 + 5.0 * uniform[7] ** 2) * scale if given("listhesis", uniform[6]) else 0.0
        modic = 0
        if given("modic", uniform[8]):
            modic = 2 if uniform[9] < 0.88 else 1 if uniform[9] < 0.96 else 3
        stenosis = 0.0
        if grade >= 3 and uniform[10] < 0.12 * (grade - 2):
            stenosis = 0.15 + 0.35 * uniform[11]
        found = {
            "grade": grade, "narrowing": narrowing, "bulge": bulge, "herniation": herniation, "listhesis": listhesis,
            "modic": modic, "stenosis": stenosis, "up_endplate": given("endplate", 0.5 * (uniform[12] + uniform[13])),
            "low_endplate": given("endplate", 0.5 * (uniform[12] + uniform[14])), "own": own, "side": uniform[15],
        }  # fmt: skip
        for key in ("bulge", "herniation", "listhesis", "modic", "up_endplate", "low_endplate", "stenosis"):
            found[key] = overrides.get(key, {}).get(number, found[key])
        findings.append(found)
    return findings


def make_anatomy(seed: int, **overrides) -> Anatomy:
    """Draw one patient.

    Args:
        seed: any non-negative integer; the same seed gives the same patient on every machine.
        **overrides: fix what would be drawn. For the patient: ``sex``, ``age``, ``scale``, ``n_lumbar``, ``lordosis``
            (degrees), ``scoliosis`` (degrees), ``subcutaneous`` (mm), ``muscle_fat``. For single discs, as a dict of disc number
            to value: ``pfirrmann``, ``narrowing``, ``bulge`` (mm), ``herniation`` (mm), ``listhesis`` (mm), ``modic``,
            ``up_endplate``, ``low_endplate``, ``stenosis`` (share of the sac). All else stays as the seed drew it.

    Returns:
        Anatomy with vertebrae and discs 1 to 11.

    Raises:
        ValueError: an override is unknown or out of its range.

    Example:
        ``make_anatomy(7, n_lumbar=6, herniation={2: 6.0})``
    """
    _check_overrides(overrides)
    rng = np.random.default_rng([int(seed), GENERATOR_VERSION])
    normal, uniform = rng.standard_normal(12).tolist(), rng.random(16).tolist()
    degeneration = normal[0]
    sex = overrides.get("sex", "F" if uniform[0] < 0.62 else "M")
    age = int(overrides.get("age", min(88, max(19, round(54 + 13 * degeneration + 7 * normal[1])))))
    scale = float(overrides.get("scale", (1.045 if sex == "M" else 0.965) * (1 + 0.035 * float(np.clip(normal[2], -2, 2)))))
    n_lumbar = int(overrides.get("n_lumbar", 4 if uniform[1] < 0.04 else 6 if uniform[1] > 0.94 else 5))
    lordosis_wish = float(overrides.get("lordosis", np.clip(50 + 9.5 * normal[3], 26, 74)))
    bend = 4.0 * normal[4] if uniform[2] < 0.85 else math.copysign(8 + 8 * uniform[3], normal[4])
    scoliosis = float(overrides.get("scoliosis", bend))
    subcutaneous = float(overrides.get("subcutaneous", np.clip(17 * math.exp(0.55 * normal[5]), 5, 52)))
    fat_by_age = 0.05 + 0.0042 * (age - 25) + 0.08 * normal[6] + (0.04 if sex == "F" else 0)
    muscle_fat = float(overrides.get("muscle_fat", np.clip(fat_by_age, 0.03, 0.5)))
    marrow_fat = float(np.clip(0.34 + 0.0045 * (age - 30) + 0.07 * normal[7], 0.22, 0.78))
    canal = float(np.clip(1 + 0.09 * normal[8], 0.8, 1.2))
    findings = _draw_findings(rng, degeneration, scale, overrides)

    vertebrae, discs = _stack(rng, findings, scale, n_lumbar, lordosis_wish, scoliosis, marrow_fat, canal, age)
    l1 = vertebrae[n_lumbar - 1]
    sacral_tilt = discs[0].frame.tilt + 0.5 * _disc_wedge(1, discs[0].height, scale, n_lumbar, lordosis_wish)
    lordosis = sacral_tilt - (l1.frame.tilt - 0.5 * l1.wedge)
    # Conus on average at the lower third of L1; the sac ends on average at the middle of S2.
    return Anatomy(
        seed=int(seed),
        sex=sex,
        age=age,
        scale=scale,
        n_lumbar=n_lumbar,
        lordosis=lordosis,
        scoliosis=scoliosis,
        vertebrae=vertebrae,
        discs=discs,
        sacrum=_sacrum(discs[0], sacral_tilt, scale, float(uniform[4])),
        conus=n_lumbar - 0.3 + 0.45 * float(np.clip(normal[9], -2, 2)),
        sac_end=float(np.clip(1.6 + 0.4 * normal[10], 0.9, 2.6)),
        subcutaneous=subcutaneous,
        muscle_fat=muscle_fat,
        texture=int(rng.integers(1 << 30)),
    )


def _disc_wedge(number: int, height: float, scale: float, n_lumbar: int, lordosis: float) -> float:
    """Lordotic angle of a disc (degrees): less of it where the disc has lost height."""
    full = _at(_DISC, number, n_lumbar) * scale
    stretch = lordosis / _TABLE_LORDOSIS * 5 / n_lumbar if number <= n_lumbar else 1.0
    return _at(_DISC_WEDGE, number, n_lumbar) * stretch * (0.35 + 0.65 * min(1.0, height / full))


def _stack(
    rng: np.random.Generator, findings: list[dict], scale: float, n_lumbar: int, lordosis: float, scoliosis: float,
    marrow_fat: float, canal: float, age: int,
) -> tuple[tuple[Vertebra, ...], tuple[Disc, ...]]:  # fmt: skip
    """Pile discs and vertebrae upwards from the sacrum, then move the origin into the third body."""
    # A lordosis of 50 degrees goes with a sacral slope of about 40 (Been & Kalichman 2014).
    tilt = 6 + 0.66 * lordosis
    down, back = 0.0, 0.0
    right_curve = _scoliotic_curve(scoliosis, n_lumbar)
    normal = rng.standard_normal((N_VERTEBRAE, 10)).tolist()
    uniform = rng.random((N_VERTEBRAE, 10)).tolist()
    texture = rng.integers(1 << 30, size=(N_VERTEBRAE, 2)).tolist()
    placed = []
    for k, found in enumerate(findings):
        number, jitter = k + 1, normal[k]
        left = _HEIGHT_LEFT[found["narrowing"]][found["grade"] - 1] + 0.03 * float(np.clip(jitter[0], -2, 2))
        disc_height = max(1.8, _at(_DISC, number, n_lumbar) * scale * left)
        height = _at(_HEIGHT, number, n_lumbar) * scale * (1 + 0.025 * float(np.clip(jitter[1], -2, 2)))
        curved = 1.0 if number > n_lumbar else 0.6 + 0.4 * lordosis / 50
        body_wedge = _at(_BODY_WEDGE, number, n_lumbar) * curved + 0.8 * jitter[2]
        if age > 55 and n_lumbar - 1 <= number <= n_lumbar + 3 and uniform[k][0] < 0.04:
            body_wedge -= 6 + 6 * uniform[k][1]  # an old wedge fracture at the thoracolumbar junction
            height *= 0.88
        wedge = _disc_wedge(number, disc_height, scale, n_lumbar, lordosis)
        for part, thickness, angle in (("disc", disc_height, wedge), ("body", height, body_wedge)):
            if part == "body":  # slip before placing, so that all above slips along
                sin, cos = math.sin(math.radians(tilt)), math.cos(math.radians(tilt))
                down, back = down + found["listhesis"] * sin, back - found["listhesis"] * cos
            middle = tilt - angle / 2
            step_down = -thickness * math.cos(math.radians(middle))
            step_back = -thickness * math.sin(math.radians(middle))
            place = (down + step_down / 2, back + step_back / 2, middle)
            down, back, tilt = down + step_down, back + step_back, tilt - angle
            if part == "disc":
                disc_place = place
        placed.append((number, found, disc_height, height, body_wedge, disc_place, place))

    origin_down, origin_back = placed[2][6][0], placed[2][6][1]

    def frame(place: tuple[float, float, float]) -> Frame:
        right, roll = right_curve(place[0] - origin_down)
        return Frame(right, place[0] - origin_down, place[1] - origin_back, place[2], roll, 0.3 * roll)

    vertebrae, discs = [], []
    for k, (number, found, disc_height, height, body_wedge, disc_place, place) in enumerate(placed):
        jitter, chance = normal[k], uniform[k]
        depth, width = _at(_DEPTH, number, n_lumbar) * scale, _at(_WIDTH, number, n_lumbar) * scale
        below, above = found, findings[min(k + 1, N_VERTEBRAE - 1)]
        spurs = tuple(
            min(2.4, max(0.0, (f["grade"] - 2.2) * 0.6 * (0.3 + 1.2 * c) + 0.02 * (age - 60)))
            for f, c in ((above, chance[2]), (below, chance[3]))
        )
        thoracic = min(1.0, max(0.0, (number - n_lumbar - 0.4) / 2.5))
        canal_depth = CANAL_DEPTH * canal
        hemangioma = None
        if chance[4] < 0.05:
            hemangioma = (
                width * 0.5 * (chance[5] - 0.5), depth * 0.5 * (chance[6] - 0.5), height * 0.4 * (chance[7] - 0.5),
                4 + 4 * chance[8],
            )  # fmt: skip
        vertebrae.append(
            Vertebra(
                number=number, frame=frame(place), height=height, depth=depth * (1 + 0.02 * jitter[3]),
                width=width * (1 + 0.02 * jitter[4]), wedge=body_wedge, waist=0.09 + 0.018 * float(np.clip(jitter[5], -2, 2)),
                cups=(0.9 + 0.7 * chance[9], 1.3 + 0.9 * chance[1]), lip=spurs,
                fat=float(np.clip(marrow_fat + 0.03 * jitter[6] - 0.012 * (number - 3), 0.15, 0.85)), thoracic=thoracic,
                pedicle_gap=_at(_PEDICLE_GAP, number, n_lumbar) * scale * (0.5 + 0.5 * canal), canal_depth=canal_depth,
                spinous_length=_at(_SPINOUS, number, n_lumbar) * scale * (1 + 0.07 * jitter[7]),
                spinous_height=_at(_SPINOUS_HEIGHT, number, n_lumbar) * scale * (1 + 0.07 * jitter[8]),
                spinous_drop=_at(_SPINOUS_DROP, number, n_lumbar) + 3 * jitter[9], texture=texture[k][0],
                hemangioma=hemangioma,
            )
        )  # fmt: skip
        own = found["own"]
        side = (found["side"] - 0.5) * 14
        # Most graded endplate changes are shallow; a third are deep enough to be called Schmorl's nodes.
        depths = [1.1 + 1.2 * chance[j] if chance[j + 3] < 0.65 else 2.2 + 2.4 * chance[j] for j in (1, 2)]
        defects = [
            (own[j] * 0.16 * width, (0.1 * own[3 - j] + 0.06) * depth, depths[j - 1]) if found[key] else None
            for j, key in ((1, "up_endplate"), (2, "low_endplate"))
        ]
        free = 0.97 * 0.5 * (
            _at(_SAC_AP, number, n_lumbar) + _at(_SAC_AP, max(1, number - 1), n_lumbar)
        ) * canal * (1 - found["stenosis"])  # fmt: skip
        # Even a big hernia leaves a slit of the sac open, as it nearly always does in patients who are imaged.
        herniation = min(found["herniation"], 0.62 * free + EPIDURAL_GAP)
        discs.append(
            Disc(
                number=number, frame=frame(disc_place), height=disc_height, depth=depth, width=width, grade=found["grade"],
                narrowing=found["narrowing"], bulge=found["bulge"], herniation=herniation, hernia_side=side,
                hernia_drop=(0.2 + 0.8 * abs(own[2])) * herniation * 0.35, listhesis=found["listhesis"],
                modic=int(found["modic"]), modic_extent=4 + 5 * chance[0] + (3 if found["grade"] == 5 else 0),
                up_defect=defects[0], low_defect=defects[1],
                sac=free, flavum=3.0 + 6.0 * found["stenosis"], texture=texture[k][1],
            )
        )  # fmt: skip
    return tuple(vertebrae), tuple(discs)


def _scoliotic_curve(cobb: float, n_lumbar: int):
    """down (mm) -> (right in mm, roll in degrees) of a single smooth lumbar bend with the given Cobb angle."""
    half = 36.0 * n_lumbar / 2 + 20  # mm from the apex to where the bend ends

    def curve(down: float) -> tuple[float, float]:
        phase = max(-1.6, min(1.6, down / half)) * math.pi / 2
        peak = math.tan(math.radians(cobb / 2)) * half * 2 / math.pi
        slope = -peak * math.sin(phase) * math.pi / 2 / half  # d right / d down
        return peak * (math.cos(phase) - 0.6), -math.degrees(math.atan(slope))

    return curve


def _sacrum(first: Disc, tilt: float, scale: float, curve: float) -> tuple[SacralSegment, ...]:
    """Five sacral segments below disc 1, bending backwards and then forwards."""
    heights, tops = (30.0, 26.0, 22.0, 18.0, 16.0), (33.5, 25.0, 18.5, 14.0, 11.0, 8.0)
    bends = (13 + 7 * curve, 3 + 5 * curve, 8 + 8 * curve, 14.0, 16.0)
    roll = first.frame.roll
    right, down, back = first.frame.point(0, 0, -first.height / 2)
    segments = []
    for k in range(5):
        height = heights[k] * scale
        middle = tilt + (1.0 if k < 1 else -1.0) * bends[k] / 2
        # The front of the sacrum is hollow: S1 leans further back than its upper face says, lower segments turn down again.
        frame = Frame(right, down, back, middle, roll).point(0, 0, -height / 2)
        segments.append(
            SacralSegment(
                k + 1, Frame(frame[0], frame[1], frame[2], middle, roll), height, (tops[k] * scale, tops[k + 1] * scale),
                (50, 47, 38, 28, 20)[k] * scale,
            )
        )  # fmt: skip
        right, down, back = Frame(frame[0], frame[1], frame[2], middle, roll).point(0, 0, -height / 2)
        tilt = middle + (1.0 if k < 1 else -1.0) * bends[k] / 2
    return tuple(segments)
