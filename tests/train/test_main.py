"""All programs under one command."""

import importlib
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tomllib

import pytest

import train
import vqdit
from train import __main__, encode, errors, progress
from train.__main__ import main, programs
from train.errors import BadInput

ROOT = pathlib.Path(__file__).parents[2]


BESIDE = ("errors", "progress")  # what all programs use


def test_it_lists_all_programs(capsys):
    main([])
    out = capsys.readouterr().out
    for path in (ROOT / "train").glob("*.py"):
        program = path.stem not in ("__init__", "__main__", *BESIDE)
        assert (f"\n  {path.stem.replace('_', '-')} " in out) == program
    assert all(programs().values())


def test_each_program_has_a_line(capsys):
    said = []
    for words in ([], ["--help"], ["-h"]):
        main(words)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] == said[2]
    head, rest = said[0].split("\n\n", 1)
    assert head == "All programs under one command, from any folder."
    lines = [line for line in rest.splitlines() if line.startswith("  ")]
    assert lines == sorted(lines)
    own = "A data set to a latent cache, with the latent contract beside it."
    assert f"  encode        {own}" in lines
    assert (
        "  stage-one     Stage one: a tokenizer learns to rebuild its signal." in lines
    )


@pytest.mark.parametrize("name", [each.replace("-", "_") for each in programs()])
def test_each_program_runs_as_a_module(name, monkeypatch, capsys):
    """`python -m train.NAME`, as README writes it."""
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.delitem(sys.modules, f"train.{name}", raising=False)
    with pytest.raises(SystemExit) as left:
        runpy.run_module(f"train.{name}", run_name="__main__")
    assert not left.value.code
    assert "  --" in capsys.readouterr().out


def test_the_words_after_its_name_are_the_programs(monkeypatch, capsys):
    called = []
    monkeypatch.setattr(__main__, "run", lambda *of: called.append(of))
    main(["encode", "--out=x", "--help"])
    main(["stage_one"])
    monkeypatch.setattr(sys, "argv", ["vqdit", "stage-one", "--a"])
    main()
    main(["nothing", "--a"])
    program = train.stage_one.main
    assert called == [
        (encode.main, ["--out=x", "--help"]),
        (program, []),
        (program, ["--a"]),
        (__main__._unknown, ["nothing"]),
    ]
    assert capsys.readouterr().out == ""
    main(["--version"])
    assert capsys.readouterr().out == f"{vqdit.__version__}\n"
    assert len(called) == 4


@pytest.mark.parametrize(
    "called, words",
    [("/usr/bin/vqdit", "vqdit stage-one"), ("-m", "python -m train.stage_one")],
)
def test_commands_are_those_of_who_is_told(called, words, monkeypatch, capsys):
    """Beside the file that shadows ours `python -m train.X` would be the user's."""
    monkeypatch.setattr(sys, "argv", [called])

    def refuse(argv):
        raise BadInput("no tokenizer; write python -m train.stage_one --workdir=a")

    progress.say("go on with python -m train.stage_one --workdir=a")
    with pytest.raises(SystemExit):
        errors.run(refuse, [])
    with pytest.raises(SystemExit):
        errors.run(train.stage_one.main, ["--help"])
    found = capsys.readouterr()
    assert found.err == (
        f"go on with {words} --workdir=a\n"
        f"error: no tokenizer; write {words} --workdir=a\n"
    )
    assert f"\n{words} --config=configs/" in found.out


def test_classes_of_the_rooms_are_names_of_train():
    """And no function of theirs: a file that is stored names classes."""
    from train.config import StageOne
    from train.modalities import Images

    assert (train.Images, train.StageOne) == (Images, StageOne)
    names = dir(train)
    assert {"Images", "StageOne", "AdamW", "Cleaning"} <= {*names}
    assert "load_config" not in names
    for name in ("load_config", "Picture"):
        with pytest.raises(AttributeError, match=f"train has no '{name}'"):
            getattr(train, name)


def test_a_misspelt_program_is_told_the_nearest(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["stage-ones"])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error == "error: 'stage-ones' is no program; did you mean stage-one?\n"


@pytest.mark.parametrize(
    "name",
    [
        *("ablate", "bench", "compress", "decompress", "demo"),
        *("inspect", "page", "rates", "sample", "score"),
    ],
)
def test_a_program_for_one_process_refuses_several(name, monkeypatch):
    """Before all else that may be wrong."""
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    with pytest.raises(BadInput, match="^this program is for one process, and several"):
        importlib.import_module(f"train.{name}").main([])


def test_the_command_runs_from_a_folder_with_files_of_our_names(tmp_path):
    """As installed: its own folder goes before all others, and the user's nowhere."""
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = entry["vqdit"].split(":")
    script = tmp_path / "bin" / "vqdit"
    script.parent.mkdir()
    script.write_text(f"from {module} import {function}\n{function}()\n")
    (tmp_path / "train.py").write_text("raise SystemExit('the wrong train')")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("raise SystemExit('wrong')")
    found = subprocess.run(
        [sys.executable, script, "stage_two", "--config=imagenet_dit", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert not found.returncode, found.stderr
    assert found.stdout.startswith("Stage two: ")
    assert "--config.model.width=1152\n" in found.stdout


INTERRUPTED = """
import os, runpy, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)

class Finder:
    def find_spec(self, name, *_):
        if name == "jax":
            os.kill(os.getpid(), number)

sys.meta_path.insert(0, Finder())
number = int(sys.argv[2])
sys.argv[:] = [sys.argv[1], "--help"]
name = "train.stage_one" if sys.argv[0] == "-m" else "train"
runpy.run_module(name, None, "__main__")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("called", ["-m", "/usr/bin/vqdit"])
def test_an_import_that_is_interrupted_is_one_line(called, number):
    """Wherever it is: nothing has begun, and imports take seconds."""
    words = [sys.executable, "-c", INTERRUPTED, called, str(int(number))]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    said = f"stopped by {number.name}\n"
    assert (done.returncode, done.stderr) == (128 + number, said)
