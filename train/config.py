"""An experiment: everything that decides what a run computes, as one value."""

import dataclasses
import importlib.util
import traceback
from pathlib import Path
from types import ModuleType
from typing import Literal

from train.data import Images, Signals
from train.errors import BadInput
from train.expression import near
from vqdit.diffusion import LogitNormal, Process, Uniform
from vqdit.dit import DiT
from vqdit.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """AdamW, its schedule, and the moving average of the weights.

    schedule:   after a linear warm-up of `warmup` steps: "constant", or "cosine" to 0.
    clip:       bound on the gradient's global norm; None for no bound.
    accumulate: microbatches per step; the gradient is that of the whole batch.
    ema:        decay of the weights' moving average, which is what is evaluated.
    """

    peak_lr: float = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = 0
    b1: float = 0.9
    b2: float = 0.999
    weight_decay: float = 0.0
    clip: float | None = 1.0
    accumulate: int = 1
    ema: float = 0.9999


@dataclasses.dataclass(frozen=True)
class Mesh:
    """How many devices along each axis; one may be -1, what is left of the devices."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


@dataclasses.dataclass(frozen=True)
class Run:
    """How long, on how much, and what is written down on the way.

    steps, batch: updates in all, and examples in each over all devices.
    keep:         checkpoints that stay; older ones are deleted.
    sample_every: steps between pictures; 0 draws them at the end only.
    wandb:        Weights & Biases project to report to as well; "" for none.
    """

    steps: int
    batch: int
    seed: int = 0
    log_every: int = 50
    save_every: int = 500
    keep: int = 3
    sample_every: int = 0
    wandb: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What both stages have; `name` labels a run and changes nothing in it."""

    name: str
    data: Signals = Images()
    optimizer: Optimizer = Optimizer()
    run: Run
    mesh: Mesh = Mesh()


@dataclasses.dataclass(frozen=True)
class Weights:
    """The tokenizer's loss: which reconstruction error, and the weight of each term."""

    pixel: Literal["l1", "l2"] = "l2"
    reconstruction: float = 1.0
    commit: float = 0.25
    codebook: float = 1.0
    kl: float = 1e-6


@dataclasses.dataclass(frozen=True)
class KMeansInit:
    """Start the codebook from data: a plain autoencoder until `step`, then k-means.

    For a quantizer with start="kmeans"; any other is ready at once and needs none.
    samples: encoder outputs that are clustered, in `iterations` rounds.
    """

    step: int = 200
    samples: int = 4096
    iterations: int = 25


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageOne(Experiment):
    """A tokenizer trained on signals."""

    model: Tokenizer
    losses: Weights = Weights()
    kmeans: KMeansInit | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageTwo(Experiment):
    """A diffusion transformer trained on a tokenizer's latents or codes.

    processes, times: stream name -> how it is noised, and at which times in training.
    tokenizers:       stream name -> workdir or bundle of its tokenizer.
    cache:            folder of a latent cache; None encodes on the fly.
    label_dropout:    share of labels replaced by the null class, for guidance.
    """

    model: DiT
    processes: dict[str, Process]
    times: dict[str, Uniform | LogitNormal]
    tokenizers: dict[str, str] = dataclasses.field(default_factory=dict)
    cache: str | None = None
    label_dropout: float = 0.1


def load(path: str | Path, variant: str | None = None) -> Experiment:
    """The CONFIG of a config file, or the named one of its VARIANTS.

    Raises BadInput for a file or variant that is not there, naming the nearest, and for
    a file that fails, with the line in it that did.
    """
    path = Path(path)
    module = _run_file(path)
    config = getattr(module, "CONFIG", None)
    if not isinstance(config, Experiment):
        raise BadInput(f"{path} has no experiment; write CONFIG = StageOne(...) in it")
    if variant is None:
        return config
    variants = getattr(module, "VARIANTS", {})
    if variant not in variants:
        raise BadInput(f"{path} has no variant {variant!r}; {near(variant, variants)}")
    if not isinstance(variants[variant], type(config)):
        raise BadInput(
            f"{path}: VARIANTS[{variant!r}] is no {type(config).__name__} as CONFIG is"
        )
    return variants[variant]


def _run_file(path: Path) -> ModuleType:
    if not path.is_file():
        # The config files beside it, or those one forgot the folder or suffix of.
        known = sorted(
            map(str, {*path.parent.glob("*.py"), *Path("configs").glob("*")})
        )
        known = [name for name in known if name.endswith(".py")]
        raise BadInput(f"there is no config file {path}; {near(str(path), known)}")
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{path} is no Python file; write one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        place = f"{error.filename}, line {error.lineno}"
        raise BadInput(f"{place}: {error.msg}") from error
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename) == path
        ]
        place = f"{path}, line {lines[-1]}" if lines else str(path)
        raise BadInput(f"{place}: {type(error).__name__}: {error}") from error
    return module
