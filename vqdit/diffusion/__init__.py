"""Processes, schedules, times, solvers, guidance and the sampling loop."""

from vqdit.diffusion.gaussian import Gaussian
from vqdit.diffusion.guidance import guided, plain
from vqdit.diffusion.masking import Masking
from vqdit.diffusion.process import Process
from vqdit.diffusion.sampling import example_keys, priors, sample, time_grid
from vqdit.diffusion.schedules import Cosine, DDPMLinear, Linear, Schedule
from vqdit.diffusion.solvers import (
    DDIM,
    Ancestral,
    Confidence,
    Euler,
    Heun,
    Solver,
    Unmask,
)
from vqdit.diffusion.times import LogitNormal, Uniform

__all__ = [
    "DDIM",
    "Ancestral",
    "Confidence",
    "Cosine",
    "DDPMLinear",
    "Euler",
    "Gaussian",
    "Heun",
    "Linear",
    "LogitNormal",
    "Masking",
    "Process",
    "Schedule",
    "Solver",
    "Uniform",
    "Unmask",
    "example_keys",
    "guided",
    "plain",
    "priors",
    "sample",
    "time_grid",
]
