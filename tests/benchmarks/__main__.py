"""`make bench`: every benchmark, or those that are named, in one table.

Ratios against a peer in the same process, medians of several rounds; whole commands in processes of their own, with their memory.
Names are those of the modules without "bench_": ``python -m tests.benchmarks loader step``.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from collections.abc import Sequence

import tests.benchmarks
from tests.benchmarks.apart import Cost
from tests.benchmarks.timing import Row

PREFIX = "bench_"


def benchmark_names() -> list[str]:
    """Of all benchmarks, in the order in which they run."""
    modules = (module.name for module in pkgutil.iter_modules(tests.benchmarks.__path__))
    return [name.removeprefix(PREFIX) for name in modules if name.startswith(PREFIX)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmarks that are named; all when none is."""
    known = benchmark_names()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure speed and memory.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of a benchmark: {', '.join(known)}; all when left out")
    names = parser.parse_args(arguments).names or known
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"no benchmark is called {', '.join(unknown)}. Known are: {', '.join(known)}")
    print(f"{'benchmark':44s} {'ours':>12s} {'peer':>12s} {'peer/ours':>10s}  peer")
    for name in names:
        for row in importlib.import_module(f"tests.benchmarks.{PREFIX}{name}").run():
            assert isinstance(row, Row | Cost)
            print(row, flush=True)


if __name__ == "__main__":
    main()
