"""Sweeps: many trainings from one file, what their results say together, and a report of them.

``plan`` reads the file, ``run`` hands its jobs to Snakemake, ``devices`` gives GPUs out on one machine, ``gather`` makes tables
of what the runs left and ``report`` a page.
"""
