"""Several models' class probabilities made into one label map: weighted averages, their best weights, and comparators."""

from spider_utils.ensemble.fusion import Stacking, as_published, label_map
from spider_utils.ensemble.search import EnsembleWeights, PairWeight, best_pair_weight, best_weights

__all__ = ["EnsembleWeights", "PairWeight", "Stacking", "as_published", "best_pair_weight", "best_weights", "label_map"]
