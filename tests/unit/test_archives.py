"""Unpacking: what is taken, and every trick that a bad archive could play."""

import errno
import hashlib
import io
import os
import stat
import warnings
import zipfile
from pathlib import Path

import pytest

from spider_utils.data.archives import UnpackRule, plan_unpacking, unpack_zip
from spider_utils.errors import DataError

RULE = UnpackRule({"*.mha": "images"}, max_ratio=50)


def make_zip(path, members, compression=zipfile.ZIP_STORED):
    """members: list of (name or ZipInfo, bytes)."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore")  # zipfile warns of double names, which are wanted here
        for name, data in members:
            archive.writestr(name, data)
    return path


def everything_below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("prefix", ["", "images/", "Images/", "spider/images/", "spider\\images\\"])
def test_inner_folder_does_not_matter_and_other_files_stay_out(tmp_path, prefix):
    junk = [("__MACOSX/images/._1_t1.mha", b"x"), (f"{prefix}._2_t1.mha", b"x"), ("readme.txt", b"x"), (".DS_Store", b"x")]
    archive = make_zip(tmp_path / "a.zip", [(f"{prefix}1_t1.mha", b"one"), (f"{prefix}2_t2_SPACE.MHA", b"two"), *junk])
    (tmp_path / "root" / "images").mkdir(parents=True)
    (tmp_path / "root" / "images" / "mine.txt").write_text("kept")
    files = unpack_zip(archive, tmp_path / "root", RULE)
    assert everything_below(tmp_path / "root") == ["images/1_t1.mha", "images/2_t2_SPACE.MHA", "images/mine.txt"]
    assert (tmp_path / "root/images/1_t1.mha").read_bytes() == b"one"
    assert [(f.path, f.bytes, f.sha256) for f in files][0] == ("images/1_t1.mha", 3, hashlib.sha256(b"one").hexdigest())


def test_under_takes_one_subtree_and_two_folders(tmp_path):
    rule = UnpackRule({"image*/*.png": "images", "mask*/*.png": "masks"}, under="Data/t2_SPACE")
    members = [
        ("Repo-d032ac0/Data/t2_SPACE/All/images/5_t2_SPACE_slice49.png", b"i"),
        ("Repo-d032ac0/Data/t2_SPACE/All/masks/5_t2_SPACE_slice49.png", b"m"),
        ("Repo-d032ac0/Data/t1/All/images/5_t1_slice49.png", b"no"),
        ("Repo-d032ac0/figures/a.png", b"no"),
    ]
    unpack_zip(make_zip(tmp_path / "a.zip", members), tmp_path / "root", rule)
    assert everything_below(tmp_path / "root") == ["images/5_t2_SPACE_slice49.png", "masks/5_t2_SPACE_slice49.png"]
    with pytest.raises(DataError, match=r"holds no file 'image\*/\*\.png'.*under 'Data/t2_SPACE'.*figures"):
        plan_unpacking(make_zip(tmp_path / "b.zip", members[2:]), rule)


def link(name):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


def device(name):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFIFO | 0o666) << 16
    return info


def nul_name(name):
    info = zipfile.ZipInfo("x")
    info.filename = name
    return info


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../evil.mha", r"leads out of the folder"),
        ("images/../../evil.mha", r"leads out of the folder"),
        ("images\\..\\..\\evil.txt", r"leads out of the folder"),
        ("/etc/evil.mha", "absolute path"),
        ("\\\\server\\evil.mha", "absolute path"),
        ("C:/evil.mha", "absolute path"),
        ("C:evil.txt", "absolute path"),
        (link("images/3_t1.mha"), "link"),
        (link("readme.txt"), "link"),
        (device("images/3_t1.mha"), "special file"),
        (nul_name("images/3_t1.mha\0.txt"), "NUL"),
    ],
)
def test_one_bad_member_condemns_the_archive(tmp_path, name, problem):
    archive = make_zip(tmp_path / "a.zip", [("images/1_t1.mha", b"fine"), (name, b"/etc/passwd")])
    with pytest.raises(DataError, match=problem) as caught:
        unpack_zip(archive, tmp_path / "root", RULE)
    assert str(archive) in str(caught.value) and "\n" not in str(caught.value)
    assert everything_below(tmp_path) == ["a.zip"]


def test_bombs_by_growth_by_size_and_by_count(tmp_path):
    bomb = make_zip(tmp_path / "bomb.zip", [("1_t1.mha", bytes(5_000_000))], zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=r"would grow \d+ times, more than the 50 times allowed \(zip bomb\)"):
        unpack_zip(bomb, tmp_path / "root", RULE)
    with pytest.raises(DataError, match="more than the 0.0 GB allowed"):
        unpack_zip(bomb, tmp_path / "root", UnpackRule({"*.mha": "images"}, max_unpacked_bytes=4_000_000, max_ratio=5000))
    many = make_zip(tmp_path / "many.zip", [(f"{n}_t1.mha", b"x") for n in range(3)])
    with pytest.raises(DataError, match="holds 3 members, more than the 2 allowed"):
        unpack_zip(many, tmp_path / "root", UnpackRule({"*.mha": "images"}, max_members=2))
    assert everything_below(tmp_path) == ["bomb.zip", "many.zip"]


def test_members_can_be_renamed_by_number_and_path(tmp_path):
    """So that files of one name in several folders do not meet, and names that strangers chose are not written."""
    archive = make_zip(tmp_path / "a.zip", [("readme.txt", b"x"), ("t1/IM1", b"one"), ("t2\\IM1", b"two")])
    rule = UnpackRule({"IM*": "files"}, rename=lambda number, path: f"{number}-{path.replace('/', '+')}")
    unpack_zip(archive, tmp_path / "root", rule)
    assert everything_below(tmp_path / "root") == ["files/1-t1+IM1", "files/2-t2+IM1"]


def test_advice_ends_every_refusal(tmp_path):
    archive = make_zip(tmp_path / "a.zip", [("../evil.mha", b"x")])
    with pytest.raises(DataError, match="Ask the sender"):
        plan_unpacking(archive, UnpackRule({"*.mha": "images"}, advice="Ask the sender."))


def test_overlapping_members_cannot_hide_their_growth(tmp_path):
    """The directory names one compressed body many times (Fifield's bomb): the sum of sizes shows it."""
    archive = make_zip(tmp_path / "a.zip", [("1_t1.mha", bytes(20_000))], zipfile.ZIP_DEFLATED)
    data = archive.read_bytes()
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entry, count = data[start:end], 60
    directory = b"".join(entry.replace(b"1_t1", b"%d_t1" % n)[: len(entry)] for n in range(1, 10)) + entry * (count - 9)
    tail = bytearray(data[end:])
    tail[8:12] = count.to_bytes(2, "little") * 2
    tail[12:16] = len(directory).to_bytes(4, "little")
    archive.write_bytes(data[:start] + directory + bytes(tail))
    with pytest.raises(DataError, match="zip bomb"):
        plan_unpacking(archive, RULE)


def test_two_members_for_one_file(tmp_path):
    same = make_zip(tmp_path / "same.zip", [("a/1_t1.mha", b"one"), ("b/1_t1.mha", b"one")])
    assert list(plan_unpacking(same, RULE)) == ["images/1_t1.mha"]
    for other in ("b/1_t1.mha", "b/1_T1.mha"):  # the second would overwrite the first on Windows and macOS
        clash = make_zip(tmp_path / "clash.zip", [("a/1_t1.mha", b"one"), (other, b"two")])
        with pytest.raises(DataError, match=r"two different members would become 'images/1_"):
            plan_unpacking(clash, RULE)


def test_damage(tmp_path):
    payload = bytes(range(256)) * 40
    good = make_zip(tmp_path / "a.zip", [("1_t1.mha", b"first"), ("2_t1.mha", payload)], zipfile.ZIP_DEFLATED)
    data = good.read_bytes()
    good.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="not a whole zip archive"):
        unpack_zip(good, tmp_path / "root", RULE)
    good.write_bytes(b"<html>sign in</html>")
    with pytest.raises(DataError, match="not a whole zip archive"):
        unpack_zip(good, tmp_path / "root", RULE)
    body = data.index(b"2_t1.mha") + len(b"2_t1.mha") + 40
    good.write_bytes(data[:body] + bytes(b ^ 0xFF for b in data[body : body + 20]) + data[body + 20 :])
    with pytest.raises(DataError, match=r"its member '2_t1\.mha' is damaged"):
        unpack_zip(good, tmp_path / "root", RULE)
    assert everything_below(tmp_path) == ["a.zip"]


