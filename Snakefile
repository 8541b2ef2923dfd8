# The course as a graph: trainings, notebooks, and what each waits for. Called by `spider-kit course`, which makes the phantom
# and sets `config`.
from pathlib import Path

# Name -> options of `spider-kit train`, what it waits for. A notebook that runs alone trains for itself.
TRAININGS = {
    "unet": ("--model unet", []),
    "levels20": ("--model unet --scheme levels20", ["unet"]),  # starts from its weights
    "deeplabv3": ("--model deeplabv3", []),
    "unetplusplus": ("--model unetplusplus", []),
    "resunet": ("--model resunet", []),
    "modified_unet_gamma4": ("--model modified_unet --loss focal4_dice --slice-gap-mm 0", []),
    "modified_unet_gamma0.4": ("--model modified_unet --loss focal0.4_dice --slice-gap-mm 0", []),
    "modified_unet_by_slice": ("--model modified_unet --loss focal4_dice --slice-gap-mm 0 --split leaky-kfold5 --no-score", []),
    "unetr": ("--model unetr", []),
    "unetr_as_printed": ("--model unetr --preparation as_printed", []),
}
# The same for `spider-kit triplanar`, which has its own phantoms. In `smoke` notebooks train the one fold themselves.
PLANE_TRAININGS = {f"triplanar_fold{k}": f"train --fold {k}" for k in range(4)} | {"triplanar_lessons": "train --lessons"}
PLANE_TRAININGS["triplanar_axial"] = "axial train"
# The same for `spider-kit classify train`, on the phantom of DICOM studies, which the first makes and the others wait for.
FINDING_TRAININGS = {
    "findings_mended": "",
    "findings_metadata": "--metadata",
    "findings_as_printed": "--protocol as_printed",
    "findings_by_study": "--protocol as_printed --split kfold5",
}
if config["profile"] == "smoke":
    PLANE_TRAININGS = {}
    FINDING_TRAININGS = {}
if config["data"] == "spider-2d":  # its masks hold no levels
    del TRAININGS["levels20"]
NOTEBOOKS = {
    "00_start_here": [],
    "01_data_exploration": [],
    "02_preprocessing": [],
    "03_augmentation": [],
    "04_unet": ["unet", "levels20"],
    "05_unetplusplus": ["unet", "unetplusplus"],
    "06_resunet": ["unet", "resunet"],
    "07_deeplabv3": ["unet", "deeplabv3"],
    "08_modified_unet": ["modified_unet_gamma4", "modified_unet_gamma0.4", "modified_unet_by_slice"],
    "09_unetr_3d": ["unetr", "unetr_as_printed", "levels20"],
    "10_triplanar_ensemble": [name for name in PLANE_TRAININGS if name != "triplanar_axial"],
    "11_ensemble_weight_search": ["unet", "unetplusplus", "resunet", "deeplabv3"],
    "12_evaluation": ["unet", "levels20"],
    "13_measurements": ["resunet"],
    "13b_gradings": [],
    "13c_axial_tissues": ["triplanar_axial"],
    "14_disease_classification": list(FINDING_TRAININGS),
    "15_reproducibility_audit": [],
    "15b_from_phantom_to_patient": ["resunet"] if config["data"] == "phantom" else [],  # its network learns from phantoms
    "16_interactive_viewer": ["unet"],
}
# Where cores are few these go first, in this order: others wait for them, or they take long. A training gets half of the cores,
# as two side by side get more done than one after the other; what mostly reads and draws fills up what is left.
FIRST = [*TRAININGS, *PLANE_TRAININGS, *FINDING_TRAININGS, "04_unet", "11_ensemble_weight_search"]
KNOWN = {**NOTEBOOKS, **TRAININGS, **PLANE_TRAININGS, **FINDING_TRAININGS}
OUT = config["out"]
PACKAGE = sorted(map(str, Path("spider_utils").rglob("*.py")))


def made_by(name):
    return f"{OUT}/notebooks/{name}.ipynb" if name in NOTEBOOKS else f"{OUT}/training/{name}.txt"


def priority_of(name):
    # Apart by powers, so that no two lesser jobs together outweigh a greater one.
    return 4 ** (len(FIRST) - FIRST.index(name)) if name in FIRST else 0


rule all:
    input:
        [made_by(name) for name in NOTEBOOKS],


for name, (options, earlier) in TRAININGS.items():

    rule:
        name:
            f"train_{name}"
        input:
            after=[made_by(name) for name in earlier],
            package=PACKAGE,
        output:
            made_by(name),
        threads: max(1, workflow.cores // 2)
        priority: priority_of(name)
        params:
            training=name,
            options=options,
            profile=config["profile"],
            data=config["data"],
            root=config["root"],
            state=config["state"],  # not for the command: another state of the data trains again
        shell:
            "echo '> training {params.training} ...' && spider-kit train {params.options} --profile {params.profile} "
            "--data {params.data} --root={params.root:q} > {output:q}"


for name, options in PLANE_TRAININGS.items():

    rule:
        name:
            f"train_{name}"
        input:
            package=PACKAGE,
        output:
            made_by(name),
        threads: max(1, workflow.cores // 2)
        priority: priority_of(name)
        params:
            training=name,
            options=options,
            profile=config["profile"],
        shell:
            "echo '> training {params.training} ...' && spider-kit triplanar {params.options} --profile {params.profile} "
            "> {output:q}"


for name, options in FINDING_TRAININGS.items():

    rule:
        name:
            f"train_{name}"
        input:
            package=PACKAGE,
        output:
            made_by(name),
        threads: max(1, workflow.cores // 2)
        priority: priority_of(name)
        params:
            training=name,
            options=options,
            profile=config["profile"],
        shell:
            "echo '> training {params.training} ...' && spider-kit classify train {params.options} --profile {params.profile} "
            "> {output:q}"


for name, after in NOTEBOOKS.items():

    rule:
        name:
            f"notebook_{name}"
        input:
            source=f"notebooks/{name}.ipynb",
            after=[made_by(earlier) for earlier in after if earlier in KNOWN],
            package=PACKAGE,
        output:
            made_by(name),
        threads: 1
        priority: priority_of(name)
        params:
            profile=config["profile"],
            data=config["data"],
            root=config["root"],
            state=config["state"],  # as above
        shell:
            "spider-kit run-notebook {input.source:q} {output:q} --profile {params.profile} --data {params.data} --root={params.root:q}"
