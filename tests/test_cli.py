"""The command line: every verb end to end on small files, and what a user sees when something is wrong."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys

import pytest

from graphinv.cli import main

SMILES = ["C", "CC", "CO", "CCO", "C#N", "CC=O", "C1CC1", "CCN", "COC", "CC#C", "NC=O", "OCCO"]
TINY = ["--trainer.max_epochs", "2", "--trainer.batch_size", "16", "--model.sampler.steps", "6"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli")
    (path / "in.smi").write_text("\n".join(SMILES * 6 + ["", "C1", "C.C", "[Fe]", "CCCCCCCC"]) + "\n")
    return path


@pytest.fixture(scope="module")
def store(folder):
    target = folder / "small.graphs"
    files = [str(folder / "in.smi"), "-o", str(target), "--rejects", str(folder / "rejects.txt"), "--workers", "1"]
    assert main(["data", "build", *files, "--vocabulary", "C,N,O", "--max-atoms", "6"]) == 0
    return target


@pytest.fixture(scope="module")
def run(store, folder):
    assert main(["train", "gdss", "--data", str(store), "-o", str(folder / "run"), "--preset", "smallmol", *TINY]) == 0
    return folder / "run"


def failing(capsys, *args: str) -> str:
    """Run the command line; check that it ends like a user's mistake and return its one line."""
    assert main(list(args)) == 2
    err = capsys.readouterr().err
    assert err.startswith("graphinv: error: ") and "Traceback" not in err
    return err


