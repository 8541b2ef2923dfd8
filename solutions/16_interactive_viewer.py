"""Solutions to the exercises of notebook 16_interactive_viewer; `spider-kit edition solution` lays each behind its exercise."""

# %% 16.1
answer = 320 + 140 / 2
check("16.1", answer)


# %% 16.2
def difference(truth, prediction):
    found = np.full(truth.shape, 3)
    found[truth == 0] = 1
    found[prediction == 0] = 2
    found[truth == prediction] = 0  # last, since both may be background
    return found


check("16.2", difference)

# %% 16.3 [markdown]
# A shift changes every border, a lost disc only one structure of many: so the mean Dice forgives the disc. A good answer computes both for several shifts, finds where the curves
# cross, and notes that a shift smaller than a pixel cannot be made by moving whole pixels, that the crossing depends on how many discs the picture shows, and that
# no crossing makes a lost disc as harmless as its number.

# %% 16.4 [markdown]
# For example the share of *structures* (connected pieces of the truth) of which less than half is found, or the largest distance from a true pixel to the nearest predicted
# one of its class. Both see a lost disc at once and a small shift hardly. A good answer tries its measure on both masks and then names what else it punishes: the
# first a disc that the slice just grazes, the second a single stray or missing pixel far away.
