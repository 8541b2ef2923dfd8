# The course as a graph: each notebook, and those whose runs it reads. Called by `spider-kit course`, which sets `config`.
from pathlib import Path

AFTER = {
    "00_start_here": [],
    "01_data_exploration": ["00_start_here"],
    "02_preprocessing": ["00_start_here"],
    "03_augmentation": ["00_start_here"],
    "04_unet": ["00_start_here"],
    "05_unetplusplus": ["04_unet"],
    "06_resunet": ["04_unet"],
    "07_deeplabv3": ["04_unet"],
    "11_ensemble_weight_search": ["05_unetplusplus", "06_resunet", "07_deeplabv3"],
    "12_evaluation": ["04_unet"],
}
# These make data or train, which is fastest alone on all cores. They go first, because others wait for what they make; the
# rest mostly reads and draws, on one core each, side by side.
ALL_CORES = {"00_start_here", "04_unet", "05_unetplusplus", "06_resunet", "07_deeplabv3"}
OUT = config["out"]
PACKAGE = sorted(map(str, Path("spider_utils").rglob("*.py")))


rule all:
    input:
        [f"{OUT}/notebooks/{name}.ipynb" for name in AFTER],


for name in AFTER:

    rule:
        name:
            f"notebook_{name}"
        input:
            source=f"notebooks/{name}.ipynb",
            after=[f"{OUT}/notebooks/{earlier}.ipynb" for earlier in AFTER[name]],
            package=PACKAGE,
        output:
            f"{OUT}/notebooks/{name}.ipynb",
        threads: workflow.cores if name in ALL_CORES else 1
        priority: int(name in ALL_CORES)
        params:
            profile=config["profile"],
            data=config["data"],
            root=config["root"],
            state=config["state"],  # not for the command: another state of the data runs the notebooks again
        shell:
            "spider-kit run-notebook {input.source:q} {output:q} --profile {params.profile} --data {params.data} --root={params.root:q}"