def test_every_line_is_kept_or_counted_with_its_reason(store, folder, capsys):
    assert main(["data", "info", str(store), "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)["provenance"]["counts"]
    assert counts["lines"] == counts["kept"] + sum(counts["rejects"].values()) == 77
    assert counts["rejects"] == {
        "unparsable": 1, "atom outside the vocabulary": 1, "too large": 1, "several fragments": 1, "empty line": 1,
    }  # fmt: skip
    rows = [line.split("\t") for line in (folder / "rejects.txt").read_text().splitlines()]
    assert [row[2] for row in rows] == ["", "C1", "C.C", "[Fe]", "CCCCCCCC"] and rows[0][0] == "72"


def test_sizes_of_the_model_are_read_off_the_store(run):
    config = json.loads((run / "last" / "config.json").read_text())["config"]
    assert config["features"] == 3 and config["max_nodes"] == 4 and config["sampler"]["steps"] == 6


def test_sample_writes_one_line_each_and_a_picture_and_evaluate_counts_them_all(run, store, folder, capsys):
    out, grid, report = folder / "out.smi", folder / "grid.png", folder / "report.json"
    assert main(["sample", str(run), "-n", "20", "-o", str(out), "--grid", str(grid), "--seed", "4"]) == 0
    assert len(out.read_text().split("\n")) == 21
    assert grid.read_bytes().startswith(b"\x89PNG")
    assert main(["evaluate", str(out), "--reference", str(store), "--json", str(report)]) == 0
    assert "valid_strict" in capsys.readouterr().out
    assert json.loads(report.read_text())["samples"] == 20


def test_the_same_seed_gives_the_same_file(run, folder):
    files = [folder / "a.smi", folder / "b.smi"]
    for file in files:
        assert main(["sample", str(run), "-n", "8", "-o", str(file), "--seed", "1", "--solver", "reverse"]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_training_goes_on_only_when_asked_to(run, store, capsys):
    again = ["train", "gdss", "--data", str(store), "-o", str(run), "--preset", "smallmol", *TINY]
    assert "resume" in failing(capsys, *again)
    more = [*again, "--resume", "--trainer.max_epochs", "3"]
    assert main(more) == 0
    assert json.loads((run / "last" / "config.json").read_text())["metadata"]["progress"]["epoch"] == 3


def test_a_store_with_another_vocabulary_cannot_train_a_model_of_this_one(store, folder, capsys):
    args = ["train", "gdss", "--data", str(store), "-o", str(folder / "other"), "--model.features", "7", *TINY]
    assert "node types" in failing(capsys, *args)
    assert not (folder / "other").exists()


def test_a_configuration_file_sets_what_the_flags_do(store, folder):
    config = folder / "config.yaml"
    config.write_text("model:\n  edge_hidden: 8\n  attention: 8\ntrainer:\n  max_epochs: 1\n")
    target = folder / "configured"
    assert main(["train", "gdss", "--data", str(store), "-o", str(target), "--config", str(config)]) == 0
    assert json.loads((target / "best" / "config.json").read_text())["config"]["edge_hidden"] == 8


def test_the_paper_sampler_is_reachable(run, folder):
    flags = ["--solver", "reverse", "--norm", "batch", "--decode", "threshold", "--steps", "5"]
    assert main(["sample", str(run), "-n", "4", "-o", str(folder / "paper.smi"), *flags]) == 0
    assert len((folder / "paper.smi").read_text().split("\n")) == 5


@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz"])
def test_a_column_is_found_by_name_and_a_missing_one_named(name, folder, capsys):
    text = "id,Smiles\n1,CCO\n2,CC\n"
    (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    build = ["data", "build", str(folder / name), "-o", str(folder / "csv.graphs"), "--split", "none"]
    assert main(build) == 0
    assert "Smiles" in failing(capsys, *build, "--column", "nothing")


def test_hydrogens_become_nodes_and_a_table_of_semicolons_is_read(folder, capsys):
    file, target = folder / "semicolons.csv", folder / "hydrogens.graphs"
    file.write_text("id;smiles;note\n1;CCO;a, b\n2;C;\n")
    build = ["data", "build", str(file), "-o", str(target), "--split", "none", "--workers", "1"]
    for flags in (["--hydrogens"], ["--hydrogens", "--vocabulary", "C,O"], ["--vocabulary", "H,C,O"]):
        assert main([*build, *flags]) == 0
        capsys.readouterr()
        assert main(["data", "info", str(target), "--json"]) == 0
        info = json.loads(capsys.readouterr().out)
        assert info["vocabulary"]["nodes"] == ["H", "C", "O"]
        assert {n: count for n, count in info["nodes"].items() if count} == {"5": 1, "9": 1}


def test_standard_input_is_read(folder):
    args = [sys.executable, "-m", "graphinv.cli", "data", "build", "-", "-o", str(folder / "stdin.graphs")]
    done = subprocess.run(args, input="CCO\nCC\nCN\n", text=True, capture_output=True, timeout=120)
    assert done.returncode == 0 and "3 lines = 3 kept" in done.stdout


def test_bad_input_names_the_cause_and_leaves_no_file(store, run, folder, capsys):
    empty, junk, out = folder / "empty.smi", folder / "junk.graphs", folder / "never.graphs"
    empty.write_text("")
    junk.write_bytes(store.read_bytes()[:200])
    assert "empty" in failing(capsys, "data", "build", str(empty), "-o", str(out))
    assert "nosuch" in failing(capsys, "data", "build", "nosuch.smi", "-o", str(out))
    assert "rebuild" in failing(capsys, "data", "info", str(junk))
    assert "nosuch" in failing(capsys, "data", "info", "nosuch.graphs")
    assert "config.json" in failing(capsys, "sample", "nosuch", "-o", str(out))
    assert "png" in failing(capsys, "sample", str(run), "-o", str(out), "--grid", "grid.doc")
    assert "preset" in failing(capsys, "train", "gdss", "--data", str(store), "-o", str(out), "--preset", "nosuch")
    assert "split" in failing(capsys, "data", "build", str(folder / "in.smi"), "-o", str(out), "--split", "thirds")
    assert "unknown verb" in failing(capsys, "data", "bulid")
    assert not out.exists() and not [p for p in folder.iterdir() if p.suffix == ".tmp"]


def test_a_damaged_checkpoint_is_told(run, folder, capsys):
    import shutil

    broken = folder / "broken"
    shutil.copytree(run / "last", broken)
    weights = (broken / "model.safetensors").read_bytes()
    for name in ("model.safetensors", "ema.safetensors"):
        (broken / name).write_bytes(weights[: len(weights) // 2])
    assert "damaged" in failing(capsys, "sample", str(broken), "-o", str(folder / "x.smi"))
    config = json.loads((run / "last" / "config.json").read_text())
    config["config"]["colour"] = "red"
    (broken / "config.json").write_text(json.dumps(config))
    assert "colour" in failing(capsys, "sample", str(broken), "-o", str(folder / "x.smi"))


def test_a_training_resumes_only_what_it_can(run, store, folder, capsys):
    import shutil

    broken = folder / "torn"
    shutil.copytree(run, broken)
    again = ["train", "gdss", "--data", str(store), "-o", str(broken), "--preset", "smallmol", *TINY, "--resume"]
    assert "edge_hidden" in failing(capsys, *again, "--model.edge_hidden", "8")
    assert "max_epochs=1" in failing(capsys, *again, "--trainer.max_epochs", "1")
    state = broken / "last" / "trainer.ckpt"
    state.write_bytes(state.read_bytes()[:1000])
    assert "trainer.ckpt" in failing(capsys, *again)


def test_a_store_with_a_flipped_bit_is_told(store, folder, capsys):
    content = bytearray(store.read_bytes())
    content[-3] ^= 4
    flipped = folder / "flipped.graphs"
    flipped.write_bytes(content)
    assert "corrupt" in failing(capsys, "data", "info", str(flipped))
    assert "corrupt" in failing(capsys, "train", "gdss", "--data", str(flipped), "-o", str(folder / "y"), *TINY)


def test_a_device_that_is_not_there_is_told(run, store, folder, capsys):
    assert "cannot use the device" in failing(capsys, "sample", str(run), "-o", str(folder / "x"), "--device", "meta:x")
    args = ["train", "gdss", "--data", str(store), "-o", str(folder / "z"), *TINY, "--trainer.accelerator", "quantum"]
    assert "lightning refuses" in failing(capsys, *args)


def test_an_unknown_flag_ends_with_status_2(store, folder):
    with pytest.raises(SystemExit) as end:
        main(["train", "gdss", "--data", str(store), "-o", str(folder / "x"), "--model.colour", "red"])
    assert end.value.code == 2


def test_a_full_disk_is_an_error_of_one_line_without_a_file(folder):
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
        "from graphinv.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    target = folder / "full.graphs"
    args = [sys.executable, "-c", code, "data", "build", str(folder / "in.smi"), "-o", str(target), "--workers", "1"]
    done = subprocess.run(args, text=True, capture_output=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr and "Traceback" not in done.stderr
    assert not target.exists() and not list(folder.glob(".full.graphs*"))


def test_an_interrupted_training_says_how_to_go_on(store, folder):
    import signal
    import time

    target = folder / "stopped"
    args = [sys.executable, "-m", "graphinv.cli", "train", "gdss", "--data", str(store), "-o", str(target)]
    running = subprocess.Popen([*args, "--trainer.max_epochs", "100000"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (target / "best" / "config.json").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130 and "graphinv: interrupted; resuming" in err and "Traceback" not in err


def test_the_traceback_is_shown_on_request(capsys):
    with pytest.raises(Exception, match="nosuch"):
        main(["data", "info", "nosuch.graphs", "--traceback"])


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from graphinv.cli import main; main(['--help']);"
        "heavy = {'torch', 'rdkit', 'lightning', 'torch_geometric', 'numpy'} & set(sys.modules); sys.exit(len(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, timeout=60)
    assert done.returncode == 0 and "data build" in done.stdout


@pytest.mark.parametrize("verb", ["data build", "data info", "data list", "train gdss", "sample", "evaluate"])
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([*verb.split(), "--help"])
    assert end.value.code == 0 and f"graphinv {verb}" in capsys.readouterr().out


def test_graphs_without_labels_become_a_store(folder, capsys):
    (folder / "my.g6").write_text("Bw\nA_\nD??\nC~\n")
    target = folder / "my.graphs"
    build = ["data", "build", str(folder / "my.g6"), "-o", str(target)]
    assert main([*build, "--split", "head:0.5"]) == 0 and "4 graphs" in capsys.readouterr().out
    assert main(["data", "info", str(target), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["splits"] == {"train": 2, "test": 2} and info["vocabulary"]["scheme"] == "generic"
    assert "--max-atoms" in failing(capsys, *build, "--max-atoms", "3")
    assert "one file" in failing(capsys, "data", "build", str(folder / "in.smi"), *build[2:])


def test_the_known_data_sets_are_listed(capsys):
    assert main(["data", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("smallmol", "qm9", "zinc250k", "moses", "guacamol"))
