"""The command line: one verb per step from SMILES to a judged sample. ``graphinv VERB --help`` teaches each.

Heavy packages are imported by the verb that needs them, so that help and errors come at once. A problem with the
input ends with one line on standard error and exit status 2.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from graphinv import __version__
from graphinv.errors import GraphinvError, InputError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


__all__ = ["main"]

_HELP = f"""graphinv {__version__}: SMILES in, a trained generator, SMILES and an honest report out.

usage: graphinv VERB [arguments]        graphinv VERB --help explains one verb

  data build FILE... -o STORE     encode SMILES files (or a known data set by name) into one memory-mapped store
  data info STORE                 what a store holds
  train gdss --data STORE -o RUN  train a generator; resumable, checkpoints in RUN/best and RUN/last
  train pard --data STORE -o RUN  the same for the block-autoregressive one: discrete types, hydrogens, plain graphs
  convert gdss FILE.pth -o RUN    a run of an official checkpoint of GDSS
  sample RUN -n 1000 -o out.smi   draw molecules (or graphs: out.g6) from a trained generator
  evaluate out.smi                validity, uniqueness, novelty; under a protocol distances with floors; a page
  info                            versions, devices, and which kernels are in use

a first tour, nothing to download (about six minutes on two cores):
  graphinv data build smallmol -o small.graphs
  graphinv train gdss --data small.graphs --preset smallmol -o runs/small
  graphinv sample runs/small -n 1000 -o out.smi --grid grid.png
  graphinv evaluate out.smi --reference small.graphs --report report.html

