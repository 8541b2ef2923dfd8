# The course as a graph: each notebook, and those whose runs it reads. Called by `spider-kit course`, which sets `config`.
from pathlib import Path

AFTER = {
    "00_start_here": [],
    "01_data_exploration": ["00_start_here"],
    "02_preprocessing": ["00_start_here"],
    "03_augmentation": ["00_start_here"],
    "04_unet": ["00_start_here"],
    "12_evaluation": ["04_unet"],
}
ONE_CORE = {"01_data_exploration", "02_preprocessing", "03_augmentation"}
OUT = config["out"]


rule all:
    input:
        expand(OUT + "/notebooks/{name}.ipynb", name=AFTER),


rule notebook:
    input:
        source="notebooks/{name}.ipynb",
        after=lambda wildcards: [f"{OUT}/notebooks/{name}.ipynb" for name in AFTER[wildcards.name]],
        package=sorted(map(str, Path("spider_utils").rglob("*.py"))),
    output:
        OUT + "/notebooks/{name}.ipynb",
    # A training is fastest alone on all cores; notebooks that mostly read and draw use one core each, side by side.
    threads: lambda wildcards: 1 if wildcards.name in ONE_CORE else workflow.cores
    params:
        profile=config["profile"],
        data=config["data"],
        root=config["root"] or "",
        state=config["state"],  # not for the command: another state of the data runs the notebooks again
    shell:
        "spider-kit run-notebook {input.source:q} {output:q} --profile {params.profile} --data {params.data} --root={params.root:q}"
