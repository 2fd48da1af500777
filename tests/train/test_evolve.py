"""An evolutionary search over an experiment's settings, and how it goes on."""

import functools
import json
from pathlib import Path

import pytest

from train import evolve
from train.config.search import Between
from train.config.workdir import open_workdir
from train.errors import BadInput
from train.modalities.files.writing import write
from train.runtime.checkpoint import SaveFailed
from train.runtime.launch import OutOfMemory
from train.runtime.lock import Taken
from train.runtime.window import TrainingDiverged
from vqdit import sealed

DEMO = f"--config={Path(__file__).parents[2] / 'configs' / 'demo_tokenizer.py'}"
BY = ["--config.run.best=-evaluation_psnr_db"]
BY += ["--config.run.evaluate=Reconstructions(100)"]
FEW = ["--population=3", "--tournament=2"]
NAMES = [f"{n:04d}" for n in range(6)]
# Of the demo's SPACE all but the width.
OTHERS = ["optimizer.peak_lr", "losses.quantizer.commit", "model.quantizer.decay"]
OTHERS = [f"--space.{path}=None" for path in OTHERS]


class Training:
    """In the place of stage one's: a figure that is a function of the settings."""

    def __init__(self, monkeypatch):
        self.folders, self.stop, self.fail = [], None, ()
        self.error = BadInput("the state of step 9 is\nnot finite")
        monkeypatch.setattr(evolve.stage_one, "train", self)

    def __call__(self, experiment, folder):
        open_workdir(folder, experiment)
        self.folders.append(folder.name)
        if folder.name == self.stop:
            raise KeyboardInterrupt
        if folder.name in self.fail:
            raise self.error
        dim = getattr(experiment.model.quantizer, "dim", 3)
        rate = experiment.optimizer.peak_lr
        note = {"figure": "evaluation_psnr_db", "value": 20 + dim - rate, "step": 300}
        if dim != 16:  # of which the figure is no number
            write(folder / "best.json", note)


@pytest.fixture
def training(monkeypatch):
    return Training(monkeypatch)


def search(workdir, *words, trials=6):
    evolve.main([DEMO, *BY, *FEW, f"--workdir={workdir}", f"--trials={trials}", *words])


def test_a_search_goes_on_where_it_was_stopped(training, tmp_path, capsys):
    search(tmp_path / "whole")
    assert training.folders == [f"{n:04d}" for n in range(6)]
    told = capsys.readouterr()
    training.stop, training.folders = "0004", []
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "again")
    training.stop = None
    search(tmp_path / "again")
    assert training.folders == ["0000", "0001", "0002", "0003", "0004", "0004", "0005"]
    names = ("search.json", "search.md", "search.png")
    for name in names:
        whole, again = (
            (tmp_path / at / name).read_bytes() for at in ("whole", "again")
        )
        assert whole == again
    # More trials go on from there; as many, or fewer, train nothing.
    training.folders = []
    search(tmp_path / "again", trials=8)
    search(tmp_path / "again", trials=2)
    assert training.folders == ["0006", "0007"]
    assert told.out == (tmp_path / "whole" / "search.md").read_text()


def test_the_table_has_the_best_first_and_says_how_to_train_it(
    training, tmp_path, capsys
):
    training.fail = ("0002",)
    search(tmp_path)
    first, _, *rows = (tmp_path / "search.md").read_text().splitlines()
    assert first == (
        "| trial | optimizer.peak_lr | losses.quantizer.commit | model.quantizer.decay "
        "| model.quantizer.dim | evaluation_psnr_db | at step |"
    )
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    there = [row for row in cells if row[6]]
    figures = [float(row[5]) for row in there]
    assert figures == sorted(figures, reverse=True) and {row[6] for row in there} == {
        "300"
    }
    for row in there:
        assert float(row[5]) == pytest.approx(
            20 + int(row[4]) - float(row[1]), abs=6e-3
        )
    (failed,) = [row for row in cells if row[0] == "2"]
    assert failed[5:] == ["the state of step 9 is not finite", ""]
    of_16 = [row[5] for row in cells if row[4] == "16" and row[0] != "2"]
    assert set(of_16) <= {"-evaluation_psnr_db was no number"}
    assert {row[0] for row in cells} == set("012345")
    base = next(row for row in cells if row[0] == "0")
    assert base[1:5] == ["0.003", "0.25", "0.95", "4"]  # as the file has it
    best = there[0]
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        f"the best is trial {int(best[0]):04d}: train.stage_one with the options of "
        f"this search and --config.optimizer.peak_lr={best[1]} "
        f"--config.losses.quantizer.commit={best[2]} "
        f"--config.model.quantizer.decay={best[3]} "
        f"--config.model.quantizer.dim={best[4]}"
    )


