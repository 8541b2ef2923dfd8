"""``python -m tests.fuzz [FORMAT [SEED]]``: all cases, those of a format, or one case again; exits with 1 when one fails."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz.runner import FORMATS, by_format, repeat, run_cases, serve


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("format", nargs="?", choices=sorted(FORMATS), help="all formats when left out")
    parser.add_argument("seed", nargs="?", type=int, help="one case, in this process; all of the format's when left out")
    parser.add_argument("--keep", type=Path, help="folder for the one case's files")
    parser.add_argument("--cases", type=int, help="so many of each format, instead of those of the tests")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return 0
    if options.seed is not None:
        outcome = repeat(options.format, options.seed, options.keep)
        print(outcome)
        return outcome.verdict == "failed"
    chosen = {options.format: FORMATS[options.format]} if options.format else FORMATS
    cases = [(name, options.first + k) for name, number in chosen.items() for k in range(options.cases or number)]
    began = time.perf_counter()
    outcomes, peak = run_cases(cases, options.jobs, lambda one: print(one, flush=True))
    print(by_format(outcomes))
    print(f"{len(outcomes)} cases in {time.perf_counter() - began:.0f} s, at most {peak / 1e9:.2f} GB resident in a process")
    return any(one.verdict == "failed" for one in outcomes)


if __name__ == "__main__":
    sys.exit(main())
