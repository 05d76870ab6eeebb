"""The official PARD code behind the same three calls as ``Plain``: a checkout is run, none of it is contained here.

Two packages it imports are stood in for: torch_scatter (no wheels; ``out`` accumulates as there) and einops. Losses,
networks, order and sampling are the checkout's own; block sizes are replayed from the molecules while its block model
runs and is not listened to, so that every side draws graphs of the same size.
"""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch as PygBatch
from torch_geometric.data import Data

from .plain_pard import Batch, Molecule, Setting, random_graph


def scatter_add(
    src: Tensor, index: Tensor, dim: int = 0, out: Tensor | None = None, dim_size: int | None = None
) -> Any:
    """Add the rows of ``src`` into ``out`` (zeros if None) at ``index``."""
    if dim != 0:
        raise NotImplementedError(f"rows alone can be added here, got dim {dim}")
    if out is None:
        rows = dim_size if dim_size is not None else int(index.max()) + 1
        out = src.new_zeros(rows, *src.shape[1:])
    return out.index_add_(0, index, src)


def scatter(src: Tensor, index: Tensor, dim: int = 0, out: Tensor | None = None, reduce: str = "sum") -> Any:
    """Add as ``scatter_add``; no other reduction is called."""
    if reduce != "sum":
        raise NotImplementedError(f"sums alone are stood in for, got {reduce!r}")
    return scatter_add(src, index, dim, out)


def scatter_max(*args: Any, **kwargs: Any) -> Any:
    """Refuse: only the sequential mode calls it, which is not measured."""
    raise NotImplementedError("scatter_max is of the sequential mode, which is not measured")


def rearrange(x: Tensor, pattern: str, h: int | None = None) -> Tensor:
    """Split heads off the channels, or join them."""
    moves = {
        "b (h d) n -> b h n d": lambda: x.unflatten(1, (h, -1)).transpose(2, 3),
        "b (h d) n1 n2 -> b h n1 n2 d": lambda: x.unflatten(1, (h, -1)).permute(0, 1, 3, 4, 2),
        "b h n d -> b (h d) n": lambda: x.transpose(2, 3).flatten(1, 2),
    }
    return moves[pattern]()


def stand_in(name: str, *members: Callable[..., Any]) -> None:
    """Put a module of these functions where an import of ``name`` looks first."""
    module = types.ModuleType(name)
    for member in members:
        setattr(module, member.__name__, member)
    sys.modules[name] = module


def commit_of(path: Path) -> str:
    """Return the commit of the checkout, or "unknown"."""
    done = subprocess.run(["git", "-C", str(path), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def load(path: Path) -> tuple[Any, Any]:
    """Return the modules ``task`` and ``transform`` of the checkout."""
    if not (path / "pard" / "parallel" / "task.py").exists():
        raise SystemExit(f"--peer needs a checkout of LingxiaoShawn/Pard: {path}/pard/parallel/task.py is missing")
    stand_in("torch_scatter", scatter, scatter_add, scatter_max)
    stand_in("einops", rearrange)
    warnings.filterwarnings("ignore", message=".*non-tuple sequence.*|.*self.log.*")
    return importlib.import_module("pard.parallel.task"), importlib.import_module("pard.parallel.transform")


class Peer:
    """The official denoiser and block model over ``molecules``."""

    def __init__(self, path: Path, molecules: Sequence[Molecule], setting: Setting) -> None:
        self.task, self.transform = load(path)
        self.commit, self.molecules, self.setting = commit_of(path), list(molecules), setting
        shape = (*setting.classes, setting.max_blocks, setting.sizes, setting.degrees)
        both = {"channels": setting.width, "edge_channels": setting.edge_width, "num_layers": setting.layers}
        both |= {"n_head": setting.heads, "norm": "ln" if setting.norm == "layer" else "bn", "add_transpose": True}
        both |= {"use_relative_blockid": True, "use_absolute_blockid": True, "lr_scheduler": "cosine"}
        both |= {"lr": setting.rate}
        with contextlib.redirect_stdout(sys.stderr):
            self.denoiser = self.task.AutoregressiveDiffusion(
                *shape,
                **both,
                use_input=True,
                uniform_noise=True,
                coeff_ce=setting.ce_weight,
                num_diffusion_steps=setting.steps,
                initial_blocksize_distribution=torch.ones(setting.sizes) / setting.sizes,
            )
        self.blocks = self.task.PredictBlockProperties(*shape, **both)
        self.nets = (self.denoiser, self.blocks)
        for net in self.nets:
            net.log = net.log_dict = lambda *args, **kwargs: None  # there is no trainer to log to
        self.optimizers = [net.configure_optimizers()["optimizer"] for net in self.nets]
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = setting.rate  # its warm-up starts at nearly 0
        self.batches = [self.batch(copies) for copies in (True, False)]

    @property
    def parameters(self) -> int:
        """Weights of both networks."""
        return sum(w.numel() for net in self.nets for w in net.parameters())

    def batch(self, copies: bool) -> PygBatch:
        """Return the molecules through the checkout's transforms; ``copies`` appends the virtual nodes."""
        encode = self.transform.ToOneHot(self.setting.node_classes, self.setting.edge_classes, True, True, False)
        order = self.transform.ToParallelBlocks(self.setting.hops, add_virtual_blocks=copies)
        graphs = []
        for m in self.molecules:
            index = m.edges.nonzero().T.contiguous()
            data = Data(x=m.nodes.clone(), edge_index=index, edge_attr=m.edges[index[0], index[1]])
            graphs.append(order(encode(data)))
        return PygBatch.from_data_list(graphs)

    def train_step(self) -> None:
        """Take one step of each of ``nets`` on all molecules."""
        for net, optimizer, batch in zip(self.nets, self.optimizers, self.batches, strict=False):
            net.train()
            optimizer.zero_grad(set_to_none=True)
            net.training_step(batch, 0).backward()
            optimizer.step()

    @torch.no_grad()
    def sample(self) -> Any:
        """Grow one graph per molecule with the block sizes and degrees of the molecules; both networks run."""
        self.denoiser.eval()
        clean = self.transform.ToDenseParallelBlocksBatch()(self.batches[1])
        batch = self.denoiser.create_init_dense_batch(clean.block_size[:, 0])
        batch.block_degree = clean.block_degree[:, :1]
        self.blocks.inference(batch, pred_init_degree=True)
        for i in range(clean.block_size.size(1)):
            if i > 0:
                sizes, degrees = clean.block_size[:, i], clean.block_degree[:, i]
                batch = self.task.add_block_to_dense_batch(batch, sizes, degrees)
            batch = self.denoiser.generate_last_block(batch)
            self.blocks.inference(batch)
        return batch

    def one_step(self, n: int, block: int) -> Callable[[], object]:
        """Return one denoising step of the last ``block`` nodes of a random graph of ``n`` nodes, blocks of as many."""
        self.denoiser.eval()
        graph = random_graph(n, block, self.setting)

        def run() -> None:
            self.denoiser.num_diffusion_steps = 1  # its loop over steps is run once
            self.denoiser.generate_last_block(_official(graph))
            self.denoiser.num_diffusion_steps = self.setting.steps

        return run


def _official(graph: Batch) -> PygBatch:
    return PygBatch(
        nodes=graph.x.clone(),
        edges=graph.e.clone(),
        nodes_blockid=graph.block.clone(),
        virtual_node_mask=graph.virtual.clone(),
        block_size=graph.sizes.clone(),
        block_degree=graph.degrees.clone(),
    )
