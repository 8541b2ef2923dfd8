"""Solutions to the exercises of notebook 14_disease_classification; `spider-kit edition solution` lays each behind its exercise."""

# %% 14.1
answer = 2**8 - 1  # eight bits; 256 becomes 0
check("14.1", answer)


# %% 14.2
def severity_loss(truth, probabilities):
    weights = np.array([1, 2, 4])[truth]
    losses = -np.log(probabilities[np.arange(len(truth)), truth])
    return (weights * losses).sum() / weights.sum()


check("14.2", severity_loss)

# %% 14.3 [markdown]
# The difference between two seeds is the yardstick for every other difference of single trainings. If age and sex changed the loss by no more than that, nothing can be said
# about them. A good answer takes the differences study by study and bootstraps over studies, says how few test studies there are, and would run
# several seeds of both before it claims anything.

# %% 14.4 [markdown]
# The signed distance of the point from the middle of the body, in mm, positive to the patient's left, from the header (position and direction), not from the picture. It separates the left from the right
# class of foraminal narrowing and of subarticular stenosis; the canal stenosis has no side. For sagittal slices it tells what no single picture
# shows. A good answer turns its sign whenever a picture is mirrored from left to right, and warns that a label which follows from the input alone is no finding.
