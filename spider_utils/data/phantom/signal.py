"""From tissue to signal: relaxation times, proton densities, the spin-echo equation, and water and fat of a gradient echo.

T1 and T2 (ms) at 1.5 T and 3 T: muscle, cord, blood, kidney and liver from Stanisz et al. (Magn Reson Med 54:507, 2005); fat
and vertebral marrow from de Bazelaire et al. (Radiology 230:652, 2004); disc nucleus by Pfirrmann grade from Marinelli et
al. (AJNR 31:1278, 2010); cerebrospinal fluid from Rooney et al. (Magn Reson Med 57:308, 2007) and the usual free-water T2.
Turbo spin echo shows fat far brighter than its T2 says, because closely spaced echoes undo J-coupling (Henkelman et al., J
Magn Reson Imaging 4:533, 1994); fat therefore carries the longer T2 that such trains see. Proton densities are relative to
water. Tissues that a spin echo hardly sees (cortical bone, ligament) carry short T2 and the low density that their free
water has. Shares of fat are orders of magnitude that fat-fraction maps agree on: nine tenths of the protons under the skin, a
tenth of red and nine tenths of yellow marrow, next to none in muscle, disc and fluid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Matter:
    """One pure substance: (T1 at 1.5 T, T1 at 3 T), (T2 at 1.5 T, T2 at 3 T) in ms, relative proton density."""

    t1: tuple[float, float]
    t2: tuple[float, float]
    density: float


AIR = Matter((1000, 1000), (100, 100), 0.0)
FAT = Matter((288, 371), (125, 120), 0.92)
SEPTUM = Matter((600, 700), (38, 35), 0.45)
MUSCLE = Matter((1008, 1412), (42, 38), 0.80)
RED_MARROW = Matter((800, 950), (60, 55), 0.74)
YELLOW_MARROW = Matter((288, 371), (112, 106), 0.90)
CORTEX = Matter((600, 700), (9, 8), 0.16)
LIGAMENT = Matter((700, 900), (20, 18), 0.32)
ANNULUS = Matter((880, 1050), (36, 33), 0.56)
NUCLEUS = Matter((1250, 1450), (160, 150), 0.88)
FLUID = Matter((3900, 4200), (1600, 1500), 1.0)
NERVE = Matter((800, 1000), (78, 76), 0.74)
FLOWING_BLOOD = Matter((1441, 1932), (60, 50), 0.05)
SLOW_BLOOD = Matter((1100, 1500), (170, 150), 0.62)
BOWEL_WALL = Matter((900, 1150), (52, 46), 0.75)
BOWEL_CONTENT = Matter((700, 900), (120, 110), 0.62)
SKIN = Matter((700, 850), (30, 28), 0.62)
OEDEMA = Matter((1300, 1550), (105, 98), 0.78)

# A tissue is a blend of two kinds of matter; the grid's ``mix`` says how much of the second it holds in each voxel.
TISSUES: tuple[tuple[str, Matter, Matter], ...] = (
    ("air", AIR, AIR),
    ("fat", FAT, SEPTUM),
    ("muscle", MUSCLE, FAT),
    ("marrow", RED_MARROW, YELLOW_MARROW),
    ("cortex", CORTEX, RED_MARROW),
    ("ligament", LIGAMENT, FAT),
    ("disc", ANNULUS, NUCLEUS),
    ("fluid", FLUID, NERVE),
    ("nerve", NERVE, FLUID),
    ("artery", FLOWING_BLOOD, SLOW_BLOOD),
    ("bowel", BOWEL_WALL, BOWEL_CONTENT),
    ("abdomen", BOWEL_WALL, FAT),
    ("skin", SKIN, FAT),
    ("oedema", RED_MARROW, OEDEMA),
    ("sclerosis", CORTEX, YELLOW_MARROW),
    ("vein", SLOW_BLOOD, FAT),
)
TISSUE = {name: number for number, (name, _, _) in enumerate(TISSUES)}
# The blend of a tissue where only a sliver of it shares a voxel with another one.
SLIVER_MIX = {"marrow": 128, "abdomen": 128, "disc": 40, "sclerosis": 60, "oedema": 128}


def spin_echo(matter: Matter, tr_ms: float, te_ms: float, tesla: float, restored: bool = False) -> float:
    """Signal of a spin echo, relative to fully relaxed water.

    Args:
        matter: the substance.
        tr_ms, te_ms: repetition and effective echo time.
        tesla: field strength; relaxation times at 1.5 T below 2.25 T, else those at 3 T.
        restored: a last pulse turns what is left at the end of the echo train upright again (Siemens "RESTORE", as in SPACE),
            which keeps fluid bright at short repetition times; the train is taken to last twice the echo time.
    """
    field = 0 if tesla < 2.25 else 1
    e1, e2 = math.exp(-tr_ms / matter.t1[field]), math.exp(-te_ms / matter.t2[field])
    upright = 1 - e1
    if restored:
        upright /= 1 - e1 * math.exp(-2 * te_ms / matter.t2[field])
    return matter.density * upright * e2


# Share of the protons that is fat, of matter that has any.
_FAT_SHARE = {
    FAT: 0.92, SEPTUM: 0.30, MUSCLE: 0.02, RED_MARROW: 0.10, YELLOW_MARROW: 0.88, CORTEX: 0.10, BOWEL_CONTENT: 0.05, SKIN: 0.08,
    OEDEMA: 0.06,
}  # fmt: skip
# A gradient echo refocuses nothing: the field's own unevenness adds to 1/T2 (per second), most between bony trabeculae.
_FIELD_DECAY = 12.0
_TRABECULAR_DECAY = {RED_MARROW: 50.0, YELLOW_MARROW: 50.0, OEDEMA: 40.0, CORTEX: 150.0, BOWEL_CONTENT: 60.0}
# Blood that moves on between two pulses is dark in a spin echo; in a volume gradient echo it is not.
_IN_GRADIENT_ECHO = {FLOWING_BLOOD: replace(FLOWING_BLOOD, density=0.75, t2=(160, 140))}


def gradient_echo(matter: Matter, tr_ms: float, te_ms: float, flip_deg: float, tesla: float) -> tuple[float, float]:
    """(water, fat) signal of a spoiled gradient echo in the steady state, relative to fully relaxed water.

    Args:
        matter: the substance; its fat relaxes as FAT does, its water as the substance (as red marrow where fat prevails).
        tr_ms, te_ms: repetition and echo time.
        flip_deg: flip angle.
        tesla: field strength, as for spin_echo.
    """
    share, decay = _FAT_SHARE.get(matter, 0.0), _TRABECULAR_DECAY.get(matter, _FIELD_DECAY)
    matter = _IN_GRADIENT_ECHO.get(matter, matter)
    field = 0 if tesla < 2.25 else 1
    sine, cosine = math.sin(math.radians(flip_deg)), math.cos(math.radians(flip_deg))

    def signal(part: Matter) -> float:
        e1 = math.exp(-tr_ms / part.t1[field])
        return matter.density * sine * (1 - e1) / (1 - cosine * e1) * math.exp(-te_ms * (1 / part.t2[field] + decay / 1000))

    return (1 - share) * signal(RED_MARROW if share > 0.5 else matter), share * signal(FAT)


def water_fat_tables(tr_ms: float, te_ms: float, flip_deg: float, tesla: float) -> tuple[np.ndarray, np.ndarray]:
    """Water and fat signal of every tissue at every blend in a gradient echo: two of (number of tissues, 256) float32."""
    ends = np.array([[gradient_echo(m, tr_ms, te_ms, flip_deg, tesla) for m in pair] for _, *pair in TISSUES])
    return blend(ends[..., 0]), blend(ends[..., 1])


def blend(ends: np.ndarray) -> np.ndarray:
    """Signals of the two kinds of matter, (number of tissues, 2), at every blend of them: (number of tissues, 256) float32."""
    blend = np.arange(256) / 255.0
    return (ends[:, :1] * (1 - blend) + ends[:, 1:] * blend).astype(np.float32)


def signal_table(tr_ms: float, te_ms: float, tesla: float, restored: bool = False) -> np.ndarray:
    """Signal of every tissue at every blend: (number of tissues, 256) float32."""
    pairs = [pair for _, *pair in TISSUES]
    return blend(np.array([[spin_echo(matter, tr_ms, te_ms, tesla, restored) for matter in pair] for pair in pairs]))


def sliver_signal(table: np.ndarray) -> np.ndarray:
    """Signal of each tissue where it fills the smaller part of a voxel: (number of tissues,) float32."""
    return np.array([table[k, SLIVER_MIX.get(name, 0)] for k, (name, _, _) in enumerate(TISSUES)], dtype=np.float32)
