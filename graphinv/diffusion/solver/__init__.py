"""Rules for one interval of undoing a process; ``graphinv.diffusion.integrate`` owns the loop."""

from graphinv.diffusion.solver.ancestral import Ancestral
from graphinv.diffusion.solver.base import Carry, GaussianSolver, Predict, Solver
from graphinv.diffusion.solver.exponential import Exponential
from graphinv.diffusion.solver.heun import AdaptiveHeun, Heun
from graphinv.diffusion.solver.langevin import Langevin
from graphinv.diffusion.solver.reverse import EulerMaruyama, PredictorCorrector, ReverseDiffusion
from graphinv.diffusion.solver.s4 import S4
from graphinv.diffusion.solver.stubs import StubMatching
from graphinv.diffusion.solver.tau_leaping import TauLeaping

__all__ = [
    "S4",
    "AdaptiveHeun",
    "Ancestral",
    "Carry",
    "EulerMaruyama",
    "Exponential",
    "GaussianSolver",
    "Heun",
    "Langevin",
    "Predict",
    "PredictorCorrector",
    "ReverseDiffusion",
    "Solver",
    "StubMatching",
    "TauLeaping",
]
