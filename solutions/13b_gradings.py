"""Solutions to the exercises of notebook 13b_gradings; `spider-kit edition solution` lays each behind its exercise."""

# %% 13b.1
answer = 0.80 * 0.05 / (0.80 * 0.05 + 0.05 * 0.95)  # true alarms of all alarms
check("13b.1", answer)


# %% 13b.2
def weighted_kappa(truth, given_grades):
    seen = np.zeros((5, 5))
    np.add.at(seen, (truth - 1, given_grades - 1), 1)
    weights = np.subtract.outer(np.arange(5), np.arange(5)) ** 2
    by_chance = np.outer(seen.sum(axis=1), seen.sum(axis=0)) / seen.sum()
    return 1 - (weights * seen).sum() / (weights * by_chance).sum()


check("13b.2", weighted_kappa)

# %% 13b.3 [markdown]
# With folds by disc, other discs of the same patient are in training. What they share with the tested disc helps then: the patient's age and wear, the
# scanner's brightness, the reader's habits. So look for gains in findings that run through a whole spine (Pfirrmann, narrowing) and in models that see the image;
# "level alone" knows no patient and should stay. A good answer compares in pairs and says why the gain is worth nothing in a new patient.

# %% 13b.4 [markdown]
# A lower threshold finds at least as many hernias and calls at least as many others herniated: one walks along a curve from low to high sensitivity at the price of specificity. A good answer draws
# all three points with their intervals over patients, counts the cases (there are few hernias, so sensitivity moves in large steps), and chooses the threshold on other
# patients than those it reports, by what a missed hernia and a false alarm cost.
