# The course as a graph: trainings, notebooks, and whose runs each notebook reads. Called by `spider-kit course`, which sets `config`.
from pathlib import Path

# Trained before the notebooks about them, the longest first; the U-Net trains in its own, where a reader watches it.
TRAININGS = {name: f"--model {name}" for name in ("deeplabv3", "unetplusplus", "resunet")}
AFTER = {
    "00_start_here": [],
    "01_data_exploration": ["00_start_here"],
    "02_preprocessing": ["00_start_here"],
    "03_augmentation": ["00_start_here"],
    "04_unet": ["00_start_here"],
    "05_unetplusplus": ["04_unet", "unetplusplus"],
    "06_resunet": ["04_unet", "resunet"],
    "07_deeplabv3": ["04_unet", "deeplabv3"],
    "11_ensemble_weight_search": ["04_unet", *TRAININGS],
    "12_evaluation": ["04_unet"],
}
# Making data and training are fastest with all cores, and others wait for what they make: first, and alone. Trainings of which
# there are several go side by side with half of the cores each; what mostly reads and draws fills up what is left.
ALL_CORES = {"00_start_here", "04_unet"}
FIRST = ["00_start_here", "04_unet", *TRAININGS, "11_ensemble_weight_search"]
OUT = config["out"]
PACKAGE = sorted(map(str, Path("spider_utils").rglob("*.py")))


def made_by(name):
    return f"{OUT}/training/{name}.txt" if name in TRAININGS else f"{OUT}/notebooks/{name}.ipynb"


def priority_of(name):
    # Apart by powers, so that no two lesser jobs together outweigh a greater one.
    return 4 ** (len(FIRST) - FIRST.index(name)) if name in FIRST else 0


rule all:
    input:
        [made_by(name) for name in AFTER],


for training, options in TRAININGS.items():

    rule:
        name:
            f"train_{training}"
        input:
            after=made_by("00_start_here"),
            package=PACKAGE,
        output:
            made_by(training),
        threads: max(1, workflow.cores // 2)
        priority: priority_of(training)
        params:
            training=training,
            options=options,
            profile=config["profile"],
            data=config["data"],
            root=config["root"],
            state=config["state"],  # not for the command: another state of the data trains again
        shell:
            "echo '> training {params.training} ...' && spider-kit train {params.options} --profile {params.profile} "
            "--data {params.data} --root={params.root:q} > {output:q}"


for name in AFTER:

    rule:
        name:
            f"notebook_{name}"
        input:
            source=f"notebooks/{name}.ipynb",
            after=[made_by(earlier) for earlier in AFTER[name]],
            package=PACKAGE,
        output:
            made_by(name),
        threads: workflow.cores if name in ALL_CORES else 1
        priority: priority_of(name)
        params:
            profile=config["profile"],
            data=config["data"],
            root=config["root"],
            state=config["state"],  # as above
        shell:
            "spider-kit run-notebook {input.source:q} {output:q} --profile {params.profile} --data {params.data} --root={params.root:q}"
