"""Made-up lumbar spines in SPIDER's layout, so that every lesson runs without a download."""

from spider_utils.data.phantom.anatomy import GENERATOR_VERSION, Anatomy, make_anatomy
from spider_utils.data.phantom.dataset import generate_dataset
from spider_utils.data.phantom.scanner import HOSPITALS, SEQUENCES, Protocol, draw_protocols, render

__all__ = [
    "GENERATOR_VERSION",
    "HOSPITALS",
    "SEQUENCES",
    "Anatomy",
    "Protocol",
    "draw_protocols",
    "generate_dataset",
    "make_anatomy",
    "render",
]
