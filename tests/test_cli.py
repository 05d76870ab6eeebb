"""The command line: every verb end to end on small files, and what a user sees when something is wrong."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import pytest
import torch

from graphinv.cli import VERBS, main
from graphinv.cli.sample import _sampler
from graphinv.data import GraphStore, community_graphs, read_graphs, write_graphs
from graphinv.errors import InputError
from graphinv.models import GDSS, PARD, GraphGenerator, generator_class, register, registry
from graphinv.mol import MoleculeCodec
from graphinv.ops import available_backends, current_backend

SMILES = ["C", "CC", "CO", "CCO", "C#N", "CC=O", "C1CC1", "CCN", "COC", "CC#C", "NC=O", "OCCO"]
TINY_PARD = [
    "--model.node_dim", "16", "--model.edge_dim", "8", "--model.layers", "1", "--model.heads", "2",
    "--model.sampler.steps", "5", "--trainer.max_epochs", "1", "--trainer.batch_size", "16",
]  # fmt: skip
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


@pytest.fixture(scope="module")
def pard(store, folder):
    target = folder / "pard"
    args = ["--data", str(store), "-o", str(target), "--preset", "smallmol", *TINY_PARD, "--trainer.warmup", "2"]
    assert main(["train", "pard", *args]) == 0
    return target


@pytest.fixture(scope="module")
def plain(folder):
    """A store of synthetic communities that went through a file, with the blocks of H = 2."""
    write_graphs(folder / "communities.g6", community_graphs(24))
    target = folder / "communities.graphs"
    assert main(["data", "build", str(folder / "communities.g6"), "-o", str(target), "--max-hops", "2"]) == 0
    return target


@pytest.fixture(scope="module")
def plain_pard(plain, folder):
    args = ["--data", str(plain), "-o", str(folder / "plain"), "--model.max_hops", "2", *TINY_PARD]
    assert main(["train", "pard", *args]) == 0
    return folder / "plain"


def config_of(run) -> dict:
    return json.loads((run / "last" / "config.json").read_text())["config"]


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
    assert config["node_types"] == 3 and config["max_nodes"] == 4 and config["sampler"]["steps"] == 6


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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_products_have_the_precision_asked_for(run, folder, precision, monkeypatch):
    seen, score = set(), GDSS._score
    monkeypatch.setattr(GDSS, "_score", lambda *args: (seen.add(torch.is_autocast_enabled("cpu")), score(*args))[1])
    out = folder / f"{precision}.smi"
    assert main(["sample", str(run), "-n", "4", "-o", str(out), "--precision", precision]) == 0
    assert seen == {precision == "bfloat16"} and len(out.read_text().split("\n")) == 5


def test_training_goes_on_only_when_asked_to(run, store, capsys):
    again = ["train", "gdss", "--data", str(store), "-o", str(run), "--preset", "smallmol", *TINY]
    assert "resume" in failing(capsys, *again)
    more = [*again, "--resume", "--trainer.max_epochs", "3"]
    assert main(more) == 0
    assert json.loads((run / "last" / "config.json").read_text())["metadata"]["progress"]["epoch"] == 3


def test_a_training_begins_with_the_weights_of_another_one(pard, store, folder, capsys):
    args = ["train", "pard", "--data", str(store), "--preset", "smallmol", *TINY_PARD, "--from", str(pard)]
    before = GraphGenerator.load(pard / "best")[0].state_dict()
    assert (
        main([*args, "-o", str(folder / "begun"), "--trainer.learning_rate", "1e-12", "--trainer.use_ema", "false"])
        == 0
    )
    assert "begun with the weights" in capsys.readouterr().err
    after = GraphGenerator.load(folder / "begun" / "last", weights="raw")[0].state_dict()
    assert all(torch.allclose(after[k].double(), before[k].double(), atol=1e-5) for k in before)
    wide = [*args, "-o", str(folder / "wide"), "--model.node_dim", "32"]
    assert "other shapes" in failing(capsys, *wide)
    assert "not a gdss" in failing(
        capsys, "train", "gdss", "--data", str(store), "-o", str(folder / "odd"), *TINY, "--from", str(pard)
    )
    assert "is not a checkpoint" in failing(capsys, *args[:-1], str(folder / "nowhere"), "-o", str(folder / "odd"))


def test_a_store_with_another_vocabulary_cannot_train_a_model_of_this_one(store, folder, capsys):
    args = ["train", "gdss", "--data", str(store), "-o", str(folder / "other"), "--model.node_types", "7", *TINY]
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
    broken = folder / "torn"
    shutil.copytree(run, broken)
    again = ["train", "gdss", "--data", str(store), "-o", str(broken), "--preset", "smallmol", *TINY, "--resume"]
    assert main([*again, "--trainer.max_epochs", "4"]) == 0  # whatever tests before have made of the run
    assert "edge_hidden" in failing(capsys, *again, "--model.edge_hidden", "8")
    assert "max_epochs=1" in failing(capsys, *again, "--trainer.max_epochs", "1")
    assert "learning_rate" in failing(capsys, *again, "--trainer.learning_rate", "0.1")
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
    assert "mps" in failing(capsys, "sample", str(run), "-o", str(folder / "x"), "--device", "mps:0")
    args = ["train", "gdss", "--data", str(store), "-o", str(folder / "z"), *TINY, "--trainer.accelerator"]
    assert "float64" in failing(capsys, *args, "mps") and not (folder / "z").exists()
    assert "lightning refuses" in failing(capsys, *args, "quantum")


def test_the_help_of_sample_names_devices_and_sizes_that_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["sample", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "cpu or cuda" in told and "mps" not in told
    assert (GDSS.default_batch_size, PARD.default_batch_size) == (1024, 512)
    assert "graphs per network call; unless given 1024 (gdss), 512 (pard)" in told


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
    running = subprocess.Popen(
        [*args, "--trainer.max_epochs", "100000"], stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background inherits it ignored
    )  # fmt: skip
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


@pytest.mark.parametrize(
    "verb",
    ["data build", "data info", "data list", "train", "train gdss", "convert gdss", "sample", "evaluate", "info"],
)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([*verb.split(), "--help"])
    assert end.value.code == 0 and f"graphinv {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("group", sorted({verb.split()[0] for verb in VERBS if " " in verb}))
@pytest.mark.parametrize("flag", ["--help", "-h", "help", None])
def test_every_group_of_verbs_says_what_it_holds(group, flag, capsys):
    assert main([group] if flag is None else [group, flag]) == (2 if flag is None else 0)
    said = capsys.readouterr().out
    assert all(f"  {verb} " in said for verb in VERBS if verb.split()[0] == group)
    assert not any(f"  {verb} " in said for verb in VERBS if verb.split()[0] != group)


def test_info_names_versions_devices_and_the_kernels_in_use(capsys):
    assert main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["devices"][0].startswith("cpu, ")
    assert list(found["backends"].values()).count("in use") == 1
    for name, state in found["backends"].items():
        assert (state in ("in use", "available")) == (name in available_backends())
    assert main(["info"]) == 0
    assert f"kernels   {current_backend()}: in use" in capsys.readouterr().out


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
    assert all(f"{name:15} molecules" in out for name in ("smallmol", "qm9", "zinc250k", "moses", "guacamol"))
    assert all(f"{name:15} graphs" in out for name in ("community_small", "ego_small", "enzymes", "grid", "planar"))


def test_pard_takes_types_and_size_off_the_store_and_the_rest_of_the_preset(pard):
    config = config_of(pard)
    assert (config["node_types"], config["edge_types"], config["max_nodes"]) == (3, 3, 4)
    assert config["sampler"]["steps"] == 5 and config["ce_weight"] == PARD.preset_settings("smallmol").model.ce_weight
    training = json.loads((pard / "train.json").read_text())
    assert training["optimizer"] == "adamw" and training["warmup"] == 2


def test_pard_draws_molecules_a_picture_and_a_store_and_says_what_it_cost(pard, folder, capsys):
    out, grid, drawn = folder / "pard.smi", folder / "pard.svg", folder / "drawn.graphs"
    assert main(["sample", str(pard), "-n", "12", "-o", str(out), "--grid", str(grid), "--seed", "4"]) == 0
    told = capsys.readouterr().out
    assert "network calls each" in told and "path consistency: " in told
    assert len(out.read_text().split("\n")) == 13 and "<svg" in grid.read_text()
    assert main(["sample", str(pard), "-n", "12", "-o", str(drawn), "--seed", "4"]) == 0
    store = GraphStore.open(drawn)
    store.verify()
    assert len(store) == 12 and store.vocabulary.nodes == ("C", "N", "O")
    assert MoleculeCodec(store.vocabulary).decode(store.batch(store.indices())) == out.read_text().split("\n")[:-1]


def test_the_same_seed_gives_pard_the_same_file_and_its_sampler_has_flags(pard, folder):
    files = [folder / f"{k}.smi" for k in range(3)]
    flags = ["--steps", "3", "--steps-per-element", "0.5", "--temperature", "0.8", "--batch-size", "64"]
    for file, seed in zip(files, ("1", "1", "2"), strict=True):
        assert main(["sample", str(pard), "-n", "20", "-o", str(file), "--seed", seed, *flags]) == 0
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()


def test_a_sampler_flag_of_the_other_model_is_told_with_the_flags_that_there_are(run, pard, folder, capsys):
    out = str(folder / "never.smi")
    told = failing(capsys, "sample", str(pard), "-o", out, "--solver", "s4", "--snr", "0.1")
    assert "pard" in told and "without --solver, --snr" in told and "--temperature" in told
    told = failing(capsys, "sample", str(run), "-o", out, "--temperature", "0.9")
    assert "gdss" in told and "--decode" in told
    assert "temperature > 0" in failing(capsys, "sample", str(pard), "-o", out, "--temperature", "0")
    assert not (folder / "never.smi").exists()


def test_pard_resumes_what_it_can(pard, store, folder, capsys):
    target = folder / "longer"
    shutil.copytree(pard, target)
    again = ["train", "pard", "--data", str(store), "-o", str(target), "--preset", "smallmol", *TINY_PARD]
    again += ["--trainer.warmup", "2"]
    assert "resume" in failing(capsys, *again)
    assert main([*again, "--resume", "--trainer.max_epochs", "2"]) == 0
    assert json.loads((target / "last" / "config.json").read_text())["metadata"]["progress"]["epoch"] == 2
    assert "max_hops" in failing(capsys, *again, "--resume", "--model.max_hops", "1")
    swapped = ["train", "gdss", *again[2:6], "--preset", "smallmol", *TINY]
    assert "another model" in failing(capsys, *swapped, "--resume")


def test_pard_refuses_a_store_that_it_does_not_fit(store, pard, folder, capsys):
    args = ["train", "pard", "--data", str(store), "-o", str(folder / "unfit"), *TINY_PARD]
    assert "node_types = 3" in failing(capsys, *args, "--model.node_types", "5")
    assert "edge types" in failing(capsys, *args, "--model.edge_types", "1")
    assert "max_nodes = 3" in failing(capsys, *args, "--model.max_nodes", "3")
    assert not (folder / "unfit").exists()
    other = folder / "other.graphs"
    build = ["data", "build", str(folder / "in.smi"), "-o", str(other), "--vocabulary", "C,O", "--workers", "1"]
    assert main(build) == 0
    again = ["train", "pard", "--data", str(other), "-o", str(pard), *TINY_PARD, "--preset", "smallmol", "--resume"]
    assert "was trained on" in failing(capsys, *again)


def test_pard_without_a_preset_trains_larger_graphs_with_a_network_of_tokens(plain_pard):
    written = json.loads((plain_pard / "train.json").read_text())
    given = ("max_epochs", "batch_size")  # on the command line
    training = PARD.preset_settings("tokens").training
    assert {k: v for k, v in training.items() if k not in (*given, "warmup")}.items() <= written.items()
    config = json.loads((plain_pard / "best" / "config.json").read_text())["config"]
    assert (config["network"], config["prior"], config["max_hops"]) == ("tokens", "empty", 2)
    assert (written["max_epochs"], written["batch_size"]) == (1, 16)


def test_blocks_are_kept_in_the_store_on_request_and_told(plain, store, folder, capsys):
    assert main(["data", "info", str(plain), "--json"]) == 0
    blocks = json.loads(capsys.readouterr().out)["blocks"]
    kept = GraphStore.open(plain)
    per_graph = [len(set(kept.batch([k]).block.tolist())) for k in range(len(kept))]
    assert blocks == {"rule": "hops:2", "mean": sum(per_graph) / len(per_graph)}
    assert main(["data", "info", str(plain)]) == 0 and "hops:2, " in capsys.readouterr().out
    assert main(["data", "info", str(store), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["blocks"] is None
    bad = ["data", "build", str(folder / "communities.g6"), "-o", str(folder / "bad.graphs"), "--max-hops", "-1"]
    assert "max_hops" in failing(capsys, *bad)


def test_graphs_go_from_a_file_through_pard_to_files_and_a_picture(plain_pard, folder, capsys):
    sample = ["sample", str(plain_pard), "-n", "9", "--steps", "3", "--seed", "2"]
    files = [folder / "drawn.g6", folder / "drawn_plain.graphs"]
    assert main([*sample, "-o", str(files[0]), "--grid", str(folder / "plain.svg")]) == 0
    assert main([*sample, "-o", str(files[1])]) == 0
    assert "path consistency" in capsys.readouterr().out and "<svg" in (folder / "plain.svg").read_text()
    lines = read_graphs(files[0])[0]
    store = GraphStore.open(files[1])
    kept = store.batch(store.indices())
    assert lines.num_graphs == 9 and torch.equal(lines.ptr, kept.ptr) and lines.num_edges == kept.num_edges
    assert int(kept.node_counts().max()) <= config_of(plain_pard)["max_nodes"]


def test_gdss_draws_graphs_without_labels_too(plain, folder):
    target, out = folder / "plain_gdss", folder / "gdss.g6"
    args = ["--data", str(plain), "-o", str(target), "--preset", "community_small"]
    assert main(["train", "gdss", *args, *TINY, "--trainer.max_epochs", "1"]) == 0
    assert main(["sample", str(target), "-n", "3", "-o", str(out)]) == 0
    assert read_graphs(out)[0].num_graphs == 3


def test_files_that_cannot_hold_what_a_model_makes_are_refused(plain_pard, pard, folder, capsys):
    plain_sample, sample = ["sample", str(plain_pard), "-n", "2"], ["sample", str(pard), "-n", "2"]
    before = sorted(folder.iterdir())
    assert ".g6 or .graphs" in failing(capsys, *plain_sample, "-o", str(folder / "x.smi"))
    assert "molecules" in failing(capsys, *plain_sample, "-o", str(folder / "x.g6"), "--repair", "valence")
    assert ".svg here" in failing(capsys, *plain_sample, "-o", str(folder / "x.g6"), "--grid", str(folder / "x.png"))
    assert "SMILES" in failing(capsys, *sample, "-o", str(folder / "x.g6"))
    assert "--repair" in failing(capsys, *sample, "-o", str(folder / "x.graphs"), "--repair", "valence")
    assert sorted(folder.iterdir()) == before


def test_unknown_presets_of_either_model_are_told_with_the_known_ones(store, folder, capsys):
    for kind, known in (("gdss", "zinc250k-gmh"), ("pard", "qm9-hydrogens")):
        args = ["train", kind, "--data", str(store), "-o", str(folder / "x"), "--preset", "nosuch"]
        assert known in failing(capsys, *args)


OWN = os.path.join(os.path.dirname(__file__), "models", "bernoulli.py")


@pytest.fixture
def own(monkeypatch):
    """What a process that imports no module of its own knows, before and after."""
    monkeypatch.setattr(registry, "_CLASSES", dict(registry._CLASSES))
    monkeypatch.delitem(sys.modules, "bernoulli", raising=False)
    yield
    sys.modules.pop("bernoulli", None)


def test_a_generator_of_a_module_of_ones_own_goes_from_train_to_evaluate(own, store, folder, monkeypatch, capsys):
    target, out = folder / "own", folder / "own.smi"
    train = ["train", "bernoulli", "--data", str(store), "-o", str(target)]
    assert "no generator 'bernoulli'" in failing(capsys, *train)
    assert main(["--import", OWN, *train, "--trainer.max_epochs", "2", "--trainer.batch_size", "16"]) == 0
    assert config_of(target) == {"max_nodes": 4, "node_types": 3}
    monkeypatch.setenv("GRAPHINV_IMPORT", f" {OWN}, json")
    assert main(["sample", str(target), "-n", "6", "-o", str(out)]) == 0
    assert len(out.read_text().split("\n")) == 7
    assert main(["evaluate", str(out), "--reference", str(store)]) == 0
    assert "has no sampler settings" in failing(capsys, "sample", str(target), "-o", str(out), "--steps", "4")


def test_a_module_by_name_is_found_in_the_working_folder(folder, tmp_path):
    shutil.copy(OWN, tmp_path / "my_own.py")
    code = "import sys; from graphinv.cli import main; sys.path.remove(''); sys.exit(main(sys.argv[1:]))"
    args = [sys.executable, "-c", code, "--import=my_own", "train", "--help"]
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run(args, cwd=tmp_path, env={**os.environ, "PYTHONPATH": here}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "  bernoulli  Nodes and edges are drawn independently\n" in done.stdout


@pytest.mark.parametrize(("content", "told"), [
    (None, "no such file"), ("1 / 0", "ZeroDivisionError"), ("raise SystemError('why')", "why"),
    ("from graphinv.models import register\nregister(dict)", "subclass of GraphGenerator"),
])  # fmt: skip
def test_a_module_that_cannot_be_imported_says_why(own, tmp_path, capsys, content, told):
    file = tmp_path / "broken_own.py"
    if content is not None:
        file.write_text(content)
    for _ in range(2):
        assert told in failing(capsys, "--import", str(file), "train", "--help")
    assert "No module named 'no_such_module'" in failing(capsys, "--import", "no_such_module", "info")
    assert "--import takes a module" in failing(capsys, "--import")
    assert main(["--import", str(file), "--help"]) == 0


def test_the_help_of_train_lists_what_is_registered_and_each_kind_explains_itself(own, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--import", OWN, "train", "--help"])
    told = capsys.readouterr().out
    assert end.value.code == 0
    for kind in ("gdss", "pard", "bernoulli"):
        cls = generator_class(kind)
        assert f"  {kind:10} {cls.description.split('. ')[0]}\n" in told
        with pytest.raises(SystemExit):
            main(["train", kind, "--help"])
        own_help = " ".join(capsys.readouterr().out.split()).replace("- ", "-")  # lines are cut at hyphens
        assert cls.description.split(". ")[0] in own_help and "--model.max_nodes" in own_help
        assert all(name in own_help for name in cls.presets)
    assert "needs a kind of generator first: gdss, pard" in failing(capsys, "train", "--data", "x")
    assert "no generator 'gds'; available: gdss, pard" in failing(capsys, "train", "gds")


def test_the_help_of_sample_groups_settings_by_the_kinds_that_have_them(own, monkeypatch, capsys):
    @dataclass(frozen=True)
    class Sampler:
        """How.

        Attributes:
            solver: another set of choices, 50% of them.
            temperature: a whole number here.
        """

        solver: Literal["own"] = "own"
        temperature: int = 1

    @dataclass(frozen=True)
    class Config:
        max_nodes: int = 3
        node_types: int = 3
        sampler: Sampler = Sampler()

    Config.__annotations__["sampler"] = Sampler
    main(["--import", OWN, "info"])
    third = type("Third", (generator_class("bernoulli"),), {"kind": "third", "config_class": Config})
    register(third)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["sample", "--help"])
    groups = capsys.readouterr().out.split("sampler of ")[1:]
    text = {group.split(" models:")[0]: " ".join(group.split()) for group in groups}
    assert set(text) == {"gdss and pard", "gdss", "gdss and third", "pard", "pard and third"}
    assert "--steps" in text["gdss and pard"] and "gdss: solver steps" in text["gdss and pard"]
    assert "{s4,exponential,flow,reverse,euler,heun,own}" in text["gdss and third"] and "50%" in text["gdss and third"]
    assert "--steps-per-element" in text["pard"] and "--denoise {true,false}" in text["gdss"]
    own_sampler = _sampler(third(Config()), "run", {"temperature": "2"})
    assert own_sampler == Sampler(temperature=2)
    with pytest.raises(InputError, match="another type"):
        _sampler(third(Config()), "run", {"temperature": "0.5"})


def test_a_setting_of_the_model_under_its_old_name_is_told_and_works(store, folder, capsys):
    target = folder / "old_name"
    args = ["train", "gdss", "--data", str(store), "-o", str(target), *TINY, "--trainer.max_epochs", "1"]
    assert main([*args, "--model.features=3"]) == 0
    assert "--model.features is now --model.node_types" in capsys.readouterr().err
    assert config_of(target)["node_types"] == 3


def test_gdss_on_graphs_without_labels_writes_a_store_of_one_type(plain, folder):
    target, out = folder / "plain_gdss_store", folder / "gdss_plain.graphs"
    args = ["--data", str(plain), "-o", str(target), "--preset", "community_small", *TINY, "--trainer.max_epochs", "1"]
    assert main(["train", "gdss", *args]) == 0
    assert config_of(target)["node_types"] == 10
    assert main(["sample", str(target), "-n", "3", "-o", str(out)]) == 0
    assert GraphStore.open(out).vocabulary.nodes == ("0",)


def test_columns_of_a_table_and_properties_are_kept_and_told(folder, capsys):
    file, target = folder / "assay.csv", folder / "assay.graphs"
    file.write_text("id,smiles,activity,note\n1,CCO,2.5,a\n2,C1CC,7,b\n3,CC,,c\n4,CCN,-1,d\n")
    build = ["data", "build", str(file), "-o", str(target), "--split", "none", "--workers", "1"]
    assert main([*build, "--columns", "activity", "--properties", "logp, rings"]) == 0
    capsys.readouterr()
    assert main(["data", "info", str(target), "--json"]) == 0
    columns = json.loads(capsys.readouterr().out)["columns"]
    assert columns["node"] == columns["edge"] == {} and columns["graph"]["smiles"] == {"type": "text"}
    activity = {"type": "float64", "shape": [], "least": -1.0, "most": 2.5, "mean": 0.75, "unknown": 1}
    assert columns["graph"]["activity"] == activity and columns["graph"]["rings"]["most"] == 0
    assert main(["data", "info", str(target)]) == 0
    assert "activity (float64, -1 to 2.5, mean 0.75, 1 unknown)" in capsys.readouterr().out
    assert "nosuch" in failing(capsys, *build, "--columns", "nosuch")
    assert "qed" in failing(capsys, *build, "--properties", "weight")
    smiles = ["data", "build", str(folder / "in.smi"), "-o", str(target), "--columns", "activity"]
    assert "no named columns" in failing(capsys, *smiles)
