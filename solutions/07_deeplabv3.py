"""Solutions to the exercises of notebook 07_deeplabv3; `spider-kit edition solution` lays each behind its exercise."""

# %% 07.1
answer = 2 * 12 * 8  # two steps of twelve places; a place is eight pixels wide
check("07.1", answer)


# %% 07.2
def used_of_nine(rate, rows, columns):
    # A neighbour `rate` places away exists somewhere when the grid has more than `rate` rows (columns).
    return (1 + 2 * (rate < rows)) * (1 + 2 * (rate < columns))


check("07.2", used_of_nine)

# %% 07.3 [markdown]
# Rates of 1, 2 and 3 become 2, 4 and 6 at output stride 8: all nine weights meet the grid, on a slice of 160 x 128 (20 x 16 places) as on a strip of
# 64 columns (8 places). Parameters and operations stay the same, as a weight that reads zeros costs as much as any. Whether it helps is for the paired interval to
# say; if it holds zero, the question is open. A second seed shows how far a training alone moves a score: only a difference clearly beyond that is about rates.

# %% 07.4 [markdown]
# The discs lose most. Cross-entropy asks every pixel alike, and on a coarse grid a thin disc and its neighbours share their scores: giving up the few disc pixels
# buys many right ones beside them. Dice weighs each class by its own size and holds on to the discs. With more steps both come nearer to their own best; what remains
# then is the ceiling of the grid under that loss, and what falls away was the ceiling of patience. A good answer keeps the two apart.
