"""Colab and Kaggle: what the notebooks' first cell does there, the bundle for Kaggle without internet, and the badges."""

from spider_utils.cloud.session import set_up

__all__ = ["set_up"]
