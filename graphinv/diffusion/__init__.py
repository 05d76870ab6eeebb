"""Processes that noise data and solvers that undo them, in one loop."""

from typing import Any

from graphinv.diffusion.blocks import BlockOrder, block_order
from graphinv.diffusion.categorical import DiscreteDiffusion
from graphinv.diffusion.flow import follow_flow, log_density
from graphinv.diffusion.gaussian import SDE, VESDE, VPSDE, SubVPSDE
from graphinv.diffusion.integrate import Solution, integrate, solve, time_grid
from graphinv.diffusion.precondition import network_error, network_input, network_score
from graphinv.diffusion.process import FieldProcess, GraphProcess, Process
from graphinv.diffusion.removal import Removal
from graphinv.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule
from graphinv.diffusion.solver import (
    S4,
    AdaptiveHeun,
    Ancestral,
    Carry,
    EulerMaruyama,
    Exponential,
    Heun,
    Langevin,
    Predict,
    PredictorCorrector,
    ReverseDiffusion,
    Solver,
    StubMatching,
    TauLeaping,
)
from graphinv.diffusion.state import State, TypedGraphs
from graphinv.errors import warn_old_name
from graphinv.noise import GeneratorNoise, Noise, PerGraphNoise

__all__ = [
    "S4",
    "SDE",
    "VESDE",
    "VPSDE",
    "AdaptiveHeun",
    "Ancestral",
    "BlockOrder",
    "Carry",
    "CosineSchedule",
    "DiscreteDiffusion",
    "EulerMaruyama",
    "Exponential",
    "FieldProcess",
    "GeneratorNoise",
    "GraphProcess",
    "Heun",
    "Langevin",
    "LinearSchedule",
    "Noise",
    "PerGraphNoise",
    "Predict",
    "PredictorCorrector",
    "Process",
    "Removal",
    "ReverseDiffusion",
    "Schedule",
    "Solution",
    "Solver",
    "State",
    "StubMatching",
    "SubVPSDE",
    "TauLeaping",
    "TypedGraphs",
    "block_order",
    "follow_flow",
    "integrate",
    "log_density",
    "network_error",
    "network_input",
    "network_score",
    "solve",
    "time_grid",
]


def __getattr__(name: str) -> Any:
    if name == "GraphSDE":
        warn_old_name("GraphSDE", "GraphProcess")
        return GraphProcess
    raise AttributeError(f"module 'graphinv.diffusion' has no attribute {name!r}")
