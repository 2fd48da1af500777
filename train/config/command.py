"""The command line that all programs share."""

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from train.config.experiment import Experiment
from train.config.file import load_config
from train.config.help import print_help
from train.config.options.annotations import alternatives, bare, fields_with_types
from train.config.options.expression import parse_value
from train.config.options.paths import written
from train.config.override import overrides
from train.config.packages import trust_named
from train.config.workdir import CONFIG_FILE, read_config, run_of
from train.errors import BadInput, arguments
from train.progress import say
from vqdit.values import close

Flags = Mapping[str, tuple[Any, str]]  # name -> (annotation, what --help says of it)
Options = dict[str, tuple[Any, str]]  # of which others are made, as RUN | {...}
OPTIONS: Flags = {
    "config": (str, "the experiment's file, or the name of one that is shipped"),
    "variant": (str, "one of the file's VARIANTS, in place of its CONFIG"),
}
OWN: Flags = {
    "packages": (
        tuple[str, ...],
        "your own, of which files may import any module: trust them",
    ),
}
# What else a program takes stands among its flags. Those of training:
RUN: Options = {
    "workdir": (str, "the run's folder; the same command with it resumes"),
    "force": (bool, "put another experiment's folder aside and begin anew"),
}
# Of a program that reads what a run has left.
OF_RUN: Options = {"workdir": (str, "a run's folder; without --config its experiment")}
# Fields of an experiment that say what a run is measured on, and against.
MEASURED = ("name", "data", "join", "bars")
PROCESSES: Flags = {
    "coordinator": (str, "HOST:PORT of process 0, where there are several"),
    "processes": (int, "how many; launchers such as SLURM need none of these three"),
    "process": (int, "which of them this is, from 0"),
}


@dataclasses.dataclass(frozen=True)
class Command:
    """What a program was asked for.

    experiment: with its overrides applied; None for a program that takes none.
    workdir:    None where it was not given; `open_workdir` asks for it.
    flags:      the program's others, by name; one that was not given is absent.
    inputs:     words that are no options, for a program that takes files.
    processes:  what was said of the run's processes; see `train.runtime.hosts.start`.
    config, changes: the experiment's file and the overrides, dotted path -> text.
    """

    experiment: Any
    workdir: Path | None
    force: bool
    flags: Mapping[str, Any]
    inputs: tuple[str, ...] = ()
    processes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config: str | None = None
    changes: Mapping[str, str] = dataclasses.field(default_factory=dict)


def parse(
    argv: Sequence[str] | None,
    stage: type[Experiment] | None,
    flags: Flags = RUN,
    inputs: bool = False,
    processes: bool = False,
    variant: bool = True,
    needed: Sequence[str] = (),
    measures: bool = False,
) -> Command:
    """Reads `--config=FILE --variant=NAME`, overrides and flags.

    argv: None takes those of the process.
    stage: the experiment the program is for (Experiment for any, None for none).
    flags: the program's, such as {"label": (int, "the class to draw")}, --workdir and
        --force among them where it has a use for them. Underscores are written as
        dashes. A bool flag may stand without a value. One called "given." is of any
        name, --given.image=..., and becomes a dict by these. A list names each thing
        once.
    inputs: whether words that are no options are taken, as the names of files.
    processes: whether the program runs on several, and takes the flags that say so.
    variant: False for a program of all variants of a file.
    needed: flags that have to be given.
    measures: whether a run is measured, which says what is overridden for nothing.

    Both `--key=value` and `--key value` do. Without --config the experiment is that of
    the workdir's config.json, of RUN/best as of RUN. `--help` prints the options, and
    the fields of the experiment where there is one, and exits. Raises BadInput for all
    that is wrong.
    """
    known = {**(OPTIONS if stage else {}), **flags, **OWN}
    known |= PROCESSES if processes else {}
    if not variant:
        del known["variant"]
    argv = arguments(argv)
    asked = bool({"--help", "-h"} & set(argv))
    argv = [text for text in argv if text not in ("--help", "-h")]
    given, changes, words = _split(argv, known, stage, inputs)
    values: dict[str, Any] = {}
    for name, text in given.items():
        family, dot, member = name.partition(".")
        if dot and family in given:
            raise BadInput(
                f"--{dashed(family)} is of all and --{dashed(name)} of one; write "
                "either"
            )
        annotation = known[family + dot][0]
        value = parse_value(text, annotation, f"--{dashed(name)}")
        if more := _twice(value, annotation):
            raise BadInput(f"--{dashed(name)}: {more} is there twice; write it once")
        if value == "" and not dot:  # as a path it would be the current folder
            raise BadInput(f"--{dashed(name)}=: write a value, or leave it out")
        if dot:
            values.setdefault(family, {})[member] = value
        else:
            values[name] = value
    trust_named(values.pop("packages", ()), "--packages")
    names = [name.removesuffix(".") for name in flags]
    workdir = Path(values["workdir"]) if values.get("workdir") else None
    experiment = None
    if stage and not (asked and not values.keys() & {"config", "workdir"}):
        experiment = _experiment(values, workdir, stage, "workdir" in known)
        own, experiment = experiment, overrides(experiment, changes)
        unread = [at for at in changes if at.partition(".")[0] not in MEASURED]
        if measures and unread:  # nor of what is said of the run
            fields = {at.partition(".")[0] for at in unread}
            kept = {name: getattr(own, name) for name in fields}
            experiment = dataclasses.replace(experiment, **kept)
            listed = ", ".join(f"--config.{at}" for at in unread)
            say(f"{listed}: of training, and changes nothing of what is measured")
    if asked:
        print_help(known, inputs, experiment)
        sys.exit(0)
    for name in needed:
        if not values.get(name):
            raise BadInput(f"write --{dashed(name)}=..., {known[name][1]}")
    return Command(
        experiment=experiment,
        workdir=workdir,
        force=values.get("force", False),
        flags={name: values[name] for name in names if name in values.keys() - RUN},
        inputs=words,
        processes={name: values[name] for name in PROCESSES if name in values},
        config=values.get("config"),
        changes=changes,
    )


