"""Bad input by the thousand: no case may end in anything but a valid result or one clear line.

The time by the clock is printed. Asserted is the processor time of the cases, because a busy machine takes longer without any
fault of the kit: two quiet cores work through the limit's worth in two and a half minutes.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from spider_utils.errors import DataError
from tests.fuzz import runner
from tests.fuzz.formats.selftest import WAYS
from tests.fuzz.judge import Sandbox, WrongResultError, judge, random_of
from tests.fuzz.runner import FORMATS, all_cases, by_format, repeat, run_cases

FEWEST_CASES = 5_000
MOST_PROCESSOR_SECONDS = 300.0  # of all cases together
MOST_RESIDENT_BYTES = 3_000_000_000  # of a process, torch's and ITK's libraries included


def test_bad_input_by_the_thousand(capsys):
    cases = all_cases()
    assert len(cases) >= FEWEST_CASES
    began = time.perf_counter()
    outcomes, peak = run_cases(cases, jobs=2)
    seconds = time.perf_counter() - began
    spent = sum(one.seconds for one in outcomes)
    with capsys.disabled():
        print(f"\n{by_format(outcomes)}")
        print(f"{len(outcomes)} cases in {seconds:.0f} s, {spent:.0f} s of processor time, {peak / 1e9:.2f} GB in a process")
    failed = sorted((one for one in outcomes if one.verdict == "failed"), key=lambda one: (one.format, one.seed))
    assert not failed, "\n\n".join(f"python -m tests.fuzz {one}" for one in failed[:20])
    assert sorted((one.format, one.seed) for one in outcomes) == sorted(cases)  # none was lost
    assert peak < MOST_RESIDENT_BYTES and spent < MOST_PROCESSOR_SECONDS
    for name in FORMATS:  # whole enough to be taken now and then, spoilt enough to be refused
        mine = [one for one in outcomes if one.format == name]
        assert any(one.verdict == "taken" for one in mine) and any(one.text for one in mine), name


def test_a_case_follows_from_format_and_seed(tmp_path):
    """Byte for byte the same input in two folders."""
    for name in ("metaimage", "nifti", "pictures", "tables"):
        found = []
        for k in range(2):
            folder = tmp_path / f"{name}{k}"
            assert repeat(name, 3, folder).verdict != "failed"
            found.append({p.name: p.read_bytes() for p in (folder / "case" / "in").rglob("*") if p.is_file()})
        assert found[0] == found[1] and found[0]


# --------------------------------------------------------------------------------------------------- what the judge must see


def judged(tmp_path: Path, call) -> tuple[str, str]:
    sandbox = Sandbox(tmp_path / "case")

    def spoil(random, folder, whole):
        (folder / "x.mha").touch()
        return {"call": call}

    before, temporary = Path.cwd(), os.environ.get("TMPDIR")
    try:
        one = judge("made", 0, SimpleNamespace(spoil=spoil), None, sandbox)
    finally:
        os.chdir(before)
        os.environ.pop("TMPDIR")
        if temporary is not None:
            os.environ["TMPDIR"] = temporary
        sys.modules["tempfile"].tempdir = None
    return one.verdict, one.text


def raiser(error: BaseException):
    def call(out: Path) -> None:
        raise error

    return call


def warner(out: Path) -> None:
    import warnings

    warnings.warn("overflow", RuntimeWarning, stacklevel=1)


@pytest.mark.parametrize(
    ("call", "verdict", "words"),
    [
        (lambda out: None, "taken", ""),
        (lambda out: (out / "result").write_text("x"), "taken", ""),
        (raiser(DataError("x.mha", "is cut", "Fetch it again.")), "refused", "is cut"),
        (raiser(DataError("x.mha", "is cut" * 300, "Fetch it again.")), "failed", "characters"),
        (raiser(DataError("x.mha", "is cut", "")), "failed", "what to do"),
        (raiser(DataError("elsewhere/other.bin", "is cut", "Fetch it again.")), "failed", "names no file"),
        (raiser(KeyError("x")), "failed", "KeyError"),
        (raiser(MemoryError()), "failed", "MemoryError"),
        (raiser(SystemExit(1)), "failed", "SystemExit"),
        (raiser(WrongResultError("odd")), "failed", "odd"),
        (warner, "failed", "RuntimeWarning: overflow"),
        (lambda out: (out.parent / "evil").write_text("x"), "failed", "where none may"),
        (lambda out: Path("evil").write_text("x"), "failed", "where none may"),
        (lambda out: (out / ".partial-12345678-x").write_text("x"), "failed", "half-written"),
    ],
)
def test_what_counts_as_failure(tmp_path, call, verdict, words):
    assert judged(tmp_path, call)[0] == verdict
    assert words in judged(tmp_path, call)[1]


@pytest.mark.parametrize(
    ("way", "words"),
    [("dies", f"the process died ({-signal.SIGSEGV})"), ("hangs", "no answer in time"), ("eats", "MemoryError")],
)
def test_a_process_that_dies_hangs_or_eats_memory_is_a_failure_with_its_seed(monkeypatch, way, words):
    """And the cases after it are run all the same."""
    monkeypatch.setattr(runner, "CASE_LIMIT_S", 1.0)
    seeds = {WAYS[random_of("selftest", seed).randrange(len(WAYS))].__name__: seed for seed in range(100)}
    cases = [("selftest", seeds[name]) for name in ("passes", way, "passes")]
    outcomes, _ = run_cases(cases, jobs=1)
    assert [(one.format, one.seed) for one in outcomes] == cases
    assert [one.verdict for one in outcomes] == ["taken", "failed", "taken"] and words in outcomes[1].text
