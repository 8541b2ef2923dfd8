"""``python -m spider_utils.cli``: the command ``spider-kit`` where its script is not on the path."""

from spider_utils.cli import main

main()