def test_each_trial_is_the_experiment_with_its_settings(training, tmp_path):
    space = ["--space.optimizer.peak_lr=Choice((0.001, 0.002, 0.004))"]
    search(tmp_path, "--config.run.seed=7", *space, trials=3)
    for n in range(3):
        config = json.loads((tmp_path / f"{n:04d}" / "config.json").read_text())[
            "fields"
        ]
        assert config["run"]["fields"]["seed"] == 7
        rate = config["optimizer"]["fields"]["peak_lr"]
        # What is written is in the place of the file's, which still says of the others.
        assert rate == 0.003 if n == 0 else rate in (0.001, 0.002, 0.004)
    decays = [
        json.loads((tmp_path / f"000{n}" / "config.json").read_text())["fields"][
            "model"
        ]["fields"]["quantizer"]["fields"]["decay"]
        for n in range(3)
    ]
    assert len(set(decays)) == 3


def test_what_the_first_trial_refuses_ends_the_search(training, tmp_path):
    training.fail = ("0000",)
    with pytest.raises(BadInput, match="the state of step 9 is not finite"):
        search(tmp_path)
    assert not (tmp_path / "search.json").exists()
    with pytest.raises(BadInput, match="-evaluation_psnr_db was no number"):
        training.fail = ()
        search(tmp_path / "other", "--config.model.quantizer.dim=16")


@pytest.mark.parametrize(
    "error, message",
    [
        (SaveFailed("step 9 is not saved"), "step 9 is not saved"),
        (Taken("another process is training"), "another process"),
        (FileNotFoundError(2, "No such file", "digits.npy"), "digits.npy"),
        (OSError(28, "No space left on device"), "No space left"),
        (BadInput("there are no digits"), "the digits are gone"),
    ],
)
def test_what_is_no_fault_of_the_settings_is_no_trial(
    training, tmp_path, monkeypatch, error, message
):
    """The same command trains it once there is room, or the data are back."""
    training.fail, training.error = ("0002",), error

    def gone(data, train):
        if train:
            return None
        raise BadInput("the digits are gone")

    with monkeypatch.context() as patched:
        patched.setattr(evolve, "open_examples", gone)
        with pytest.raises((BadInput, OSError), match=message):
            search(tmp_path / "again")
    training.fail = ()
    search(tmp_path / "again")
    assert training.folders == ["0000", "0001", "0002", "0002", *NAMES[3:]]
    search(tmp_path / "whole")
    whole, again = (
        (tmp_path / at / "search.json").read_bytes() for at in ("whole", "again")
    )
    assert whole == again


@pytest.mark.parametrize("kind", [TrainingDiverged, OutOfMemory])
def test_what_diverges_is_a_trial_whatever_became_of_the_data(
    training, tmp_path, monkeypatch, kind
):
    """Nor are they opened where a device is full."""
    monkeypatch.setattr(evolve, "open_examples", None)
    training.fail, training.error = ("0002",), kind("step 9 | nan")
    search(tmp_path)
    (row,) = [
        row
        for row in (tmp_path / "search.md").read_text().splitlines()
        if row.startswith("| 2 |")
    ]
    assert row.endswith(r" | step 9 \| nan |  |")


