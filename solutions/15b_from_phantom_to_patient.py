"""Solutions to the exercises of notebook 15b_from_phantom_to_patient; `spider-kit edition solution` lays each behind its exercise."""

# %% 15b.1
answer = (4 * 16) ** 0.5  # halfway between two logarithms lies the geometric mean
check("15b.1", answer)


# %% 15b.2
def mean_loss(table):
    means = table.groupby(["patient", "looks"])["dice"].mean().unstack().dropna()
    return (means["hospital"] - means["random"]).mean()


check("15b.2", mean_loss)

# %% 15b.3 [markdown]
# A good answer changes one field at a time, over several patients, and reports the loss of each network against itself with its spread, not one picture. A network of hospital
# looks usually gives way first where the order of brightness changes (`look`), as it may have learned just that order; noise and blur cost more slowly, and both networks.
# For a scanner that is noisy but always T2-weighted, vary what varies there (noise, blur, coil, bias) as far as that scanner goes and beyond, and contrast a little around T2: a
# network that must also know T1 spends part of its weights on pictures that it will never meet. Whether that pays is to be measured, on patients of that scanner.

# %% 15b.4 [markdown]
# Test first: without a test nobody knows what the network is worth at that hospital, and twenty patients give an interval that is wide but useful. If it fails, train on a part of
# them, starting from the phantoms' weights, and test on the rest, by patient and in folds, so that each patient tests once (notebook 12). A patient who was trained on tests nothing.
# The result that means no is written down beforehand: a lowest Dice or a largest distance in mm for each structure, for the worst patients and not for the mean alone, and a
# rule for what a radiologist calls misleading. A good answer also asks who the twenty are: those with scoliosis, metal and fractures are the ones on whom phantoms say least.
