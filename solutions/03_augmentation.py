"""Solutions to the exercises of notebook 03_augmentation; `spider-kit edition solution` lays each behind its exercise."""

# %% 03.1
answer = 960 / (1 + (8 - 1) * 0.9)
check("03.1", answer)


# %% 03.2
def moved_down(image, mask, rows):
    moved = []
    for array in (image, mask):  # one rule for both
        new = np.zeros_like(array)
        new[rows:] = array[: len(array) - rows]
        moved.append(new)
    return moved


check("03.2", moved_down)

# %% 03.3 [markdown]
# The grid of three. Its points are far apart, so both endplates of a disc move nearly alike: the disc wanders and tilts but keeps its height. With twelve points a side,
# one endplate may move up and its neighbour down, and a small strength is enough to change a height as a disease would. A good answer measures this with the section's own
# curve instead of judging by eye, and names what the coarse grid cannot imitate: local changes of shape.

# %% 03.4 [markdown]
# The picture: a disc-shaped hole at a random place of a vertebra (where screws are), values near 0, a bright rim at its edge, best with a shift of the
# rows beside it, as metal bends the field. The mask is a decision, and a good answer gives its reason: the label of what *is* there, if the network shall
# learn to complete what it cannot see; a value that the loss leaves out, if nobody can know; background, if the mask shall say what can be *seen*. The third makes every
# later measurement of that vertebra too small.
