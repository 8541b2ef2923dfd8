"""Solutions to the exercises of notebook 08_modified_unet; `spider-kit edition solution` lays each behind its exercise."""

# %% 08.1
answer = 0.93 / (2 - 0.93)
check("08.1", answer)


# %% 08.2
def focal_loss(p, gamma):
    return -((1 - p) ** gamma) * np.log(p)


check("08.2", focal_loss)

# %% 08.3 [markdown]
# Count the parameters with `parameter_count` before and after. The paired differences of the narrow network must be held against those of the other seed, not against
# zero alone: a difference that a seed makes as well is no reason for a block of its own. A good answer says which classes move, gives both intervals, and admits
# that one narrow training and one other seed make a hint, not a law; an ablation that deserves its name repeats both.

# %% 08.4 [markdown]
# The nearer the slices, the better the copier: T2_SPACE has thin slices, so the next one is nearly the same picture; T1 slices lie millimetres apart. It learns nothing in either.
# So the worth of a leak depends on the scan, and a score from a split by slice says more about the distance of slices than about a network. Two days of one patient show
# the same bones: they belong on the same side of the split. A good answer names the one exception, a study that asks about *change* between the days, and would still split by patient.
