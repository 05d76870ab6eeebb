"""The official GDSS code beside ours, in sampling and in training: a checkout is run, none of it is contained here.

What it takes: node counts or graphs of our making, its own networks, weights, processes, losses and solver. Decoding to
molecules is timed on neither side.
"""

from __future__ import annotations

import contextlib
import io
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graphinv.graphs import DenseGraphs


class Official:
    """The networks and processes of one official checkpoint.

    Args:
        file: a checkpoint of harryjo97/GDSS, whose code this process can import, such as checkpoints/QM9/gdss_qm9.pth,
            with VE processes for both fields.
    """

    def __init__(self, file: Path) -> None:
        import losses
        import sde
        import solver
        from models.ScoreNetwork_A import ScoreNetworkA
        from models.ScoreNetwork_X import ScoreNetworkX

        self.losses, self.solver, self.process = losses, solver, sde.VESDE
        with torch.serialization.safe_globals([(OrderedDict, "easydict.EasyDict")]):
            content: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
        self.told = [content["model_config"]["sde"][field] for field in ("x", "adj")]
        if any(told["type"] != "VE" for told in self.told):
            raise SystemExit(f"{file.name} has other processes than VE, which alone are compared here")
        self.nodes, self.features = content["params_adj"]["max_node_num"], content["params_x"]["max_feat_num"]
        self.networks: list[nn.Module] = []
        for kind, key, state in (
            (ScoreNetworkX, "params_x", "x_state_dict"),
            (ScoreNetworkA, "params_adj", "adj_state_dict"),
        ):
            shape = {name: value for name, value in content[key].items() if name != "model_type"}
            self.networks.append(kind(**shape))
            self.networks[-1].load_state_dict(content[state])
        self.optimizers = [torch.optim.Adam(n.parameters(), lr=5e-3, weight_decay=1e-4) for n in self.networks]

    def processes(self, steps: int) -> list[Any]:
        """Return the processes of both fields, cut into ``steps``."""
        return [self.process(told["beta_min"], told["beta_max"], steps) for told in self.told]

    def draw(self, counts: Tensor, steps: int = 100) -> None:
        """Draw one graph per node count ``[n]`` with its S4 solver and the settings of its QM9 configuration."""
        shapes = (len(counts), self.nodes, self.features), (len(counts), self.nodes, self.nodes)
        settings = {"snr": 0.2, "scale_eps": 0.7, "denoise": True, "eps": 1e-4, "device": "cpu", "continuous": True}
        flags = (torch.arange(self.nodes) < counts.unsqueeze(1)).float()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # bars, blank lines
            self.solver.S4_solver(*self.processes(steps), *shapes, **settings)(*self.networks, flags)

    def padded(self, g: DenseGraphs) -> DenseGraphs:
        """Return ``g`` with as many rows as its networks were made for."""
        rows = self.nodes - g.mask.size(1)
        x, adj = (nn.functional.pad(field, pad) for field, pad in ((g.x, (0, 0, 0, rows)), (g.adj, (0, rows, 0, rows))))
        return DenseGraphs(x, adj, nn.functional.pad(g.mask, (0, rows)))

    def step(self, g: DenseGraphs) -> None:
        """Train on one batch: losses, gradients, clipping and both optimisers; the averages are left out."""
        lost = self.losses.get_sde_loss_fn(*self.processes(1000))(*self.networks, g.x, g.adj)
        for network, optimizer, loss in zip(self.networks, self.optimizers, lost, strict=True):
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