def _split(
    argv: Sequence[str], known: Flags, stage: type | None, inputs: bool
) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """(option -> text, dotted path -> text, words that are neither)."""
    words = []
    given: dict[str, str] = {}
    changes: dict[str, str] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if inputs and word and not word.startswith("-"):
            words.append(word)
            continue
        key, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not key:
            listed = ", ".join(f"--{dashed(option)}" for option in known)
            raise BadInput(f"{word!r} is no option; there are {listed}")
        dotted = stage is not None and key.startswith("config.")
        name = key.removeprefix("config.") if dotted else key.replace("-", "_")
        family, dot, member = key.partition(".")
        if member and family + dot in known:  # whose names are not ours to spell
            name = key
        elif not dotted and (name not in known or dot):
            raise BadInput(f"--{key} is no option; {_advice(name, known, stage)}")
        held = changes if dotted else given
        if name in held:
            raise BadInput(f"--{key} is given twice; write it once")
        if not equals:
            if not dotted and bool in alternatives(known.get(name, (None,))[0]):
                text = "True"
            elif rest and not rest[0].startswith("--"):
                text = rest.pop(0)
            else:
                raise BadInput(f"--{key} has no value; write --{key}=...")
        # Behind an = no shell does; fields stay as written, and their readers do.
        home = not dotted and text.startswith("~/")
        held[name] = os.path.expanduser(text) if home else text
    return given, changes, tuple(words)


def _twice(value: Any, annotation: Any) -> str:
    """What a list holds more than once, spelled, which means nothing in any of a
    program; "" for nothing."""
    arms = map(bare, alternatives(annotation))
    lists = (get_args(arm) for arm in arms if get_origin(arm) is tuple)
    if not isinstance(value, tuple) or not any(Ellipsis in each for each in lists):
        return ""
    more = (x for i, x in enumerate(value) if x in value[:i])
    return next(map(written, more), "")


def _advice(name: str, known: Flags, stage: type | None) -> str:
    fields = fields_with_types(stage) if stage else {}
    if name.partition(".")[0] in fields:
        return f"did you mean --config.{name}?"
    if stage and name.startswith("config"):
        return "write --config=FILE or --config.FIELD=VALUE"
    nearest = close(name, known)
    if nearest:
        return f"did you mean --{dashed(nearest)}?"
    return "there are " + ", ".join(f"--{dashed(option)}" for option in known)


def _experiment(
    values: Mapping[str, Any], workdir: Path | None, stage: type, runs: bool
) -> Experiment:
    if "config" in values:
        source = values["config"]
        experiment = load_config(source, values.get("variant"))
    elif workdir is None:
        of = ", or --workdir=DIR of a run" if runs else ""
        raise BadInput(f"which experiment? write --config=FILE{of}")
    elif "variant" in values:
        raise BadInput("--variant is one of a config file; write --config=FILE too")
    else:
        source = run_of(workdir) / CONFIG_FILE
        experiment = read_config(source)
    if not isinstance(experiment, stage):
        kind = type(experiment).__name__
        raise BadInput(f"{source} is a {kind}; write the config of a {stage.__name__}")
    return experiment


def dashed(name: str) -> str:
    """As it is written; of a family, "given.", with what stands behind its dot."""
    return name.replace("_", "-") + ("NAME" if name.endswith(".") else "")
