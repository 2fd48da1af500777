"""The command line: both spellings, the programs' own flags, and every refusal."""

import importlib
import pathlib
import re
import typing
from typing import Any

import pytest

import train
from tests.train.experiments import TOKENIZER
from train import bench
from train.__main__ import NOT_PROGRAMS
from train.config import Experiment, StageOne, StageTwo, help
from train.config.command import RUN, parse
from train.config.file import SHIPPED
from train.config.help import meanings
from train.config.options.paths import leaves
from train.config.override import overrides
from train.config.workdir import open_workdir
from train.errors import BadInput
from vqdit.fields import Finite, Names

FLAGS = RUN | {
    "label": (int, "the class"),
    "guidance": (float, "its scale"),
    "out": (str, "a file"),
    "smoke": (bool, "a test"),
    "per_class": (tuple[int, ...], "so many"),
    "want": (bool | tuple[str, ...], "these"),
    "scales": (tuple[Finite, ...], "by these"),
    "pair": (tuple[Finite, Finite], "from one to the other"),
    "weights": (dict[str, int], "of each"),
    "shown.": (int, "of each"),
}
PROGRAMS = [
    importlib.import_module(f"train.{path.stem}")
    for path in sorted(pathlib.Path(train.__file__).parent.glob("*.py"))
    if path.stem not in NOT_PROGRAMS
]
programs = pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "digits.py"
    path.write_text(
        "from tests.train.experiments import JOINT, TOKENIZER\n"
        "CONFIG = TOKENIZER\n"
        "VARIANTS = {'same': TOKENIZER}\n"
    )
    return str(path)


def test_both_spellings_are_the_same_command(file):
    wanted = overrides(
        TOKENIZER, {"run.steps": "7", "model.quantizer": "FSQ(levels=(5, 4))"}
    )
    one = parse(
        [
            f"--config={file}",
            "--workdir=runs/a=b",
            "--variant=same",
            "--force",
            "--config.run.steps=7",
            "--config.model.quantizer=FSQ(levels=(5, 4))",
            "--label=3",
            "--guidance=-1.5",
            "--smoke",
            "--per-class=(1, 2)",
        ],
        StageOne,
        FLAGS,
    )
    two = parse(
        "--per_class 1,2 --smoke --guidance -1.5 --label 3 --config.run.steps 7 "
        f"--variant same --workdir runs/a=b --force --config {file}".split()
        + ["--config.model.quantizer", "FSQ(levels=(5, 4))"],
        StageOne,
        FLAGS,
    )
    assert one == two
    assert one.experiment == wanted
    assert str(one.workdir) == "runs/a=b"
    assert one.force
    assert one.flags == {
        "label": 3,
        "guidance": -1.5,
        "smoke": True,
        "per_class": (1, 2),
    }


def test_a_home_is_a_folder_behind_an_equals_sign_too(file, tmp_path, monkeypatch):
    """There was a folder called ~; a field stays as it is written in config.json."""
    monkeypatch.setenv("HOME", str(tmp_path))
    words = [f"--config={file}", "--workdir=~/runs/a", "--config.data.data_dir=~/b"]
    command = parse(words, Experiment, RUN)
    assert command.workdir == tmp_path / "runs" / "a"
    assert command.experiment.data.data_dir == "~/b"


def test_without_arguments_those_of_the_process_are_read(file, monkeypatch):
    monkeypatch.setattr("sys.argv", ["vqdit", f"--config={file}", "--label=3"])
    assert parse(None, StageOne, FLAGS).flags == {"label": 3}


def test_what_is_not_given(file):
    command = parse([f"--config={file}", "--smoke=false"], StageOne, FLAGS)
    assert command.experiment == TOKENIZER
    assert command.workdir is None
    assert not command.force
    assert command.flags == {"smoke": False}


