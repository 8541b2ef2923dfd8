"""Solutions to the exercises of notebook 05_unetplusplus; `spider-kit edition solution` lays each behind its exercise."""

# %% 05.1
answer = 3 * 24 + 56  # X 0,0, X 0,1 and X 0,2 of its own row, and X 1,2, doubled
check("05.1", answer)


# %% 05.2
def inner_parameters(widths):
    def convolution(n_in, n_out):
        return 9 * n_in * n_out + 2 * n_out

    total = 0
    for row in range(len(widths)):
        for column in range(1, len(widths) - 1 - row):  # the last column of a row is its right edge
            total += convolution(widths[row + 1] + column * widths[row], widths[row])
            total += convolution(widths[row], widths[row])
    return total


check("05.2", inner_parameters)

# %% 05.3 [markdown]
# With one encoder in both, what is left between them is the grid. A good answer lays two intervals side by side: U-Net++ against that U-Net, and U-Net++ against itself
# with another seed. If the first difference is not clearly larger than the second, one training of each has shown nothing about the grid, whatever the table says. Both differences
# are taken in pairs over the same patients.

# %% 05.4 [markdown]
# The loss on `X 0,1` to `X 0,3` makes each column segment by itself, so columns can be cut off from the right. A good answer draws validation Dice and operations
# against the number of columns left. `X 0,1` needs rows 0 and 1 only, so most of the encoder falls away with it; most *parameters* lie there, most *operations*
# in the top row. It also says whether the whole network lost anything by being taught in this way.
