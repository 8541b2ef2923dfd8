"""Solutions to the exercises of notebook 09_unetr_3d; `spider-kit edition solution` lays each behind its exercise."""

# %% 09.1
answer = (32 // 16) * (128 // 16) * (128 // 16)
check("09.1", answer)


# %% 09.2
def one_head(query, key, value):
    scores = query @ key.T / np.sqrt(query.shape[1])  # row i: what token i makes of each other one
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True) @ value


check("09.2", one_head)

# %% 09.3 [markdown]
# Change one thing at a time, score all on the same patients and by the same classes, and compare each with the mended training in pairs. Clamped labels cost canal, discs and
# cut vertebrae by definition, as these become one class: their cost can be written down before any training. What grid and window cost vertebrae is for the paired
# intervals to say. A good answer adds that the three costs need not add up to that of all, and that one seed each moves every row.

# %% 09.4 [markdown]
# The box that the network labels stands on the lower edge of the picture, so after the cut everything lies a fifth lower in it. If the network knew levels by their own
# shape alone, names would stay; as far as it knows them by place, they move. A good answer counts how many vertebrae got another number, and by how many levels, apart from what
# became background, and tries an augmentation that shifts the field of view.