def test_without_a_config_the_workdir_says_which_experiment(tmp_path):
    open_workdir(tmp_path / "run", TOKENIZER)
    argv = [f"--workdir={tmp_path / 'run'}", "--config.run.seed=5"]
    command = parse(argv, Experiment)
    assert command.experiment == overrides(TOKENIZER, {"run.seed": "5"})
    # So does that of its best bundle, which is measured in its own folder.
    best = tmp_path / "run" / "best"
    best.mkdir()
    (best / "config.json").write_text('{"kind": "tokenizer"}')
    with pytest.raises(BadInput, match="best is a bundle.*; write the workdir"):
        parse([f"--workdir={best}"], Experiment)
    (tmp_path / "run" / "checkpoints").mkdir()
    command = parse([f"--workdir={best}"], Experiment)
    assert command.experiment == TOKENIZER and command.workdir == best
    with pytest.raises(BadInput, match="no .*bundle/config.json"):
        parse([f"--workdir={best.with_name('bundle')}"], Experiment)
    (best / "checkpoints").mkdir()  # a run of that name, which has its own
    with pytest.raises(BadInput, match="best is a bundle"):
        parse([f"--workdir={best}"], Experiment)


PROGRAMS_THAT_MEASURE = ("classifier", "evaluate", "page", "probe", "rates", "score")


@pytest.mark.parametrize("program", PROGRAMS_THAT_MEASURE)
def test_a_program_that_measures_says_what_is_overridden_for_nothing(
    program, tmp_path, capsys
):
    main = importlib.import_module(f"train.{program}").main
    lost = f"--{'out' if program == 'classifier' else 'workdir'}={tmp_path / 'a*/b'}"
    words = ["--config=demo_flow", lost, "--config.data.threads=0"]
    for more, said in (
        ([], ""),
        (
            ["--config.run.batch=8", "--config.model.depth=2"],
            "--config.run.batch, --config.model.depth: of training, and changes "
            "nothing of what is measured\n",
        ),
    ):
        with pytest.raises(BadInput):
            main([*words, "--config.data.name=gone", *more])
        assert capsys.readouterr().err == said


def test_a_program_without_experiment():
    command = parse(["--workdir=runs/demo", "--smoke"], None, FLAGS)
    assert command.experiment is None
    assert command.flags == {"smoke": True}
    with pytest.raises(BadInput, match="--config is no option; there are --workdir, "):
        parse(["--config=x.py"], None, FLAGS)


