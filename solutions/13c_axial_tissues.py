"""Solutions to the exercises of notebook 13c_axial_tissues; `spider-kit edition solution` lays each behind its exercise."""

# %% 13c.1
answer = (labels == dural).sum() * size_mm[0] * size_mm[1]
check("13c.1", answer)


# %% 13c.2
def count_found(ious, threshold):
    found = ious >= threshold
    return ious[found].mean(), found.sum(), (~found).sum()


check("13c.2", count_found)

# %% 13c.3 [markdown]
# All of them should stay: a turned patient has the same sac and the same hernia. Areas stay up to the pixels at the rim, as the label is moved by nearest neighbour. The sac's line
# turns with the patient by its definition, from the middle of disc and vertebra through the sac's centroid, so its length stays within about a pixel; had it been taken
# along the columns of the picture, it would grow with the angle. A good answer measures several angles and reports the largest change, in mm.

# %% 13c.4 [markdown]
# First the definition: at its sides every sac ends in a point, so the narrowest of *all* front-to-back lines is nothing. Take, say, the shortest one within the middle half of the
# sac's width. It is never longer than the line through the centroid, much shorter where a hernia dents the sac beside the middle, and nearly equal where the sac is round. A good answer
# names those patients, looks at their pictures, and says what the choice does to the comparison: a minimum follows every ragged pixel of a border, so it is the
# less repeatable number, and from predicted masks the more biased one.
