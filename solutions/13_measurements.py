"""Solutions to the exercises of notebook 13_measurements; `spider-kit edition solution` lays each behind its exercise."""

# %% 13.1
answer = (-4.0, 1)  # backwards is negative; 4 mm of 36 mm lie in the first quarter
check("13.1", answer)


# %% 13.2
def agreement(measured, true):
    difference = measured - true
    bias, half = difference.mean(), 1.96 * difference.std(ddof=1)
    return bias, bias - half, bias + half


check("13.2", agreement)

# %% 13.3 [markdown]
# Shifting the whole mask changes no measurement, as all lie relative to each other, and costs Dice at once: overlap is about place, measuring about shape. Shrinking the discs leaves their heights, which
# the kit takes between the endplates of the *vertebrae*, and takes two pixels off their depth (36 to 34.5 mm in the spine of section 1); Dice falls most for thin
# discs. So neither number stands for the other. Turned by 50 degrees, the little spine no longer lies as any spine does in a scanner, and top and front can be mistaken for each other: a
# program that then gave a number would give a wrong one without a word. Refusing is a result that someone can act on.

# %% 13.4 [markdown]
# In a mean over a patient's discs, errors that differ from disc to disc partly cancel; what is common to the patient stays. So the limits get narrower, by less than the root of the
# number of discs. A surgeon decides on one disc and needs the plot of single discs; whoever compares groups of patients needs that of patients' means. A good answer also says
# that single discs of one patient are not independent, so that the plain limits of the first plot are themselves less sure than their number of points suggests.