def test_a_figure_of_before_is_none_of_this_search(training, tmp_path):
    write(tmp_path / "0001" / "best.json", {"figure": "heldout_loss", "value": 9.0})
    words = ["--space.model.quantizer.dim=Choice((4, 16))"]
    search(tmp_path, *OTHERS, *words, trials=2)
    table = (tmp_path / "search.md").read_text().splitlines()
    assert table[0] == "| trial | model.quantizer.dim | evaluation_psnr_db | at step |"
    assert table[-1] == "| 1 | 16 | -evaluation_psnr_db was no number |  |"


def test_a_space_that_is_tried_ends_the_search(training, tmp_path, capsys):
    search(tmp_path, *OTHERS, trials=9)
    assert training.folders == NAMES[:4]  # 2, 4, 8 and 16
    told = capsys.readouterr()
    assert "4 trials are all there are: " in told.err
    assert "all settings of the space were tried" in told.err
    assert told.err.splitlines()[-1].endswith(" --config.model.quantizer.dim=8")
    assert len(told.out.splitlines()) == 2 + 4


@pytest.mark.parametrize(
    "words",
    [
        ["--config.run.best=evaluation_psnr_db", BY[1]],
        ["--config.run.best=heldout_loss", "--config.run.heldout_every=100", BY[1]],
        [BY[0], "--config.run.evaluate=Reconstructions(50)"],
        [*BY, "--config.run.steps=900"],
    ],
)
def test_figures_of_two_kinds_are_not_compared(training, tmp_path, words):
    search(tmp_path, trials=2)
    message = (
        r"has figures of another run\.(best|steps|evaluate|heldout_every).*: .* -> "
    )
    with pytest.raises(BadInput, match=f"{message}.*; write another workdir"):
        evolve.main([DEMO, *words, *FEW, f"--workdir={tmp_path}"])
    assert training.folders == ["0000", "0001"]


MINE = """
import mine_of_evolve
from configs.demo_tokenizer import CONFIG
from train.config import Choice
from vqdit.quantizers import FSQ

class Here(FSQ):
    pass

SPACE = {"model.quantizer": Choice((FSQ(levels=(4, 4)), WHERE(levels=(4, 4, 4))))}
"""


def test_settings_may_be_of_classes_of_ones_own(training, tmp_path, monkeypatch):
    (tmp_path / "mine_of_evolve.py").write_text(
        "from vqdit.quantizers import FSQ\n\nclass Mine(FSQ):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "config.py"
    path.write_text(MINE.replace("WHERE", "mine_of_evolve.Mine"))
    words = [f"--config={path}", *BY, "--population=2", "--tournament=1"]
    for trials in (1, 2, 3):
        evolve.main([*words, f"--workdir={tmp_path / 'x'}", f"--trials={trials}"])
    assert training.folders == NAMES[:3]
    table = (tmp_path / "x" / "search.md").read_text()
    assert "| FSQ(levels=(4, 4)) |" in table and "| Mine(levels=(4, 4, 4)) |" in table
    # One that no file can name is refused before hours of training.
    path.write_text(MINE.replace("WHERE", "Here"))
    with pytest.raises(BadInput, match="space.model.quantizer: options.1 is a .*Here"):
        evolve.main([*words, f"--workdir={tmp_path / 'y'}"])
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize(
    "trials",
    [
        [],
        [{"settings": [], "value": 1.0}],
        [{"settings": {"dict": {}}, "value": "much"}],
        [{"settings": {"dict": {}}, "value": None}],
        [{"settings": {"dict": {}}, "value": 1.0, "step": -1}],
        [{"settings": {"dict": {}}, "value": 1.0, "failed": 3}],
        [{"settings": functools.reduce(lambda x, _: [x], range(900), [])}],
        [7],
    ],
)
def test_a_file_of_anything_is_refused(training, tmp_path, trials):
    search(tmp_path, trials=1)
    path = tmp_path / "search.json"
    content = sealed.opened(json.loads(path.read_text()))
    content["trials"] = [
        {"class": "train.config.search.Trial", "fields": each} for each in trials
    ]
    path.write_text(json.dumps(sealed.sealed(content)))
    with pytest.raises(BadInput, match="search.json: .*; move it away"):
        search(tmp_path)
    assert training.folders == ["0000"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--seed=1"], "is of another search"),
        (["--population=4"], "is of another search"),
        (["--space.optimizer.ema=Between(0.9, 0.99)"], "is of another search"),
        (["--config.run.batch=32"], r"another experiment, .*run.batch: 64 -> 32"),
    ],
)
def test_a_folder_is_of_one_search(training, tmp_path, words, message):
    search(tmp_path, trials=2)
    before = (tmp_path / "search.json").read_bytes()
    flags = [
        word for word in FEW if word.partition("=")[0] != words[0].partition("=")[0]
    ]
    with pytest.raises(BadInput, match=f"{message}.*; write another workdir"):
        evolve.main([DEMO, *BY, *flags, f"--workdir={tmp_path}", *words])
    assert (tmp_path / "search.json").read_bytes() == before
    # What says nothing of what is computed may be another.
    search(tmp_path, "--config.run.log_every=7", trials=3)


