"""Processes, schedules, times, grids, solvers, guidance and the sampling loop."""

from vqdit.diffusion.gaussian import EDM, Gaussian
from vqdit.diffusion.grids import Grid, Karras, Steps, Times
from vqdit.diffusion.guidance import guided, preconditioned, unguided
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
    Schedule,
    VarianceExploding,
)
from vqdit.diffusion.solvers import (
    DDIM,
    Ancestral,
    Churn,
    Confidence,
    Corrector,
    Euler,
    Heun,
    Multistep,
    Plain,
    Solver,
    Unmask,
    solver_for,
)
from vqdit.diffusion.times import LogitNormal, LogNormal, Uniform
from vqdit.diffusion.uniform import UniformState
