r"""Cost of block-autoregressive diffusion (PARD): graphinv, the official code and a plain transcription of it.

All sides have the same widths and depth and train on, or redraw, the same molecules with explicit hydrogens. Every
measurement is a process of its own, in turns, the sides one after the other and then in the opposite order. JSON lines:

  train   one step: losses, backward and optimizer of all networks of a side, on --batch-size molecules
  sample  the same number of graphs grown with the block sizes of the molecules at --steps denoising steps per block
  step    one denoising step of the last --block nodes of one graph of n nodes, for each n of --nodes
  size    one training step on two sparse planar graphs of n nodes, for each n of --nodes

  cpu_s, iqr_s      median CPU seconds and their quartile distance; per_graph_s for each molecule of the batch
  graphs_per_cpu_s  of part sample
  new_rows, pairs   of part step: nodes and ordered pairs that a denoising step computes anew
  extra_mb          10^6 bytes at the peak of the first run in a process over what was held before; also per graph
  process_mb        the largest resident set of the first process, all runs and what the allocator kept included
  ratio_cpu         CPU seconds (per graph) of the reference over those of this side: 5.0 is five times less; also
                    ratio_memory
  status            ok, timeout or error, the last two with a message

The reference is the official code if --peer names a checkout of LingxiaoShawn/Pard, else the plain transcription.
Sides plain and peer have two networks, one for block sizes and degrees; ours has one that does both, ours_separate two;
peer_denoiser is the first of the official two alone. Weights are random, which costs the same. The other sides of
graphinv: batch normalisation as the official code; nothing, or whole layers, recomputed in the backward pass; 8 and 32
times the graphs sampled together (peer_x8: by the official code); steps in proportion to the unknown nodes and pairs of
a block; no kept past; the network of tokens, of the same width and depth, which draws edges one by one.

Examples:
  python -m examples.benchmarks.pard --parts train --layers 2 --batch-size 4 --turns 1 --dataset smallmol
  python -m examples.benchmarks.pard --parts train --peer ../Pard --out docs/benchmarks/pard.jsonl \
      --sides peer peer_denoiser ours ours_separate
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import networkx as nx
import torch
from rdkit import Chem
from torch import Tensor
from tqdm import tqdm

from graphinv.data import GraphStore, read_smiles
from graphinv.data.manifests import load_manifest, locate
from graphinv.data.vocabulary import Vocabulary
from graphinv.graphs import DenseGraphs, GraphBatch
from graphinv.models import PARD, PARDConfig
from graphinv.models.pard.config import BlockSampler
from graphinv.models.pard.sampler import draw_graphs
from graphinv.nn.block_network import Contexts, NewBlock

from .aggregators import MemoryMeter
from .lines import command_line, emit, environment, machine, python
from .peers.pard import Peer, commit_of
from .peers.plain_pard import Molecule, Plain, Setting, peel, random_graph


@dataclass(frozen=True)
class Variant:
    """What a side changes: settings of the model, graphs per sampling batch, adaptive steps, or no kept past."""

    model: tuple[tuple[str, Any], ...] = ()
    times: int = 1  # graphs sampled, as a multiple of the reference's
    adaptive: bool = False
    cached: bool = True


VARIANTS = {
    "ours": Variant(),
    "ours_separate": Variant((("trunk", "separate"),)),
    "ours_batch_norm": Variant((("norm", "batch"),)),
    "ours_kept": Variant((("recompute", "none"),)),
    "ours_layers": Variant((("recompute", "layers"),)),
    "ours_x8": Variant(times=8),
    "ours_x32": Variant(times=32),
    "ours_adaptive": Variant(adaptive=True),
    "ours_uncached": Variant(cached=False),
    "tokens_layers": Variant(
        (("network", "tokens"), ("prior", "empty"), ("heads", 4), ("recompute", "layers")),
    ),
    "tokens": Variant((("network", "tokens"), ("prior", "empty"), ("heads", 4))),
    "tokens_x32": Variant((("network", "tokens"), ("prior", "empty"), ("heads", 4)), times=32),
}
ATOMS = ("H", "C", "N", "O", "F")
PARTS, SIDES = ("train", "sample", "step", "size"), ("peer", "peer_x8", "peer_denoiser", "plain", *VARIANTS)
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes
Line = dict[str, Any]


class Side(Protocol):
    """What is measured of each implementation."""

    parameters: int

    def train_step(self) -> object: ...
    def sample(self) -> object: ...
    def one_step(self, n: int, block: int) -> Callable[[], object]: ...


def packed(molecules: Sequence[Molecule]) -> GraphBatch:
    """Return the molecules as one batch."""
    most = max(len(m.nodes) for m in molecules)
    x, adj = torch.zeros(len(molecules), most).long(), torch.zeros(len(molecules), most, most).long()
    for k, m in enumerate(molecules):
        x[k, : len(m.nodes)], adj[k, : len(m.nodes), : len(m.nodes)] = m.nodes, m.edges
    counts = torch.tensor([len(m.nodes) for m in molecules])
    return DenseGraphs(x, adj, torch.arange(most) < counts.unsqueeze(1)).to_packed()


class Ours:
    """``PARD`` over ``molecules``, for graphs of up to ``most`` nodes; blocks are computed beforehand."""

    def __init__(self, molecules: Sequence[Molecule], setting: Setting, variant: Variant, most: int) -> None:
        self.setting, self.variant = setting, variant
        config = PARDConfig(
            node_types=setting.node_classes,
            edge_types=setting.edge_classes - 1,
            max_nodes=max(most, *(len(m.nodes) for m in molecules)),
            max_hops=setting.hops,
            diffusion_steps=setting.steps,
            ce_weight=setting.ce_weight,
            node_dim=setting.width,
            edge_dim=setting.edge_width,
            layers=setting.layers,
            heads=setting.heads,
        )
        self.model = PARD(replace(config, **dict(variant.model)))
        labels = [tuple(str(i) for i in range(k)) for k in (config.node_types, config.edge_types)]
        store = GraphStore.from_graphs(packed(molecules), Vocabulary(*labels, "generic"))
        store = self.model.prepare(store, progress=False)
        self.batch = store.batch(store.indices())
        self.plans = [list(zip(*peel(m.edges, setting.hops)[1:], strict=True)) for m in molecules]
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=setting.rate)

    @property
    def parameters(self) -> int:
        """Weights of the model."""
        return sum(w.numel() for w in self.model.parameters())

    def train_step(self) -> None:
        """Take one step of the model, denoiser and block heads, on all molecules."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        self.model.loss(self.batch).backward()
        self.optimizer.step()

    @torch.no_grad()
    def sample(self) -> GraphBatch:
        """Grow one graph per molecule with its block sizes and degrees; the block heads run and are not listened to."""
        self.model.eval()
        each = 1.0 if self.variant.adaptive else 1e9
        sampler = BlockSampler(steps=self.setting.steps, steps_per_element=each)
        count = len(self.plans)
        return draw_graphs(self.model, count, 0, None, sampler, count, None, plans=self.plans)

    def one_step(self, n: int, block: int) -> Callable[[], object]:
        """Return one denoising step of the last ``block`` nodes of a random graph of ``n`` nodes, blocks of as many.

        Without the kept past all n nodes are new: what a network costs that computes the whole graph at each step.
        """
        self.model.eval()
        graph = random_graph(n, block, self.setting)
        types, pairs = graph.x[0].argmax(-1), graph.e[0].argmax(-1)
        contexts, start = self.model.net.empty_contexts(1), 0
        while self.variant.cached and start + block < n:
            contexts = self.finish(contexts, types, pairs, start, block)
            start += block
        new, steps = new_block(types, pairs, start, n - start, start // block), float(self.setting.steps)
        t, s = (torch.tensor(v / steps, dtype=torch.float64) for v in (steps, steps - 1))

        @torch.no_grad()
        def run() -> list[Tensor]:
            logits = self.model.net.denoise(contexts, new, t.expand(1))
            old = zip(self.model.processes(), (new.types, new.pairs), logits, strict=True)
            return [process.step(x, out, t, s, torch.rand(x.shape)) for process, x, out in old]

        return run

    @torch.no_grad()
    def finish(self, contexts: Contexts, types: Tensor, pairs: Tensor, start: int, block: int) -> Contexts:
        """Return the contexts with the nodes from ``start`` on as one more block."""
        return self.model.net.finish(contexts, new_block(types, pairs, start, block, start // block))


def new_block(types: Tensor, pairs: Tensor, start: int, size: int, number: int) -> NewBlock:
    """Return the nodes ``start`` to ``start + size`` of one graph as block ``number`` of degree 1."""
    end, one = start + size, torch.ones(1, dtype=torch.long)
    of = types[start:end].unsqueeze(0), pairs[start:end, :end].unsqueeze(0)
    walks = torch.full((1, PARDConfig.walks), 5)  # which a network of tokens is told as well
    return NewBlock(*of, number * one, one, torch.ones(1, size, dtype=torch.bool), walks)


def make_side(side: str, molecules: list[Molecule], setting: Setting, args: argparse.Namespace) -> Side:
    """Return one implementation with random weights from seed 0."""
    torch.manual_seed(0)
    if side in VARIANTS:
        return Ours(molecules, setting, VARIANTS[side], most=max(args.nodes))
    if side == "plain":
        return Plain(molecules, setting)
    if args.peer is None:
        raise SystemExit(f"side {side} needs --peer, a checkout of LingxiaoShawn/Pard")
    peer = Peer(args.peer, molecules, setting)
    peer.nets = peer.nets[: 1 if side == "peer_denoiser" else 2]
    return peer


def draw_molecules(dataset: str, count: int, seed: int) -> list[Molecule]:
    """Return ``count`` kekulised molecules of H, C, N, O and F, every hydrogen a node."""
    manifest = load_manifest(dataset)
    file = next(file for file in manifest.files if file.role == "molecules")
    lines = list(read_smiles(locate(file, progress=False), manifest.column, header=manifest.header))
    random.Random(seed).shuffle(lines)
    molecules: list[Molecule] = []
    for line in lines:
        mol = Chem.AddHs(Chem.MolFromSmiles(line))
        if len(molecules) < count and all(atom.GetSymbol() in ATOMS for atom in mol.GetAtoms()):
            molecules.append(to_molecule(mol))
        if len(molecules) == count:
            return molecules
    raise SystemExit(f"{dataset} has {len(molecules)} molecules of {', '.join(ATOMS)}, not {count}")


def to_molecule(mol: Chem.Mol) -> Molecule:
    """Return the types of atoms and bonds."""
    Chem.Kekulize(mol, clearAromaticFlags=True)
    edges = torch.zeros(mol.GetNumAtoms(), mol.GetNumAtoms(), dtype=torch.long)
    for bond in mol.GetBonds():
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        edges[i, j] = edges[j, i] = int(bond.GetBondTypeAsDouble())
    return Molecule(torch.tensor([ATOMS.index(atom.GetSymbol()) for atom in mol.GetAtoms()]), edges)


def planar_graph(nodes: int, seed: int) -> Molecule:
    """Return a grid with some diagonals and without some edges, cut to ``nodes`` of its nodes."""
    rng, side = random.Random(seed), math.ceil(math.sqrt(nodes))
    graph = nx.convert_node_labels_to_integers(nx.grid_2d_graph(side, side))
    for i in range(side - 1):
        for j in range(side - 1):
            if rng.random() < 0.5:
                first = side * i + j + rng.randrange(2)
                graph.add_edge(first, side * (2 * i + 1) + 2 * j + 1 - first)
    edges = torch.zeros(nodes, nodes, dtype=torch.long)
    for i, j in graph.edges:
        if max(i, j) < nodes and rng.random() < 0.9:
            edges[i, j] = edges[j, i] = 1
    return Molecule(torch.zeros(nodes, dtype=torch.long), edges)


def measure_sizes(side: str, setting: Setting, args: argparse.Namespace) -> list[Line]:
    """Return the readings of training steps on one graph of each of --nodes, up to the first that fails."""
    lines: list[Line] = []
    for n in args.nodes:
        own = argparse.Namespace(**{**vars(args), "nodes": [n]})
        graphs = [planar_graph(n, args.seed + k) for k in range(2)]  # norms of the official code want two
        tested = make_side(side, graphs, setting, own)
        seconds, extra = timed(tested.train_step, args.repeats)
        common = {"status": "ok", "parameters": tested.parameters, "graphs": 2}
        lines.append({**common, "nodes": n, "cpu": seconds, "extra": [extra]})
    return lines


def timed(run: Callable[[], object], repeats: int) -> tuple[list[float], float]:
    """Return CPU seconds of each repeat after a first one, and the peak memory of the first; 0 repeats: the first."""
    with MemoryMeter() as meter:
        start = time.process_time()
        run()
        seconds = [time.process_time() - start]
    for _ in range(repeats):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return seconds[1:] or seconds, meter.extra_mb


def measure(args: argparse.Namespace) -> list[Line]:
    """Return the readings of one part of one side in this process."""
    part, side = args.one
    setting = replace(
        Setting(), layers=args.layers, width=args.width, edge_width=args.edge_width, steps=args.steps, norm=args.norm
    )
    if part == "step":
        setting = replace(setting, max_blocks=max(args.nodes) // args.block + 2, sizes=args.block + 2)
    if part == "size":
        most = max(args.nodes)
        setting = replace(setting, max_blocks=most + 1, sizes=most + 1, degrees=16, hops=args.hops)
        return measure_sizes(side, setting, args)
    times = 8 if side == "peer_x8" else VARIANTS.get(side, Variant()).times
    count = times * args.graphs if part == "sample" else args.batch_size
    drawn = draw_molecules(args.dataset, count, args.seed)
    tested = make_side(side, drawn, setting, args)
    norm = tested.model.config.norm if isinstance(tested, Ours) else setting.norm
    common: Line = {"status": "ok", "parameters": tested.parameters, "norm": norm}
    if part == "step":
        lines = []
        for n in args.nodes:
            run = tested.one_step(n, args.block)
            run()
            seconds, extra = timed(run, args.repeats)
            old = n - args.block if side in VARIANTS and VARIANTS[side].cached else 0
            touched = {"nodes": n, "new_rows": n - old, "pairs": n * n - old * old}
            lines.append({**common, **touched, "cpu": seconds, "extra": [extra]})
        return lines
    counts = {"graphs": len(drawn), "mean_nodes": round(statistics.mean(len(m.nodes) for m in drawn), 1)}
    torch.ones(1, requires_grad=True).sum().backward()  # what torch starts for itself does not count
    tested.one_step(args.block + 2, args.block)()  # kernels are loaded before the first reading
    seconds, extra = timed(*((tested.train_step, args.repeats) if part == "train" else (tested.sample, 0)))
    counts["process_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / 1e6)
    return [{**common, **counts, "cpu": seconds, "extra": [extra]}]


def start(part: str, side: str, args: argparse.Namespace) -> list[Line]:
    """Measure one part of one side in a new process."""
    command = [*python("pard"), *sys.argv[1:], "--one", part, side]
    env = environment(args.threads, args.peer)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=args.limit_s, env=env)
    except subprocess.TimeoutExpired:
        return [{"status": "timeout", "message": f"not finished after {args.limit_s:g} s"}]
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return [{"status": "error", "message": f"exit status {done.returncode}: {last}"}]
    return list(json.loads(done.stdout.splitlines()[-1]))


def summary(part: str, turns: list[Line]) -> Line:
    """Return medians over the turns of one side, or how it failed."""
    if turns[-1]["status"] != "ok":
        return dict(turns[-1])
    line = {key: value for key, value in turns[0].items() if key not in ("cpu", "extra")}
    cpu, extra = (sum((turn[key] for turn in turns), []) for key in ("cpu", "extra"))
    low, _, high = statistics.quantiles(cpu, n=4, method="inclusive") if len(cpu) > 1 else cpu * 3
    figures = {"cpu_s": statistics.median(cpu), "iqr_s": high - low}
    line |= {"extra_mb": round(statistics.median(extra), 1), "readings": len(cpu), "turns": len(turns)}
    if graphs := line.get("graphs"):
        line["extra_mb_per_graph"] = round(line["extra_mb"] / graphs, 2)
        figures["per_graph_s"] = figures["cpu_s"] / graphs
        if part == "sample":
            figures["graphs_per_cpu_s"] = graphs / figures["cpu_s"]
    return line | {key: float(f"{value:.4g}") for key, value in figures.items()}


def ratios(line: Line, reference: Line | None) -> Line:
    """Return what the reference costs over what this side does."""
    if not reference or line["status"] != "ok" or reference["status"] != "ok":
        return {}
    found = {}
    for name, total, per_graph in (("ratio_cpu", "cpu_s", "per_graph_s"), ("ratio_memory", "extra_mb", "extra_mb")):
        key = per_graph if per_graph in line else total
        found[name] = float(f"{reference[key] / line[key]:.3g}") if line[key] > 0 else None
    return found


def run_part(part: str, args: argparse.Namespace, bar: Any, emit: Callable[[Line], None]) -> None:
    """Measure all sides of a part in turns; a side that failed is not tried again."""
    turns: dict[str, list[list[Line]]] = {side: [] for side in args.sides}
    for turn in range(args.turns):
        for side in args.sides if turn % 2 == 0 else args.sides[::-1]:
            bar.set_postfix_str(f"{part} {side}")
            if all(lines[0]["status"] == "ok" for lines in turns[side]):
                turns[side].append(start(part, side, args))
            bar.update()
    common: Line = {key: getattr(args, key) for key in ("layers", "width", "edge_width", "dataset", "seed")}
    common |= {"block": args.block} if part == "step" else {"steps": args.steps}
    common |= {
        "device": "cpu",
        "machine": machine(),
        "threads": args.threads,
        "torch": torch.__version__,
        "commit": commit_of(Path(__file__).parent),
    }
    common |= {"peer_commit": commit_of(args.peer)} if args.peer else {}
    common["command"] = command_line("pard")
    done = {side: [summary(part, list(rows)) for rows in zip(*lines, strict=False)] for side, lines in turns.items()}
    reference = done.get("peer") or done.get("plain") or []
    for side in args.sides:
        for i, line in enumerate(done[side]):
            against = ratios(line, reference[i] if i < len(reference) else None)
            emit({"name": f"pard_{part}", "side": side, **line, **against, **common})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--sides", nargs="+", choices=SIDES, help="default: ours, plain, and peer with --peer")
    parser.add_argument("--peer", type=Path, help="checkout of LingxiaoShawn/Pard, which is run where it lies")
    parser.add_argument("--dataset", default="qm9", help="known data set of molecules (default qm9)")
    parser.add_argument("--seed", type=int, default=0, help="which molecules are drawn (default 0)")
    parser.add_argument("--batch-size", type=int, default=8, help="molecules of a training step (default 8)")
    parser.add_argument("--graphs", type=int, default=8, help="graphs sampled together (default 8)")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps per block (default 20)")
    parser.add_argument("--layers", type=int, default=8, help="layers of each network (default 8)")
    parser.add_argument("--width", type=int, default=256, help="node channels (default 256)")
    parser.add_argument("--edge-width", type=int, default=64, help="pair channels (default 64)")
    parser.add_argument("--norm", default="legacy_batch", choices=("legacy_batch", "layer"), help="of plain and peer")
    parser.add_argument(
        "--nodes", type=int, nargs="+", default=[16, 32, 64, 128], help="graph sizes of parts step and size"
    )
    parser.add_argument("--hops", type=int, default=3, help="hops of the block order in part size (default 3)")
    parser.add_argument("--block", type=int, default=4, help="nodes of a block in part step (default 4)")
    parser.add_argument("--turns", type=int, default=3, help="processes per side and part (default 3)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs per process (default 3; part sample: 1)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process (default 1)")
    parser.add_argument("--limit-s", type=float, default=600.0, help="seconds until a process is ended (default 600)")
    parser.add_argument("--out", type=Path, help="append the lines to this file as well")
    parser.add_argument("--one", nargs=2, metavar=("PART", "SIDE"), help="measure here, in this process, and once")
    args = parser.parse_args()
    args.sides = args.sides or ["ours", "plain", *(["peer"] if args.peer else [])]
    return args


def main() -> None:
    args = parse()
    if args.one:
        torch.set_num_threads(args.threads)
        print(json.dumps(measure(args)))
        return

    with tqdm(total=len(args.parts) * len(args.sides) * args.turns, unit="process") as bar:
        for part in args.parts:
            run_part(part, args, bar, lambda line: emit(line, args.out))


if __name__ == "__main__":
    main()
