"""Processes, schedules, times, grids, solvers, guidance and the sampling loop."""

from vqdit.diffusion.gaussian import EDM, Gaussian
from vqdit.diffusion.grids import Grid, Karras, Reversed, Steps, Times
from vqdit.diffusion.guidance import guided, preconditioned, unguided
from vqdit.diffusion.mask_replace import MaskAndReplace
from vqdit.diffusion.masking import Masking
from vqdit.diffusion.mixture import Around, Case, Mixture, Prefix, Scattered
from vqdit.diffusion.process import Process, against
from vqdit.diffusion.sampling import example_keys, priors, sample
from vqdit.diffusion.schedules import (
    Betas,
    Cosine,
    CosineBetas,
    DDPMLinear,
    Linear,
    LinearBetas,
    LogLinear,
    Schedule,
    VarianceExploding,
)
from vqdit.diffusion.solvers import (
    DDIM,
    Ancestral,
    Churn,
    Corrector,
    Euler,
    Heun,
    ImplicitEuler,
    Multistep,
    Plain,
    Solver,
    solver_for,
)
from vqdit.diffusion.times import LogitNormal, LogNormal, TimeLaw, Uniform
from vqdit.diffusion.uniform import UniformState
from vqdit.diffusion.unmasking import Confidence, Remask, Unmask

__all__ = [
    "Process",
    "Gaussian",
    "EDM",
    "Masking",
    "MaskAndReplace",
    "UniformState",
    "against",
    "Schedule",
    "Linear",
    "LogLinear",
    "Cosine",
    "DDPMLinear",
    "VarianceExploding",
    "Betas",
    "LinearBetas",
    "CosineBetas",
    "TimeLaw",
    "Uniform",
    "LogitNormal",
    "LogNormal",
    "Mixture",
    "Case",
    "Prefix",
    "Around",
    "Scattered",
    "Grid",
    "Steps",
    "Times",
    "Karras",
    "Reversed",
    "Solver",
    "Plain",
    "Euler",
    "Unmask",
    "Confidence",
    "Remask",
    "DDIM",
    "Ancestral",
    "Heun",
    "ImplicitEuler",
    "Multistep",
    "Churn",
    "Corrector",
    "solver_for",
    "guided",
    "unguided",
    "preconditioned",
    "sample",
    "priors",
    "example_keys",
]