def test_encrypted_members_are_refused(tmp_path):
    archive = make_zip(tmp_path / "a.zip", [("1_t1.mha", b"secret")])
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(bytes(data))
    with pytest.raises(DataError, match="is encrypted"):
        unpack_zip(archive, tmp_path / "root", RULE)


def test_known_sum_of_a_member(tmp_path):
    archive = make_zip(tmp_path / "a.zip", [("1_t1.mha", b"one"), ("2_t1.mha", b"two")])
    known = {"images/2_t1.mha": hashlib.sha256(b"another").hexdigest()}
    with pytest.raises(
        DataError, match=f"2_t1.mha' has sha256 {hashlib.sha256(b'two').hexdigest()} but {known['images/2_t1.mha']}"
    ):
        unpack_zip(archive, tmp_path / "root", RULE, known_sums=known)
    assert everything_below(tmp_path) == ["a.zip"]


def test_full_disk_before_and_while_unpacking(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", [("1_t1.mha", b"one"), ("2_t1.mha", b"two")])
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 5})())
        with pytest.raises(DataError, match=r"unpacking a\.zip needs"):
            unpack_zip(archive, tmp_path / "root", RULE)

    class FullDisk(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("spider_utils.data.archives.open", lambda *_: FullDisk(), raising=False)
        with pytest.raises(DataError, match="the disk is full"):
            unpack_zip(archive, tmp_path / "root", RULE)
    assert everything_below(tmp_path) == ["a.zip"]
    assert len(unpack_zip(archive, tmp_path / "root", RULE)) == 2
    assert everything_below(tmp_path / "root") == ["images/1_t1.mha", "images/2_t1.mha"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"the disk is full\. Free some space"),
        (errno.EROFS, r"the file system is read-only\. Choose a folder"),
        (errno.EACCES, r"permission denied\. Choose a folder"),
    ],
)
def test_a_file_that_cannot_be_moved_to_its_place(tmp_path, monkeypatch, number, words):
    archive, real = make_zip(tmp_path / "a.zip", [("1_t1.mha", b"one")]), os.replace

    def refused(source, place):
        if Path(place).name == "1_t1.mha":
            raise OSError(number, os.strerror(number), str(source), None, str(place))
        real(source, place)

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(DataError, match=rf"1_t1\.mha: {words}") as caught:
        unpack_zip(archive, tmp_path / "root", RULE)
    assert str(caught.value).startswith(f"{tmp_path / 'root' / 'images' / '1_t1.mha'}: ")
    assert everything_below(tmp_path) == ["a.zip"]
