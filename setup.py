"""Packages of the wheel: spider_utils, and the data manifests, which live at the top level of a checkout."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["spider_utils*"]), "spider_utils.data_manifest"],
    package_dir={"spider_utils.data_manifest": "data_manifest"},
    package_data={
        "spider_utils.data_manifest": ["*.json", "*.csv", "published/*.csv", "measured/*.csv"],
        "spider_utils.models": ["weights/*/model.*"],
    },
)
