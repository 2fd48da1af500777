"""Config files: Python that composes an experiment, CONFIG, and its VARIANTS."""

import importlib.util
import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from train.config.experiment import Experiment
from train.config.override import replaced
from train.config.packages import packages_of, trust
from train.config.search import Between, Choice
from train.config.weights import USUAL
from train.errors import BadInput
from vqdit.values import near

# The experiments that come with the programs, wherever those are installed.
SHIPPED = Path(__file__).resolve().parents[2] / "configs"
# Rooms that config files of earlier versions import from, and what to write instead.
MOVED = {
    "train.data": "Images and its like are in train.modalities, batches and whole in "
    "train.pipeline, Source in train.sources",
    "train.config.paths": "it is train.config.options.paths",
    "train.config.expression": "it is train.config.options.expression",
    "train.config.annotations": "it is train.config.options.annotations",
    "train.config.walk": "it is train.config.options.walk",
    "train.objectives.rehearsal": "it is train.objectives.costs.rehearsal",
    "train.objectives.machine": "it is train.objectives.costs.machine",
    "train.runtime.manifest": "it is train.runtime.checkpoint.manifest",
    "train.runtime.fingerprint": "it is train.runtime.checkpoint.fingerprint",
}
# Config files that became variants of others: name, file, variant.
VARIANTS_NOW = (
    (r"dit_(.+_[248])", "imagenet_dit.py", r"\1"),
    (r"(sit_.+_[248])", "imagenet_dit.py", r"\1"),
    (r"vqgan_f16_1024", "vqgan_f16_16384.py", "codes_1024"),
)
# A DiT's fields that are its block's since.
BLOCK = ("heads", "mlp_ratio", "qk_norm")


def load_config(path: str | Path, variant: str | None = None) -> Experiment:
    """The CONFIG of a config file, or the named one of its VARIANTS: a dict of what
    changes, {"run.batch": 32}, or another experiment.

    path: where no file is at `demo_flow` or `configs/demo_flow.py`, the shipped
        experiment of that name is meant.

    Raises BadInput for a file or variant that is not there, naming the nearest, and for
    a file that fails, with the line in it that did. What it is made of may from then on
    be read, too; see `train.config.packages`.
    """
    path, module = _run_file(path)
    config = getattr(module, "CONFIG", None)
    if not isinstance(config, Experiment):
        raise BadInput(f"{path} has no experiment; write CONFIG = StageOne(...) in it")
    found = config
    if variant is not None:
        variants = getattr(module, "VARIANTS", {})
        if variant not in variants:
            known = near(variant, variants)
            raise BadInput(f"{path} has no variant {variant!r}; {known}")
        found, at = variants[variant], f"{path}: VARIANTS[{variant!r}]"
        if isinstance(found, dict):
            try:
                found = replaced(config, found)
            except BadInput as error:
                raise BadInput(f"{at}: {error}") from error
        if not isinstance(found, type(config)):
            raise BadInput(f"{at} is no {type(config).__name__} as CONFIG is")
    trust(packages_of(found))
    return found


def variants(path: str | Path) -> tuple[str, ...]:
    """Names of a config file's VARIANTS, in its order."""
    return tuple(getattr(_run_file(path)[1], "VARIANTS", {}))


def space_of(path: str | Path) -> dict[str, Between | Choice]:
    """A config file's SPACE, where `train.evolve` looks for settings; {} for none."""
    found = getattr(_run_file(path)[1], "SPACE", {})
    pairs = found.items() if isinstance(found, Mapping) else [(found, None)]
    for at, each in pairs:
        if not isinstance(at, str) or not isinstance(each, Between | Choice):
            raise BadInput(
                f"{path}: SPACE is of fields, such as "
                '{"optimizer.peak_lr": Between(3e-4, 1e-2, log=True)}'
            )
    return dict(found)


def _run_file(path: str | Path) -> tuple[Path, ModuleType]:
    path = Path(path)
    named = path.parent in (Path(), Path("configs")) and path.suffix in ("", ".py")
    if named and not path.is_file():
        shipped = SHIPPED / f"{path.stem}.py"
        path = shipped if shipped.is_file() else path
    if not path.is_file():
        for old, file, variant in VARIANTS_NOW:
            if found := re.fullmatch(old, path.stem):
                raise BadInput(
                    f"{path} is a variant now: write --config={path.with_name(file)} "
                    f"--variant={found.expand(variant)}"
                )
        # The config files beside it, or those one forgot the folder or suffix of.
        files = {*path.parent.glob("*.py"), *Path("configs").glob("*.py")}
        names = {each.stem for each in SHIPPED.glob("[!_]*.py")}
        known = sorted({*map(str, files), *names})
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
        if moved := MOVED.get(getattr(error, "name", None) or ""):
            raise BadInput(f"{path}: {error}; {moved}") from error
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename) == path.absolute()  # as Python names a module's
        ]
        place = f"{path}, line {lines[-1]}" if lines else str(path)
        advice = ""
        if isinstance(error, ModuleNotFoundError):  # a neighbour's, say
            advice = "; if it is your own, begin the command with PYTHONPATH=FOLDER"
        if "DiT.__init__" in str(error) and any(f"'{n}'" in str(error) for n in BLOCK):
            advice = "; it is the block's: DiT(..., block=Block(6, qk_norm='rms'))"
        if "StageTwo.__init__" in str(error):
            advice = (
                "; say it of each stream: StageTwo(model=DiT(...), streams={'image': "
                "Stream(Gaussian(), times=..., shape=(4, 4, 4))})"
            )
        lost = rf"Weights\.__init__.*'({'|'.join(USUAL)}|entropy_end|entropy_steps)'"
        if found := re.search(lost, str(error)):
            ramp = "Ramp(START, END, STEPS)"
            weight = ramp if found[1].startswith("entropy_") else "WEIGHT"
            name = found[1].partition("_")[0]
            advice = f"; write Weights(quantizer={{'{name}': {weight}}})"
        raise BadInput(f"{place}: {type(error).__name__}: {error}{advice}") from error
    return path, module
