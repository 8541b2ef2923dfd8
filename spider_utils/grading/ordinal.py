"""A classifier of ordered grades made of ordinary logistic regressions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data


class CumulativeLogit(ClassifierMixin, BaseEstimator):
    """One logistic regression for each "more than grade k" (Frank & Hall, ECML 2001, LNCS 2167:145).

    The regressions know nothing of each other, so that "more than 3" can come out likelier than "more than 2". Each is therefore
    cut down to the one below it: probabilities of grades are never negative and add up to 1. With two grades this is logistic
    regression.

    The predicted grade of more than two is the median of the probabilities, which makes the mean error small. Of two it is the
    upper one where its probability exceeds its share in training: at one half, a rare finding would never be called.

    Args:
        C: inverse strength of the L2 penalty, as in LogisticRegression.
        max_iter: of each regression.

    Attributes:
        classes_: (grades,) of the training data, ascending.
        shares_: (grades - 1,) share of training rows above each grade but the last.
        regressions_: one a grade but the last.
        n_iter_: steps of the longest of them; 0 where there is one grade alone.
    """

    def __init__(self, C: float = 0.3, max_iter: int = 1000):  # noqa: N803 (scikit-learn's name)
        self.C = C
        self.max_iter = max_iter

    def fit(self, X: ArrayLike, y: ArrayLike) -> CumulativeLogit:  # noqa: N803
        """Learn from X (rows, features) and grades y (rows,), which sort in their order.

        Raises:
            ValueError: shapes that do not fit, gaps in X, or y that are no grades but measurements.
        """
        X, y = validate_data(self, X, y)  # noqa: N806
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        above = [y > grade for grade in self.classes_[:-1]]
        self.shares_ = np.array([part.mean() for part in above])
        self.regressions_ = [LogisticRegression(C=self.C, max_iter=self.max_iter).fit(X, part) for part in above]
        self.n_iter_ = max((int(one.n_iter_.max()) for one in self.regressions_), default=0)
        return self

    def above(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """(rows, grades - 1) probability of more than each grade but the last; never rises from one grade to the next."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)  # noqa: N806
        if not self.regressions_:
            return np.zeros((len(X), 0))
        return np.minimum.accumulate(np.stack([one.predict_proba(X)[:, 1] for one in self.regressions_], axis=1), axis=1)

    def predict_proba(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """(rows, grades) probabilities, each 0 or more; rows add up to 1."""
        above = self.above(X)
        edges = np.hstack([np.ones((len(above), 1)), above, np.zeros((len(above), 1))])
        return edges[:, :-1] - edges[:, 1:]

    def predict(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """(rows,) grades; see the class."""
        above = self.above(X)
        limits = self.shares_ if len(self.classes_) == 2 else 0.5
        return self.classes_[(above > limits).sum(axis=1)]
