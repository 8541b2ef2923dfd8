"""Solutions to the exercises of notebook 10_triplanar_ensemble; `spider-kit edition solution` lays each behind its exercise."""

# %% 10.1
answer = 5**3 * 6 * 16 + 16 + 5**3 * 16 * 2 + 2  # weights and constants of two convolutions
check("10.1", answer)

# %% 10.2
# The first axis of a plane's slices is the one that the plane cuts across: it moves back to its place.
answer = (sagittal + np.moveaxis(axial, 0, 1) + np.moveaxis(coronal, 0, 2)) / 3
check("10.2", answer)

# %% 10.3 [markdown]
# More to see means more weights (exercise 10.1) from the same few patients. A good answer compares each design with the plain mean in pairs over test patients, not with the
# lesson's fusion alone, and reports whether the interval moves by more than another seed of the *same* design moves it. If it does not, the size of the fusion is not what
# holds it back; the number of patients that teach it may be.

# %% 10.4 [markdown]
# On patients they were trained on, the networks are nearly always right and very sure. The fusion that learns there learns to believe them, and has hardly an error
# to learn from: what it should correct on new patients does not occur. That is why Wolpert's stacking asks for held-out predictions. A good answer shows two histograms of
# probabilities, of known and of held-out patients, and then the test score of both fusions in pairs.
