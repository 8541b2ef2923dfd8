"""What each label means in codes that other systems know (SNOMED CT, by DICOM PS3.16).

Codes come from the context groups of DICOM PS3.16, through the copy of them that pydicom carries: vertebrae CID 7603, discs
between two named vertebrae CID 7604, "Vertebra" and "Ligament" CID 7151, vertebral canal and spinous process CID 6115, categories
CID 7150. PS3.16 has no code for

- a disc of no known level. SNOMED CT's 360499006, "intervertebral disc", is taken; two public projects use it for that, but it
  could not be checked against SNOMED CT itself (DISC);
- a dural sac, a hernia, and an articular process that may be the upper or the lower one. They get codes of the kit's own,
  with the designator PRIVATE; designators that begin with 99 are for such (PS3.16, section 8.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spider_utils.errors import KitError
from spider_utils.export import optional_library
from spider_utils.labels import BACKGROUND, get_scheme

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

PRIVATE = "99SPIDERKIT"
DISC = ("360499006", "SCT", "Intervertebral disc")
CODED_SCHEMES = ("spider", "levels20", "structures4", "released_gray", "axial8")


@dataclass(frozen=True)
class Anatomy:
    """The codes of one label.

    Attributes:
        category: what kind of thing it is (PS3.16 CID 7150).
        type: which one.
    """

    category: Code
    type: Code


def anatomy_of(scheme: str) -> dict[int, Anatomy]:
    """Codes of every label of a scheme but background, by mask value.

    Vertebrae that are only partly in view have the code of their level: the segment's label says "partly in view".

    Raises:
        KitError: pydicom is not installed, or labels of this scheme do not say what they are.
        ValueError: unknown scheme.
    """
    chosen = get_scheme(scheme)
    if scheme not in CODED_SCHEMES:
        raise KitError(
            f"labels of scheme '{scheme}' cannot be coded: some stand for several things. Schemes with codes are "
            + ", ".join(CODED_SCHEMES)
        )
    return {value: _anatomy(name) for value, name in chosen.names.items() if name != BACKGROUND}


def _anatomy(name: str) -> Anatomy:
    """The codes of a label by its name in ``labels``."""
    coding = optional_library("pydicom.sr.coding")
    codes = optional_library("pydicom.sr.codedict").codes
    kinds, structures, spine = codes.CID7150, codes.CID7151, codes.CID6115
    part = name.removesuffix(" (partly in view)").removeprefix("disc ")
    known = {
        "vertebra": structures.Vertebra,
        "spinal canal": spine.VertebralCanal,
        "spinous process": spine.SpinousProcessOfVertebra,
        "ligament": structures.Ligament,
        "disc": coding.Code(*DISC),
        "dural sac": coding.Code("DURAL-SAC", PRIVATE, "Dural sac"),
        "articular process": coding.Code("ARTICULAR", PRIVATE, "Articular process of vertebra"),
        "hernia": coding.Code("HERNIA", PRIVATE, "Herniated part of intervertebral disc"),
    }
    if name == "hernia":
        return Anatomy(kinds.MorphologicallyAbnormalStructure, known[name])
    if name == "ligament":
        return Anatomy(kinds.Tissue, known[name])
    if part in known:
        return Anatomy(kinds.AnatomicalStructure, known[part])
    group, keyword, unknown = (
        (codes.CID7604, f"{part.replace('/', '')}Disc", "disc")
        if name.startswith("disc ")
        else (codes.CID7603, f"{part}Vertebra", "vertebra")
    )
    # There is no vertebra C0 and no disc above C2: a label that counts so far names no level that PS3.16 knows.
    return Anatomy(kinds.AnatomicalStructure, getattr(group, keyword, known[unknown]))
