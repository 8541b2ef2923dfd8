"""The study of the source `triplanar`: three 2D networks and their fusion, cross-validated; its tables; its open questions."""

from spider_utils.triplanar.folds import Fold, make_folds
from spider_utils.triplanar.rules import ALL, LOWEST, NAMED, PART, RULES, keep_by_rule
from spider_utils.triplanar.settings import CONTRASTS, FUSED, FUSIONS, MEAN, METHODS, SETTINGS, Settings
from spider_utils.triplanar.study import TriplanarStudy, load_volumes
from spider_utils.triplanar.tables import fallbacks, lost_discs, printed, table1, table2

__all__ = [
    "ALL",
    "CONTRASTS",
    "FUSED",
    "FUSIONS",
    "LOWEST",
    "MEAN",
    "METHODS",
    "NAMED",
    "PART",
    "RULES",
    "SETTINGS",
    "Fold",
    "Settings",
    "TriplanarStudy",
    "fallbacks",
    "keep_by_rule",
    "load_volumes",
    "lost_discs",
    "make_folds",
    "printed",
    "table1",
    "table2",
]