options: --help, --version, --traceback (with a verb: show the stack of an error)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 2 for a problem with the input, 130 if interrupted."""
    args = list(sys.argv[1:] if argv is None else argv)
    traceback = "--traceback" in args
    args = [a for a in args if a != "--traceback"]
    try:
        return _dispatch(args)
    except (GraphinvError, OSError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if traceback or not (full or isinstance(error, GraphinvError)):
            raise
        print(f"graphinv: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"graphinv: interrupted{stop}", file=sys.stderr)
        return 130


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0 if args else 2
    if args[0] == "--version":
        print(__version__)
        return 0
    for words, run in _VERBS.items():
        name = words.split()
        if args[: len(name)] == name:
            run(args[len(name) :])
            return 0
    near = [words for words in _VERBS if words.split()[0] == args[0]]
    raise InputError(f"unknown verb {' '.join(args[:2])!r}; available: {', '.join(near or _VERBS)}")


def _parser(verb: str, description: str) -> ArgumentParser:
    from jsonargparse import ArgumentParser

    return ArgumentParser(prog=f"graphinv {verb}", description=description)


def _data_build(args: list[str]) -> None:
    p = _parser(
        "data build",
        "Encode SMILES into a store: one file, opened without reading it. Every line is kept or counted as a reject. "
        "FILE is .smi, .csv, .tsv or .txt (.gz of each), - for standard input, or the name of a known data set. Graphs "
        "without labels come as one .g6, .s6, .pkl (networkx; nothing of it is run) or .pt (SPECTRE) file.",
    )
    p.add_argument("files", nargs="+", metavar="FILE", help="files, -, or one of the known data sets (data list)")
    p.add_argument("-o", "--output", required=True, help="the store to write, such as molecules.graphs")
    p.add_argument("--column", default="smiles", help="column of a .csv or .tsv: name or 0-based number")
    p.add_argument("--no-header", dest="header", action="store_false", help="the tables have no header line")
    p.add_argument("--atoms", default=None, choices=["element", "element+charge"], help="what tells atoms apart")
    p.add_argument("--vocabulary", default=None, help="atoms allowed, such as C,N,O,F; others become rejects")
    p.add_argument("--hydrogens", action="store_true", help="make hydrogens nodes, as H in --vocabulary does")
    p.add_argument("--max-atoms", type=int, default=None, help="most heavy atoms of a molecule")
    p.add_argument("--max-hops", type=int, default=None, metavar="H", help="keep the blocks of PARD in the store")
    p.add_argument("--split", default=None, help="random:0.8/0.1/0.1:SEED, head:0.2, given, gdss-qm9, index:FILE, none")
    p.add_argument("--rejects", default=None, help="write rejected lines with their reason to this file")
    p.add_argument("--workers", type=int, default=None, help="processes; all cores if not given")
    from graphinv._verbs import build

    given = p.parse_args(args)
    store, told = build(given.files, given)
    store.save(given.output)
    print(told)
    print(f"{given.output}: {Path(given.output).stat().st_size / 1e6:.2f} MB, hash {store.content_hash[:12]}")


def _data_info(args: list[str]) -> None:
    p = _parser("data info", "Check a store and say what it holds.")
    p.add_argument("store", help="a store written by graphinv data build")
    p.add_argument("--json", action="store_true", help="print JSON")
    given = p.parse_args(args)
    from graphinv._verbs import store_info, store_lines

    found = store_info(given.store)
    print(json.dumps(found, indent=2) if given.json else "\n".join(store_lines(given.store, found)))


def _data_list(args: list[str]) -> None:
    from graphinv.data.manifests import list_datasets, load_manifest

    _parser("data list", "List the data sets that data build knows by name.").parse_args(args)
    for name in list_datasets():
        manifest = load_manifest(name)
        print(f"{name:15} {manifest.kind:9} {manifest.title} (split {manifest.split}; licence: {manifest.licence})")


_RUNS = (
    " RUN/best holds the lowest validation loss, RUN/last the newest state; --resume goes on from it. Settings come "
    "from --preset, then --config (YAML), then --model.KEY and --trainer.KEY; types and the largest graph are read off "
    "the store."
)
_MODELS = {
    "gdss": "Train GDSS (arXiv:2202.02514) on a store: all nodes and edges are denoised at once, as real numbers.",
    "pard": "Train PARD (arXiv:2402.03687) on a store: a graph grows block after block, each by a discrete diffusion "
    "beside the finished ones. A block holds the nodes that look alike H hops around (--model.max_hops), so nothing "
    "depends on how nodes are numbered. H = 0 is one block, plain diffusion of the whole graph; more hops make more, "
    "smaller and easier blocks. Molecules take 3 (about 7 blocks with hydrogens), large plain graphs 1. The order is "
    "computed first, or once and for all by data build --max-hops. On two CPU cores the preset smallmol takes minutes "
    "and qm9 hours; the presets of the paper want a GPU.",
}


def _train(kind: str, args: list[str]) -> None:
    from graphinv._verbs import train_parser, train_run

    parser = train_parser(_parser(f"train {kind}", _MODELS[kind] + _RUNS), kind, args)
    folder = train_run(kind, parser.parse_args(args))
    print(f"trained: {folder}/best; next: graphinv sample {folder} -n 1000 -o out.smi (plain graphs: out.g6)")


def _sample(args: list[str]) -> None:
    p = _parser(
        "sample",
        "Draw from a trained generator: molecules as SMILES, one a line, invalid ones included, or as a .graphs store; "
        "graphs without labels as .g6 or .graphs. Sampler settings not given are those of the model.",
    )
    p.add_argument("model", help="a run directory or one of its checkpoints")
    p.add_argument("-n", type=int, default=1000, dest="count", help="samples to draw")
    p.add_argument("-o", "--output", required=True, help="file to write: .smi, .graphs; without labels .g6, .graphs")
    p.add_argument("--seed", type=int, default=0, help="sample k depends on the seed and k only")
    p.add_argument("--steps", type=int, default=None, help="solver steps (gdss), most steps of a block (pard)")
    p.add_argument("--repair", default="none", choices=["none", "charges", "valence"], help="mend invalid molecules")
    p.add_argument("--weights", default="ema", choices=["ema", "raw"], help="averaged or last weights")
    p.add_argument(
        "--batch-size", type=int, default=None, help="graphs (gdss, 1024) or blocks (pard, 512) per network call"
    )
    p.add_argument("--device", default="cpu", help="cpu or cuda")
    p.add_argument(
        "--precision",
        default="float32",
        choices=["float32", "bfloat16"],
        help="of the products of matrices; bfloat16 is faster on recent GPUs, slower on most CPUs",
    )
    p.add_argument("--grid", default=None, help="draw the first 36 samples to this .png or .svg (graphs: .svg)")
    gdss = p.add_argument_group("of gdss models")
    solvers = ["s4", "exponential", "flow", "reverse", "euler", "heun"]
    gdss.add_argument("--solver", default=None, choices=solvers, help="the first three call the network once a step")
    gdss.add_argument("--snr", type=float, default=None, help="signal-to-noise ratio of the Langevin corrector")
    gdss.add_argument("--scale-eps", type=float, default=None, help="factor on the corrector's noise")
    gdss.add_argument("--early", type=float, default=None, help="above 1: steps short near noise, long near data")
    gdss.add_argument("--norm", default=None, choices=["graph", "batch"], help="batch is the paper's; couples samples")
    gdss.add_argument("--decode", default=None, choices=["argmax", "threshold"], help="threshold is the paper's")
    pard = p.add_argument_group("of pard models")
    pard.add_argument("--steps-per-element", type=float, default=None, help="times unknown nodes and pairs of a block")
    pard.add_argument("--temperature", type=float, default=None, help="below 1 sharpens, above 1 flattens")
    given = p.parse_args(args)
    from graphinv._verbs import draw_samples

    print(draw_samples(given))


def _convert_gdss(args: list[str]) -> None:
    p = _parser(
        "convert gdss",
        "Make a run directory of an official checkpoint of GDSS (.pth; arXiv:2202.02514), with or without averaged "
        "weights, either node network. The file is read without running anything of it. The run is as any other: "
        "graphinv sample RUN. The default sampler is graphinv's; --sampler paper follows the official one, which "
        "calls the networks 4,000 times.",
    )
    p.add_argument("file", metavar="FILE", help="the checkpoint, such as gdss_qm9.pth")
    p.add_argument("-o", "--output", required=True, help="run directory to make")
    p.add_argument(
        "--weights", default="official", choices=["official", "raw", "ema"], help="official: as its settings sample"
    )
    p.add_argument("--sampler", default="default", choices=["default", "paper"], help="what sample uses unless told")
    p.add_argument("--data", default=None, help="a store: node counts of its training graphs, if the data set is new")
    given = p.parse_args(args)
    from graphinv import convert
    from graphinv.data import GraphStore

    store = None if given.data is None else GraphStore.open(given.data)
    model = convert.gdss(given.file, given.output, weights=given.weights, sampler=given.sampler, data=store)
    weights, graphs = sum(p.numel() for p in model.parameters()), int(model.node_histogram.sum())
    print(f"{given.output}: {weights:,} weights, up to {model.max_nodes} nodes, node counts of {graphs:,} graphs")
    print(f"next: graphinv sample {given.output} -n 1000 -o out.smi (plain graphs: out.g6)")


def _evaluate(args: list[str]) -> None:
    p = _parser(
        "evaluate",
        "Judge molecules or plain graphs. Every rate of validity is over all samples, empty lines included. Under a "
        "protocol also distances to a reference, each with what training data scores (the floor) and an interval. "
        "FILE is .smi, .csv, .tsv or .txt, .graphs, or .g6, .s6, .pkl, .pt of plain graphs (.gz of each).",
    )
    p.add_argument("samples", metavar="FILE", help="the samples, or - for SMILES on standard input")
    p.add_argument("--reference", default=None, help="a store, a known set of graphs (planar), or a file")
    p.add_argument("--train", default=None, help="training data, if the reference has none: for novelty and floors")
    names = "gdss-2022, digress-2023, moses-2020, guacamol-2019, polygraph-2026"
    p.add_argument("--protocol", default=None, help=f"{names}; none: counts only")
    p.add_argument("--family", default=None, help="what a valid plain graph is: planar, tree, lobster, sbm")
    p.add_argument("--scaffolds", default=None, help="moses-2020: the scaffold test set, a second reference")
    p.add_argument("--mcf", default=None, help="moses-2020: its file of medicinal chemistry filters (mcf.csv)")
    p.add_argument("--column", default="smiles", help="column of a .csv or .tsv: name or 0-based number")
    p.add_argument("--no-header", dest="header", action="store_false", help="the tables have no header line")
    p.add_argument("--repeats", type=int, default=100, help="draws of the bootstrap, 0 for no intervals")
    p.add_argument("--seed", type=int, default=0, help="of the bootstrap and of the training data drawn for floors")
    p.add_argument("--json", default=None, help="write the report to this file")
    p.add_argument("--report", default=None, help="write the report as one page (.html)")
    given = p.parse_args(args)
    from graphinv._judge import judge

    for text in judge(given):
        print(text, flush=True)


def _info(args: list[str]) -> None:
    p = _parser(
        "info",
        "Say what runs here: versions of the packages, devices, and which implementation of the segment kernels is in "
        "use, with the reason for each that is not at hand. Worth a look before a long training and in a bug report.",
    )
    p.add_argument("--json", action="store_true", help="print JSON")
    given = p.parse_args(args)
    from graphinv import _info

    found = _info.report()
    print(json.dumps(found, indent=2) if given.json else "\n".join(_info.lines(found)))


_VERBS: dict[str, Callable[[list[str]], None]] = {
    "data build": _data_build,
    "data info": _data_info,
    "data list": _data_list,
    **{f"train {kind}": partial(_train, kind) for kind in _MODELS},
    "convert gdss": _convert_gdss,
    "sample": _sample,
    "evaluate": _evaluate,
    "info": _info,
}


if __name__ == "__main__":
    sys.exit(main())
