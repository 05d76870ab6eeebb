"""Processes that noise data and solvers that undo them."""

from graphinv.diffusion.blocks import BlockOrder, block_order
from graphinv.diffusion.categorical import DiscreteDiffusion
from graphinv.diffusion.exponential import Exponential, Heun
from graphinv.diffusion.flow import follow_flow, log_density
from graphinv.diffusion.precondition import network_error, network_input, network_score
from graphinv.diffusion.schedule import CosineSchedule
from graphinv.diffusion.sde import SDE, VESDE, VPSDE, GraphSDE, SubVPSDE
from graphinv.diffusion.solver import (
    S4,
    EulerMaruyama,
    Langevin,
    PredictorCorrector,
    ReverseDiffusion,
    Solver,
    integrate,
    time_grid,
)
from graphinv.noise import GeneratorNoise, Noise, PerGraphNoise

__all__ = [
    "S4",
    "SDE",
    "VESDE",
    "VPSDE",
    "BlockOrder",
    "CosineSchedule",
    "DiscreteDiffusion",
    "EulerMaruyama",
    "Exponential",
    "GeneratorNoise",
    "GraphSDE",
    "Heun",
    "Langevin",
    "Noise",
    "PerGraphNoise",
    "PredictorCorrector",
    "ReverseDiffusion",
    "Solver",
    "SubVPSDE",
    "block_order",
    "follow_flow",
    "integrate",
    "log_density",
    "network_error",
    "network_input",
    "network_score",
    "time_grid",
]