@pytest.mark.parametrize(
    "argv, message",
    [
        ("--confg=x.py", "--confg is no option; did you mean --config?"),
        ("--wrokdir x", "--wrokdir is no option; did you mean --workdir?"),
        ("--zzz", "--zzz is no option; there are --config, .* --per-class"),
        ("--coordinator=a:1", "--coordinator is no option"),
        ("--run.steps=3", "did you mean --config.run.steps?"),
        ("--model=x", "did you mean --config.model?"),
        ("--config_run=3", "write --config=FILE or --config.FIELD=VALUE"),
        ("file.py", "'file.py' is no option; there are --config, "),
        ("-f", "'-f' is no option"),
        ("--", "'--' is no option"),
        ("--config", "--config has no value; write --config=..."),
        ("--config --force", "--config has no value"),
        ("--label", "--label has no value; write --label=..."),
        ("--label=a", "--label: write a whole number, not 'a'"),
        ("--per-class=a", "--per-class: write a tuple of ints"),
        ("--force=maybe", "--force: write True or False, not 'maybe'"),
        ("--label=1 --label=1", "--label is given twice; write it once"),
        ("--force --force", "--force is given twice"),
        (
            "--config.run.steps=1 --config.run.steps=2",
            "--config.run.steps is given twice",
        ),
        ("--per-class=1, --per_class=2,", "--per_class is given twice"),
        ("--per-class=3,1,3", "--per-class: 3 is there twice; write it once"),
        ("--want=a,b,b", "--want: b is there twice; write it once"),
        ("--want=['a','a']", "--want: a is there twice"),
        ("--scales=(1,2.0,1.0)", "--scales: 1.0 is there twice"),
        ("--packages=a,a", "--packages: a is there twice"),
        ("--shown.a=1 --shown.a=2", "--shown.a is given twice"),
        ("--weights={'a':1,'b':2,'a':3}", "--weights: 'a' is there twice"),
        (
            "--config.run.step=3 --config FILE",
            "run.step does not exist; did you mean run.steps or kmeans.step?",
        ),
        ("--config.=3 --config FILE", "does not exist"),
        ("--config.run..steps=3 --config FILE", "does not exist"),
        ("", "which experiment? write --config=FILE, or --workdir=DIR of a run"),
        ("--config=FILE --workdir=", "--workdir=: write a value, or leave it out"),
        ("--workdir=nowhere", "there is no nowhere/config.json; write the workdir of"),
        (
            "--workdir=x --variant=same",
            "--variant is one of a config file; write --con",
        ),
        ("--config=nowhere.py", "there is no config file nowhere.py"),
    ],
)
def test_refusals(argv, message, file):
    message = message.replace("?", r"\?")
    with pytest.raises(BadInput, match=message) as caught:
        parse(argv.replace("FILE", file).split(), StageOne, FLAGS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("word", ["--given=3", "--given.=3", "--gven.a=3"])
def test_a_family_of_options_is_named_with_its_member(word):
    """--given. was answered with: did you mean --given.?"""
    flags = {"given.": (str, "a stream"), "label": (int, "the class")}
    with pytest.raises(BadInput, match=r" is no option; .*--given\.NAME\b"):
        parse([word], None, flags)


def test_the_config_of_the_other_stage_is_refused(file, tmp_path):
    with pytest.raises(BadInput, match="is a StageOne; write the config of a StageTwo"):
        parse([f"--config={file}"], StageTwo)
    open_workdir(tmp_path / "run", TOKENIZER)
    with pytest.raises(BadInput, match="is a StageOne; write the config of a StageTwo"):
        parse([f"--workdir={tmp_path / 'run'}"], StageTwo)


def test_help_lists_options_and_fields_that_can_be_typed_back(file, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["--help"], StageOne, FLAGS)
    assert not caught.value.code
    out = capsys.readouterr().out
    assert "--per-class=... " in out and "--config.run" not in out
    assert re.search(r"  --force +put another", out)
    # In a line below what is written, unless that is a word or nothing.
    space = " " * 26
    assert re.search(rf"  --per-class.*\n{space}a tuple of ints .*\n  --", out)
    assert re.search(r"  --out=... .*\n  --smoke .*\n  --per", out)
    assert "  --config.FIELD=... " in out and "--help also lists" in out
    with pytest.raises(SystemExit):
        parse(["--help"], None, FLAGS)
    assert "--config" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        parse(["--help", f"--config={file}", "--config.run.steps=77"], StageOne)
    lines = capsys.readouterr().out.splitlines()
    typed = [
        line.strip().removeprefix("--config.").partition("=")[::2]
        for line in lines
        if line.startswith("  --config.") and "..." not in line
    ]
    assert ("run.steps", "77") in typed
    assert dict(typed).keys() == leaves(TOKENIZER).keys()
    plain = {path: text.strip("'") for path, text in typed}
    same = overrides(TOKENIZER, plain | {"run.steps": "1000"})
    assert same == TOKENIZER


def test_help_says_what_fields_mean_and_take(capsys):
    with pytest.raises(SystemExit):
        parse(["--help", "--config=demo_tokenizer", "FILE"], StageOne, inputs=True)
    out = capsys.readouterr().out
    assert out.startswith("  FILE ...")
    assert max(map(len, out.splitlines())) <= 88
    below = out.split("  --config.run.keep=3\n")[1].split("  --config")[0]
    assert "checkpoints that stay" in below and "whole number, at least 1" in below
    below = out.split("  --config.run.wandb=")[1].split("  --config")[0]
    assert "for none" in below and "a text" not in below
    # What a parent's docstring says, and a word of a choice.
    below = out.split("  --config.optimizer.schedule=")[1].split("  --config")[0]
    assert "warm-up" in below and "one of constant, cosine" in " ".join(below.split())


def test_a_field_means_what_its_own_class_says_before_its_parents():
    class Parent:
        """A parent.

        steps: of the parent.
        rate, warmup: of both, and
            of more than a line.
        """

    class Child(Parent):
        """A child.

        steps: of the child.

            What is no field's.
        """

    both = "of both, and of more than a line."
    expected = {"steps": "of the child.", "rate": both, "warmup": both}
    assert meanings(Child) == expected
    assert meanings(Parent) == expected | {"steps": "of the parent."}


def test_a_number_as_it_is_meant(file):
    """1e3 steps are a thousand, one scale is a tuple of one, a,b are two texts."""
    flags = FLAGS | {"scales": (tuple[float, ...], ""), "only": (Names, "")}
    words = ["--config.run.steps=2e3", "--per-class=1e1", "--scales=2", "--only=a,b c"]
    command = parse([f"--config={file}", *words], StageOne, flags)
    assert command.experiment.run.steps == 2000
    assert type(command.experiment.run.steps) is int
    assert command.flags == {"per_class": (10,), "scales": (2.0,), "only": ("a", "b c")}
    for word in (
        "--label=1.5",
        "--label=1e400",
        "--per-class=0.5",
        "--label=True",
        "--only= ",
        "--only=()",
        "--only=a,a",
    ):
        with pytest.raises(BadInput, match="write (a|it once)"):
            parse([f"--config={file}", word], StageOne, flags)


@programs
def test_help_says_what_each_option_means(program, capsys):
    """In a line of its own that is no type's name; --workdir resumes where it does."""
    with pytest.raises(SystemExit) as caught:
        program.main(["--help"])
    assert not caught.value.code
    lines = [v for v in capsys.readouterr().out.splitlines() if v.startswith("  --")]
    assert lines
    for line in lines:
        option, meaning = re.fullmatch(r"  (--\S+) +(.*)", line).groups()
        assert len(meaning.split()) > 2 and len(line) <= 88, line
        assert not re.match(r"write |(a |an )?(text|number|whole number)$", meaning)
        if option == "--workdir=...":
            resumes = {"train.stage_one", "train.stage_two"}
            assert ("resumes" in meaning) == (program.__name__ in resumes)


def test_the_bench_lists_the_suites_flags_and_refuses_them_alone(file, capsys):
    for words in (["--help"], ["--help", "--suite"]):
        with pytest.raises(SystemExit):
            bench.main(words)
        out = capsys.readouterr().out
        assert "--minutes=..." in out and "--small" in out and "--repeats" in out
    with pytest.raises(BadInput, match="--small is of the suite: write --suite too"):
        bench.main([f"--config={file}", "--small"])
    with pytest.raises(BadInput, match="--repeats is no option"):
        bench.main(["--suite", "--repeats=3"])


@programs
def test_a_program_runs_on_several_processes_or_says_so(program, capsys, monkeypatch):
    with pytest.raises(SystemExit):
        program.main(["--help"])
    if "--coordinator=" in capsys.readouterr().out:
        return
    for names in (
        {"SLURM_STEP_NODELIST": "a,b", "SLURM_NTASKS": "2"},
        {"OMPI_MCA_orte_hnp_uri": "x", "OMPI_COMM_WORLD_SIZE": "2"},
        {"JAX_NUM_PROCESSES": "2"},
    ):
        with monkeypatch.context() as patch:
            for name, value in names.items():
                patch.setenv(name, value)
            with pytest.raises(BadInput, match="start it once"):
                program.main(["--workdir=gone"])


def unbounded(annotation) -> bool:
    """Whether a number of it may be none: nan and infinity are numbers to a parser."""
    kind, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if kind is typing.Annotated:
        held, *conditions = inner
        return held is not float and unbounded(held)
    return annotation is float or any(map(unbounded, inner))


@programs
def test_no_option_takes_what_is_no_number(program):
    flags = getattr(program, "FLAGS", {})
    assert [name for name, (kind, _) in flags.items() if unbounded(kind)] == []


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "1e999"])
def test_what_is_no_number_is_one_line(word, file):
    flags = RUN | {"guidance": (Finite, "its scale")}
    with pytest.raises(BadInput, match="guidance: write a number, finite") as refusal:
        parse(
            [f"--config={file}", "--workdir=run", f"--guidance={word}"],
            Experiment,
            flags,
        )
    assert "\n" not in str(refusal.value)


def unexplained(value, meaning=""):
    """Paths of the leaves of a value of which no docstring says a word."""
    # Without what may be written, of which an annotation that is Any says nothing.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(help, "expected", lambda annotation: "")
        return {at for at, _, words in help.described(value, Any, meaning) if not words}


def test_every_field_of_a_shipped_experiment_has_a_meaning():
    """Of what --help lists nothing is a bare name."""
    found = set()
    for path in SHIPPED.glob("[!_]*.py"):
        module = importlib.import_module(f"configs.{path.stem}")
        config = getattr(module, "CONFIG", None)
        changed = getattr(module, "VARIANTS", {}).values() if config else ()
        values = [
            v for each in changed if isinstance(each, dict) for v in each.values()
        ]
        for value in (config, *values) if config else ():
            paths = unexplained(value, "" if value is config else "its field's")
            found |= {f"{path.stem}: {at}" for at in paths}
    assert not found
