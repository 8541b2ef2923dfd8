"""Two processes with one aim: one works, the other is told by whom, or waits and then finds the result."""

from __future__ import annotations

import pytest

from spider_utils.data.slices import build_store
from spider_utils.data.sources import open_source
from spider_utils.errors import DataError
from spider_utils.mask_table import MaskTable
from tests.faults.started import finish, kill, start, wait_for
from tests.tiny_runs import Squares, assert_same_run, train


def test_two_trainings_in_one_folder(tmp_path, unbroken):
    first = start(
        "import sys, time; from pathlib import Path; from tests.tiny_runs import *\n"
        "class Slow(Squares):\n"
        "    def set_epoch(self, epoch):\n"
        "        super().set_epoch(epoch)\n"
        "        while epoch == 3 and not Path(sys.argv[1], 'go').exists(): time.sleep(0.01)\n"
        "with tiny_network_and_one_thread():\n"
        "    train(Path(sys.argv[1], 'run'), train_set=Slow())\n",
        tmp_path,
    )
    wait_for((tmp_path / "run.partial" / "best-00002.safetensors").exists, first)
    data = Squares()
    with pytest.raises(DataError, match=rf"process {first.pid} is training in this run folder right now\. Wait"):
        train(tmp_path / "run", train_set=data)
    assert data.seen == []
    (tmp_path / "go").touch()
    code, said = finish(first)
    assert code == 0, said
    assert_same_run(unbroken, train(tmp_path / "run", train_set=data))
    assert data.seen == [] and sorted(path.name for path in tmp_path.iterdir()) == ["go", "run"]


BUILD = """
import sys, time
from pathlib import Path
from spider_utils.data.slices import build_store
from spider_utils.data.sources import Source, open_source
volumes = Source.volumes
def waits(self, case, copy=True):
    Path(sys.argv[2]).with_name("begun-" + sys.argv[3]).touch()
    while sys.argv[3] == "first":
        time.sleep(1)
    return volumes(self, case, copy)
Source.volumes = waits
build_store(open_source("spider", sys.argv[1]), sys.argv[2], (32, 32))
"""


def test_who_waits_for_a_store_makes_it_when_its_maker_is_killed(spider_layout, tmp_path):
    expected = build_store(open_source("spider", spider_layout), tmp_path / "expected", (32, 32))
    folder = tmp_path / "both" / "store"
    folder.parent.mkdir()
    first = start(BUILD, spider_layout, folder, "first")
    wait_for((folder.parent / "begun-first").exists, first)
    second = start(BUILD, spider_layout, folder, "second")
    assert second.stdout.readline() == f"waiting for process {first.pid}, which holds store.lock\n"
    assert not (folder.parent / "begun-second").exists()
    kill(first)
    code, said = finish(second)
    assert code == 0, said
    assert build_store(open_source("spider", spider_layout), folder, (32, 32)).fingerprint == expected.fingerprint
    assert sorted(path.name for path in folder.parent.iterdir()) == ["begun-first", "begun-second", "store"]


ROWS = """
import sys
from pathlib import Path
from spider_utils.mask_table import MaskTable
folder, name = Path(sys.argv[1]), sys.argv[2]
table = MaskTable(folder)
(folder / f"begun-{name}").touch()
while len(list(folder.glob("begun-*"))) < 2:
    pass
for number in range(30):
    for mask in (f"{name}-{number}.png", "shared.png"):
        row = {"image": name, "network": str(number), "scheme": "", "doubtful": "", "agreement": "", "vertebrae": "", "notes": ""}
        table.write(folder / mask, lambda: (folder / mask).write_text(f"{name} {number}"), row)
"""


def test_two_that_fill_one_table_of_masks_lose_no_row_and_mix_none_up(tmp_path):
    two = [start(ROWS, tmp_path, name) for name in ("first", "second")]
    for process in two:
        code, said = finish(process)
        assert code == 0, said
        assert "waiting for process" not in said, "so short a wait is nobody's business"
    rows = MaskTable(tmp_path).rows()
    assert len(rows) == 61 == rows["mask"].nunique()
    for row in rows.itertuples():
        assert (tmp_path / row.mask).read_text() == f"{row.image} {row.network}"
