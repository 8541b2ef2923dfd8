"""Solutions to the exercises of notebook 06_resunet; `spider-kit edition solution` lays each behind its exercise."""


# %% 06.1
def weights(n_in, n_out):
    return 9 * n_in * n_out + 9 * n_out * n_out + n_in * n_out


# One unit more on the way down (128 to 256), and one on the way up (256 + 128 to 128).
answer = weights(128, 256) + weights(256 + 128, 128)
check("06.1", answer)


# %% 06.2
def arriving(a, n):
    return a**n, (1 + a) ** n  # the chain rule: one factor a unit


check("06.2", arriving)

# %% 06.3 [markdown]
# Taking away what a unit *adds* leaves the features of the unit before; taking away its shortcut cuts the free way for all units before it too. So expect
# the second to cost more, most of all early in the network, and no simple order with the ratio of section 6: size is not importance. A good answer reports a Dice for each
# unit beside the ratio (a rank correlation, if anything), and says that a network that was never trained without the part suffers more than it would have to.

# %% 06.4 [markdown]
# Each more width doubles the step of the grid and so about doubles the receptive field. If counting improves with it, the sight was what was missing; if the classes get
# better too, it may be no more than a larger network. A good answer compares the confusion beside the diagonal (wrong level, right structure) apart from the rest, gives
# parameters and operations for each, and repeats one of them with another seed.
