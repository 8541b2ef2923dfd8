"""Solutions to the exercises of notebook 12_evaluation; `spider-kit edition solution` lays each behind its exercise."""

# %% 12.1
answer = 8 / 12  # layers: 8 are shared, 12 are in one or both
check("12.1", answer)


# %% 12.2
def mean_of_draw(table, patients):
    # Not isin(): a patient who is drawn twice counts twice.
    return pd.concat([table[table["patient"] == patient] for patient in patients])["dice"].mean()


check("12.2", mean_of_draw)

# %% 12.3 [markdown]
# No. A pixel that moves leaves the number P of predicted pixels as it is, and that of the true ones, T, too. Precision is TP / P, Dice is 2 TP / (P + T): both grow with the true
# positives TP and with nothing else, so they rise and fall together. Only where pixels are *added* can Dice rise while precision falls: a hit rate among the new ones
# above half the Dice and below the precision.

# %% 12.4 [markdown]
# A good rival fixes its rule before the test patients are seen: say, shift the mean shape so that the mean brightness inside the canal minus that outside is largest, choose
# range and step on validation patients, then score once. Compare in pairs over patients with `compare`, by class. If a rule without training comes near the network, the task
# was easier than it looked; where it fails (discs, tilted spines) is what the network has learned.