def test_a_file_that_was_changed_is_refused(training, tmp_path):
    search(tmp_path, trials=2)
    path = tmp_path / "search.json"
    whole = path.read_text()
    for text in (whole.replace("300", "301"), "[]", '{"trials": []}', "{", ""):
        path.write_text(text)
        with pytest.raises(BadInput, match="search.json: .*; move it away"):
            search(tmp_path)
    assert training.folders == ["0000", "0001"]


@pytest.mark.parametrize(
    "words, message",
    [
        ([DEMO, "--workdir=x"], "run.best='': write the figure that settings"),
        (BY, "write --config=FILE, whose settings are searched|there is no"),
        ([DEMO, *BY], "write --workdir=..., the folder of all trials"),
        ([DEMO, "--config.run.best=-evaluation_psnr_db"], "run.evaluate"),
        ([DEMO, *BY, "--space.model.dept=Between(1, 2)"], "model.dept does not exist"),
        ([DEMO, *BY, "--space.optimizer.ema=Between(0.5, 1.5)"], "optimizer.ema"),
        (
            [DEMO, *BY, "--space.run.log_every=Between(1, 9)"],
            "run.log_every says nothing",
        ),
        ([DEMO, *BY, "--space.optimizer.ema=Choice((0.9,))"], "write two values"),
        (
            [
                DEMO,
                *BY,
                "--space.model.quantizer=Choice((FSQ(levels=(4, 4)), "
                "EMAVectorQuantizer(num_codes=8, dim=4)))",
            ],
            r"model.quantizer.(decay|dim) does not exist",
        ),
        ([DEMO, *BY, "--space.optimizer.ema=None"], "SPACE has it not"),
        ([DEMO, *BY, "--space.name=Choice(('a', 'b'))"], "name says nothing"),
        ([DEMO, *BY, "--population=4", "--tournament=5"], "at most population=4"),
    ],
)
def test_what_cannot_be_searched_is_refused(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = "--workdir=x" in words or "write --workdir" in message
    with pytest.raises(BadInput, match=message):
        evolve.main(words if given else [*words, "--workdir=x"])
    assert not list(tmp_path.iterdir())


def test_a_file_says_where_it_is_looked(tmp_path):
    path = tmp_path / "mine.py"
    head = (
        "from configs.demo_tokenizer import CONFIG\nfrom train.config import Between\n"
    )
    path.write_text(head)
    with pytest.raises(BadInput, match="mine.py has no SPACE; write one, or the range"):
        evolve.main([f"--config={path}", *BY, f"--workdir={tmp_path / 'x'}"])
    for wrong in ("['optimizer.peak_lr']", "{'optimizer.peak_lr': 3}", "3"):
        path.write_text(f"{head}SPACE = {wrong}\n")
        with pytest.raises(BadInput, match="mine.py: SPACE is of fields, such as"):
            evolve.space_of(path)
    path.write_text(f"{head}SPACE = {{'optimizer.ema': Between(0.5, 0.9)}}\n")
    assert evolve.space_of(path) == {"optimizer.ema": Between(0.5, 0.9)}


def test_another_search_in_the_folder_is_kept_out(training, tmp_path):
    with evolve.locked(tmp_path), pytest.raises(BadInput, match="another process"):
        search(tmp_path)
    assert not training.folders


def test_settings_that_do_not_go_together_are_drawn_again(training, tmp_path):
    """Of four heads and widths of which some have no whole share."""
    flow = str(Path(DEMO.partition("=")[2]).with_name("demo_flow.py"))
    words = [f"--config={flow}", "--config.run.best=heldout_loss"]
    words += ["--config.run.heldout_every=100", "--workdir=x"]
    words += ["--config.streams.image.tokenizer=tok"]
    words += ["--space.model.block.heads=Choice((2, 3, 4, 5, 7, 8))"]
    found = evolve.search_of(evolve.parse(words, evolve.Experiment, evolve.FLAGS))
    assert (found.sign, found.figure) == (1, "heldout_loss")
    width = found.experiment.model.width
    base = [evolve.Trial(evolve.held_by(found.experiment, found.space), 1.0)]
    heads = {
        found.evolution.following(base * n, found.space, 1, found.trial)[
            "model.block.heads"
        ]
        for n in range(1, 9)
    }
    assert len(heads) > 1 and all(width % each == 0 for each in heads)


def test_a_search_of_stage_two_goes_on_after_a_failure(tmp_path, monkeypatch):
    """Where its tokenizer is there: else the failure may be of that."""
    flow = str(Path(DEMO.partition("=")[2]).with_name("demo_flow.py"))
    words = [f"--config={flow}", "--config.run.best=heldout_loss", *FEW]
    words += ["--config.run.heldout_every=100", f"--workdir={tmp_path}"]
    words += ["--config.streams.image.tokenizer=tok"]
    words += ["--space.optimizer.peak_lr=Between(1e-4, 1e-2, log=True)"]
    folders, failing = [], ["0001"]

    def train(experiment, folder):
        open_workdir(folder, experiment)
        folders.append(folder.name)
        if folder.name in failing:
            raise BadInput("it does not fit")
        rate = experiment.optimizer.peak_lr
        note = {"figure": "heldout_loss", "value": rate, "step": 100}
        write(folder / "best.json", note)

    monkeypatch.setattr(evolve.stage_two, "train", train)
    with pytest.raises(BadInput, match="image.tokenizer: tok: no bundle here"):
        evolve.main([*words, "--trials=4"])
    monkeypatch.setattr(evolve, "prepare", lambda experiment: None)
    evolve.main([*words, "--trials=4"])
    assert folders == ["0000", "0001", "0001", "0002", "0003"]
    assert "| it does not fit |" in (tmp_path / "search.md").read_text()
    failing.clear()
    evolve.main([*words, "--trials=5"])
    assert folders[5:] == ["0004"]  # what has failed is not trained again


@pytest.mark.slow
def test_two_real_trials_and_the_best_can_be_opened(tmp_path):
    from vqdit.trained import load

    short = ["--config.run.steps=4", "--config.run.batch=16", "--config.kmeans.step=2"]
    short += ["--config.kmeans.samples=512", "--config.optimizer.warmup=1"]
    short += ["--population=2", "--tournament=1", "--trials=2"]
    words = [DEMO, BY[0], "--config.run.evaluate=Reconstructions(2)", *short]
    evolve.main([*words, f"--workdir={tmp_path}"])
    for n in range(2):
        note = json.loads((tmp_path / f"000{n}" / "best.json").read_text())
        assert note["figure"] == "evaluation_psnr_db" and note["step"] in (2, 4)
        assert load(tmp_path / f"000{n}" / "best").contract.kind == "image"
    rows = (tmp_path / "search.md").read_text().splitlines()[2:]
    assert len(rows) == 2
