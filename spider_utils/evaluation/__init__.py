"""Scores of a segmentation: per case (``metrics``), over cases (``statistics``), for two folders of masks (``folders``)."""
