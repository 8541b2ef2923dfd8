"""Solutions to the exercises of notebook 11_ensemble_weight_search; `spider-kit edition solution` lays each behind its exercise."""

# %% 11.1
# w * 0.85 + (1 - w) * 0.40 = w * 0.15 + (1 - w) * 0.60
answer = (0.60 - 0.40) / ((0.60 - 0.40) + (0.85 - 0.15))
check("11.1", answer)


# %% 11.2
def settled_share(prob_a, prob_b):
    # On top in both is on top in every mixture; where they differ, some weight changes the label.
    return np.mean(prob_a.argmax(axis=1) == prob_b.argmax(axis=1))


check("11.2", settled_share)

# %% 11.3 [markdown]
# Weights chosen on the test patients cannot score lower there than those from validation patients: they are the best of all by construction. The difference is
# what choosing on the test set buys, without any better network. A good answer sets it beside the gain of the ensemble over its best member; where both are
# of one size, a study that chose its weights on test data has shown nothing.

# %% 11.4 [markdown]
# An ensemble needs members that err at different places. Two seeds of one architecture do that too, if less than two architectures may. A good answer counts the disputed pixels
# (1 minus the share of exercise 11.2) for the pair of seeds and for the pairs of section 4, and compares the gains in pairs over test patients. Mind the price: each member costs a training
# and a prediction.
