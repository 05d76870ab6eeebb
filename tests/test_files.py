"""Atomic writes: the old content, the new content, and nothing in between or left over."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import graphinv
from graphinv import _files
from graphinv._files import atomic_directory, atomic_path, keep_inputs, restore_directory, whole_directory
from graphinv.cli import main
from graphinv.errors import InputError

ROOT = Path(__file__).parents[1]


class Stop(Exception):
    """Stands for any failure in the middle of a write."""


def everything(folder):
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*"))


def test_a_file_appears_whole_under_its_name_in_a_folder_that_is_made(tmp_path):
    target = tmp_path / "a" / "b" / "file.txt"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent, "a rename must not cross file systems"
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert everything(tmp_path / "a") == ["b", "b/file.txt"]


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_failed_file_write_changes_nothing_and_leaves_nothing(tmp_path, old, error):
    target = tmp_path / "file.txt"
    if old is not None:
        target.write_text(old)
    with pytest.raises(error), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error
    assert everything(tmp_path) == ([] if old is None else ["file.txt"])
    assert old is None or target.read_text() == old


def test_file_names_as_strings_are_fine_and_files_are_replaced(tmp_path):
    target = str(tmp_path / "file.txt")
    for content in ("one", "two"):
        with atomic_path(target) as temporary:
            temporary.write_text(content)
    assert Path(target).read_text() == "two"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_and_folders_get_the_permissions_of_ordinary_ones(tmp_path, mask):
    old = os.umask(mask)
    try:
        with atomic_path(tmp_path / "file") as temporary:
            temporary.write_text("x")
        with atomic_directory(tmp_path / "folder") as folder:
            (folder / "inner").mkdir()
            (folder / "inner" / "file").write_text("x")
        assert os.umask(mask) == mask, "the mask of the process changed"
    finally:
        os.umask(old)
    for name, mode in (("file", 0o666), ("folder", 0o777), ("folder/inner", 0o777), ("folder/inner/file", 0o666)):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode & ~mask, name


@pytest.mark.parametrize("atomic", [atomic_path, atomic_directory])
def test_what_the_disk_refuses_is_an_input_error_that_names_the_target(tmp_path, atomic):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write .*file/below"), atomic(tmp_path / "file" / "below"):
        pytest.fail("there is no such folder")
    with pytest.raises(InputError, match="No space left"), atomic(tmp_path / "other"):
        raise OSError(28, "No space left on device")
    assert everything(tmp_path) == ["file"]


def test_a_folder_replaces_the_old_one_with_all_its_files(tmp_path):
    target = tmp_path / "run" / "last"
    for name in ("first", "second"):
        with atomic_directory(target) as folder:
            (folder / name).write_text(name)
    assert everything(tmp_path) == ["run", "run/last", "run/last/second"]


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
def test_a_failed_folder_write_keeps_the_old_folder(tmp_path, error):
    target = tmp_path / "last"
    with atomic_directory(target) as folder:
        (folder / "weights").write_text("old")
    with pytest.raises(error), atomic_directory(target) as folder:
        (folder / "weights").write_text("half")
        raise error
    assert everything(tmp_path) == ["last", "last/weights"]
    assert (target / "weights").read_text() == "old"


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_takes_the_place_of_another_and_leaves_nothing(exchange, tmp_path, monkeypatch):
    if not exchange:  # as where the system cannot
        monkeypatch.setattr(_files, "_exchange", lambda one, other: False)
    target = tmp_path / "last"
    for text in ("old", "new"):
        with atomic_directory(target) as folder:
            (folder / "weights").write_text(text)
        assert everything(tmp_path) == ["last", "last/weights"] and (target / "weights").read_text() == text


def test_what_a_kill_between_two_renames_leaves_is_seen_and_put_back(tmp_path):
    target = tmp_path / "last"
    (tmp_path / ".last.old").mkdir()
    (tmp_path / ".last.old" / "weights").write_text("old")
    (tmp_path / ".last.x.tmp").mkdir()
    assert whole_directory(target) == tmp_path / ".last.old"
    restore_directory(target)
    assert everything(tmp_path) == ["last", "last/weights"] and whole_directory(target) == target
    (tmp_path / ".last.old").mkdir()  # left beside a whole one
    restore_directory(target)
    assert everything(tmp_path) == ["last", "last/weights"]


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "_exchange", lambda one, other: False)
    target = tmp_path / "last"
    with atomic_directory(target) as folder:
        (folder / "weights").write_text("old")
    replace = os.replace

    def refuse(source, destination):
        if Path(destination) == target and Path(source).name.endswith(".tmp"):
            raise OSError(5, "Input/output error")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError, match="Input/output error"), atomic_directory(target) as folder:
        (folder / "weights").write_text("new")
    assert everything(tmp_path) == ["last", "last/weights"]
    assert (target / "weights").read_text() == "old"


def test_a_killed_process_leaves_the_old_content_under_its_name(tmp_path):
    (tmp_path / "file").write_text("old")
    code = (
        "import os, sys\nfrom graphinv._files import atomic_path\n"
        f"with atomic_path({str(tmp_path / 'file')!r}) as t:\n    t.write_text('half')\n    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 9
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("way", ["itself", "relative", "dotted", "link", "hard link"])
def test_an_output_never_takes_the_place_of_an_input(way, tmp_path, monkeypatch):
    source = tmp_path / "a.smi"
    source.write_text("CCO\n")
    paths = {"itself": source, "relative": "a.smi", "dotted": tmp_path / "." / ".." / tmp_path.name / "a.smi"}
    paths |= {"link": tmp_path / "b.smi", "hard link": tmp_path / "c.smi"}
    paths["link"].symlink_to(source)
    os.link(source, paths["hard link"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="--rejects .*would overwrite the input"):
        keep_inputs({"--output": tmp_path / "new", "--rejects": paths[way]}, ["zinc250k", source])
    with pytest.raises(InputError, match="--json .*would overwrite what --report writes"):
        keep_inputs({"--report": tmp_path / "x", "--json": "x"}, [])
    with pytest.raises(InputError, match="is a folder"):
        keep_inputs({"--output": tmp_path}, [])
    keep_inputs({"--output": "new", "--rejects": None}, [source, None, "-"])


@pytest.mark.parametrize(
    ("verb", "output"),
    [
        (["data", "build", "a.smi", "-o", "a.smi"], "a.smi"),
        (["data", "build", "a.smi", "-o", "s.graphs", "--rejects", "./a.smi"], "a.smi"),
        (["data", "build", "a.smi", "-o", "same", "--rejects", "same"], "same"),
        (["evaluate", "a.json", "--json", "a.json"], "a.json"),
        (["evaluate", "a.smi", "--reference", "a.html", "--report", "a.html"], "a.html"),
        (["sample", "run", "-o", "run/config.json"], "run/config.json"),
        (["sample", "run", "-o", "o.svg", "--grid", "o.svg"], "o.svg"),
        (["data", "build", "a.smi", "-o", "run"], "run"),
    ],
)
def test_no_verb_overwrites_what_it_reads(verb, output, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    names = ("a.smi", "a.json", "a.html", "run/config.json")
    for name in names:
        (tmp_path / name).write_text("CCO\nCCN\n")
    assert main(verb) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and ("overwrite" in said or "is a folder" in said) and output in said
    assert all((tmp_path / name).read_text() == "CCO\nCCN\n" for name in names)


def test_a_build_takes_no_file_of_its_own_for_rejects(tmp_path):
    source = tmp_path / "a.smi"
    source.write_text("CCO\n")
    with pytest.raises(InputError, match="rejects_path .*would overwrite"):
        graphinv.build(source, rejects_path=source)
    assert source.read_text() == "CCO\n"
