"""Solutions to the exercises of notebook 15_reproducibility_audit; `spider-kit edition solution` lays each behind its exercise."""

# %% 15.1
answer = 2 * 0.605 / (1 + 0.605)  # a printed 0.60 was 0.605 at most
check("15.1", answer)


# %% 15.2
def can_be_share(text, items):
    # Counts are whole, and so few of them come near that the nearest one decides.
    number = Printed(text).interval()
    nearest = round(float(text) * items)
    return any(number.low <= Fraction(k, items) <= number.high for k in (nearest - 1, nearest, nearest + 1))


check("15.2", can_be_share)

# %% 15.3 [markdown]
# Alike they cannot be: twenty classes with an IoU of 0.85 each have a Dice of 0.919 each. The mean falls to 0.890 when they are unequal. With k classes at IoU 0 and the others at one
# value v, the mean Dice is (1 - k / 20) 2 v / (1 + v) with v = 0.85 / (1 - k / 20): k = 1 gives 0.897, k = 2 gives 0.874. So a class and a half that is never found is enough,
# which in twenty classes, some of them rare, is nothing unusual: a row that passes the audit may tell of a network that misses whole levels. Any set with this mean and
# spread is right; a good answer says what such a set would mean for patients.

# %% 15.4 [markdown]
# A good answer names the table, writes its numbers as printed with all their digits, and says under which reading each test holds: pixels pooled, or means over the same items.
# What most often helps to decide is one sentence of the protocol: how scores were averaged, over which items, and with which rule for absent classes. Before the word "impossible",
# try rounding, cutting of digits, other averages and plain typing errors, and write to the authors: they know, and most are glad to mend a table.
