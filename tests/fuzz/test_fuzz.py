"""Bad input by the thousand: no case may end in anything but a valid result or one clear line.

The time is printed (``pytest -s`` shows it); that it stays within the limit is asserted in processor time of the cases, because a
busy machine takes longer without any fault of the kit.
"""

from __future__ import annotations

import time

from tests.fuzz.runner import FORMATS, all_cases, by_format, run_cases

FEWEST_CASES = 5_000
MOST_RESIDENT_BYTES = 3_000_000_000  # of a process, torch's and ITK's libraries included


def test_bad_input_by_the_thousand(capsys):
    cases = all_cases()
    assert len(cases) >= FEWEST_CASES
    began = time.perf_counter()
    outcomes, peak = run_cases(cases, jobs=2)
    seconds = time.perf_counter() - began
    with capsys.disabled():
        print(f"\n{by_format(outcomes)}\n{len(outcomes)} cases in {seconds:.0f} s, at most {peak / 1e9:.2f} GB in a process")
    failed = sorted((one for one in outcomes if one.verdict == "failed"), key=lambda one: (one.format, one.seed))
    assert not failed, "\n\n".join(f"python -m tests.fuzz {one}" for one in failed[:20])
    assert sorted((one.format, one.seed) for one in outcomes) == sorted(cases)  # none was lost
    assert peak < MOST_RESIDENT_BYTES
    for name in FORMATS:  # whole enough to be taken now and then, spoilt enough to be refused
        verdicts = {one.verdict for one in outcomes if one.format == name}
        assert verdicts == {"taken", "refused"}, f"{name}: {verdicts}"
