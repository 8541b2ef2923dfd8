"""Solutions to the exercises of notebook 00_start_here; `spider-kit edition solution` lays each behind its exercise."""

# %% 00.1
# Slices run to the right (x falls), rows run down (z falls), columns run to the back (y rises).
answer = [10 - 2 * 4, -20 + 4 * 1, 30 - 3 * 1]
check("00.1", answer)


# %% 00.2
def voxel_at(volume, place_mm):
    along = volume.direction.T @ (np.asarray(place_mm) - volume.origin)  # the inverse of a rotation is its transpose
    return np.rint(along / volume.spacing).astype(int)


check("00.2", voxel_at)

# %% 00.3 [markdown]
# The outermost slices pass the spine by: of the vertebrae processes are left or nothing, the canal is gone, and of the discs at most a rim. They make poor
# pictures because most classes are absent and what is there is cut at a grazing angle: a voxel of 4 mm holds half bone and half muscle, and the mask must
# choose one. A good answer also says what leaving them out would cost: a network that never saw them meets them in every new patient.

# %% 00.4 [markdown]
# Divide the distance of slices by the size of a pixel: that is how many times more slices are needed for voxels that are as fine from left to right as
# in the slice. A good answer goes beyond the number. In a 2D sequence the time grows with the slices as soon as they no longer fit into one repetition;
# and a slice that is n times thinner holds n times less signal, so that the same noise asks for n² times as many averages. Hence
# 3D sequences such as T2_SPACE, which collect signal from the whole block all the time.
