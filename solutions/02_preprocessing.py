"""Solutions to the exercises of notebook 02_preprocessing; `spider-kit edition solution` lays each behind its exercise."""

# %% 02.1
answer = (15, round(256 * 1.2 / 2), round(160 * 1.13 / 2))  # the extent in mm stays
check("02.1", answer)


# %% 02.2
def leaking_patients(table):
    subsets = table.groupby("patient")["subset"].nunique()
    return set(subsets.index[subsets > 1])


check("02.2", leaking_patients)

# %% 02.3 [markdown]
# Yes. Linear interpolation mixes neighbours wherever a new grid point falls between them, on a coarser grid as on a finer one: between disc (3) and background (0) lies
# 1.5, which is rounded to a canal. There are fewer such points on a coarse grid, since there are fewer points in all; the rule stays: masks nearest.

# %% 02.4 [markdown]
# The choice of the epoch. Validation slices of training patients look familiar, so their score rises on while the network learns its patients by heart: a later,
# overfitted epoch is chosen, and the validation score that is reported with it is too high. The test score is of unknown patients and stays honest; it is honest about
# a network that was chosen badly. A good answer says so of early stopping and of every setting that was tuned on validation slices.
