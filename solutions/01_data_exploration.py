"""Solutions to the exercises of notebook 01_data_exploration; `spider-kit edition solution` lays each behind its exercise."""

# %% 01.1
# The guess takes the shortest axis for slices. That was true for 2 x 4 x 3; of 5 x 4 x 3 the slices are the longest.
answer = 0
check("01.1", answer)


# %% 01.2
def outside_share(mask, label):
    region = mask == label
    pieces, _ = ndimage.label(region)
    sizes = np.bincount(pieces[region])  # number 0 is what lies outside of the region
    return 1 - sizes.max() / sizes.sum()


check("01.2", outside_share)

# %% 01.3 [markdown]
# A good answer loops over series and disc labels (201 to 225), sorts by the share, and *looks*. A share of a thousandth is mostly a stray voxel; a larger one may be a disc
# that the field of view cuts, a sequestered hernia, or a label given twice, which the picture tells apart and the number does not. The phantom's masks are made by a program:
# what is found there comes from coarse voxels, where a thin disc breaks into pieces that touch at corners only.

# %% 01.4 [markdown]
# Cross the hospital with scanner, field strength and voxel size: where a cell of the table holds one hospital only, the header gives it away. What overlaps cannot be told
# apart. A good answer draws the consequence: a split "by scanner" is a split by hospital only as far as the table says so, patients of a hospital with two scanners
# would fall on both sides, and a network may know the scanner from noise and sharpness even where no one told it.
