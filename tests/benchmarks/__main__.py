"""`make bench`: every benchmark, one table. Ratios against a peer in the same process, medians of several rounds; whole
commands in processes of their own, with their memory."""

from __future__ import annotations

import importlib
import pkgutil

import tests.benchmarks
from tests.benchmarks.apart import Cost
from tests.benchmarks.timing import Row


def main() -> None:
    """Run every module of this package that is called bench_*."""
    print(f"{'benchmark':44s} {'ours':>12s} {'peer':>12s} {'peer/ours':>10s}  peer")
    for module in pkgutil.iter_modules(tests.benchmarks.__path__):
        if module.name.startswith("bench_"):
            for row in importlib.import_module(f"tests.benchmarks.{module.name}").run():
                assert isinstance(row, Row | Cost)
                print(row, flush=True)


if __name__ == "__main__":
    main()
