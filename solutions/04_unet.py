"""Solutions to the exercises of notebook 04_unet; `spider-kit edition solution` lays each behind its exercise."""


# %% 04.1
def decoder(widths):
    skips, n_in, total = (256, 128, 64, 64, 0), 512, 0
    for skip, width in zip(skips, widths, strict=True):
        total += 9 * (n_in + skip) * width + 2 * width + 9 * width * width + 2 * width
        n_in = width
    return total


# Encoder and head stay as they are: the last width is 16 in both.
answer = decoder((256, 128, 64, 32, 16)) - decoder((128, 64, 32, 16, 16))
check("04.1", answer)


# %% 04.2
def receptive_field(layers):
    side, step = 1, 1
    for kernel, stride in layers:
        side += (kernel - 1) * step
        step *= stride  # for the layers behind this one
    return side


check("04.2", receptive_field)

# %% 04.3 [markdown]
# Build the decoder blocks with `n_skip = 0` and call each without a skip. The loss must be smaller than in section 7: a network that is trained without skips learns to
# bring place through the deep features as well as it can, while the silenced one was never asked to. A good answer keeps everything else equal (encoder, epochs, seed, split), compares in
# pairs on the same patients, and does not call the remaining gap "the worth of skips" before a second seed.

# %% 04.4 [markdown]
# If the network counts from the sacrum, names move by a level where it is hidden, while the class (vertebra, disc) stays right; if it knows levels by their own
# shape, little changes. Read the matrix beside its diagonal: one line of it is a shift of all levels, a smear is a loss of confidence. A good answer says which slices
# held no sacrum from the beginning, and that a black quarter is also a picture that the network has never seen: repeat it with the quarter cut off.
