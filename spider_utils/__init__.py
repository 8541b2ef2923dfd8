"""Helper package of the spider kit: lumbar-spine MRI segmentation, as a course and a reproducibility kit.

The rooms and the order in which they may import each other are listed in docs/developers.md.
"""

__version__ = "0.1.0"
