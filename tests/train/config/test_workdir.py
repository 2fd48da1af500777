"""A folder belongs to one experiment; nothing in it is lost by taking it over."""

import dataclasses
import json
import os

import pytest

from tests.train.experiments import JOINT, TOKENIZER
from train.config import Ramp, Weights
from train.config.override import overrides, replaced
from train.config.workdir import LEFT, begun, open_workdir, read_config, save_config
from train.errors import BadInput
from vqdit.tokenizer import Labels


@pytest.mark.parametrize("experiment", [TOKENIZER, JOINT], ids=lambda e: e.name)
def test_config_json_round_trips(experiment, tmp_path):
    save_config(experiment, tmp_path / "config.json")
    assert read_config(tmp_path / "config.json") == experiment
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("steps, entropy", [(0, 0.3), (5, Ramp(0.3, 0.1, 5))])
def test_weights_that_were_a_field_each_are_the_same_experiment(
    steps, entropy, tmp_path
):
    """As version 0.1.0 wrote them; the run is continued."""
    path = tmp_path / "config.json"
    changes = {"commit": 0.5, "entropy": entropy}
    now = replaced(TOKENIZER, {"losses": Weights("l1", quantizer=changes)})
    save_config(now, path)
    old = json.loads(path.read_text())
    fields = old["fields"]["losses"]["fields"]
    del fields["quantizer"]
    fields |= {"commit": 0.5, "codebook": 1.0, "kl": 1e-6, "orthogonal": 10.0}
    fields |= {"entropy": 0.3, "entropy_end": 0.1, "entropy_steps": steps}
    path.write_text(json.dumps(old))
    assert read_config(path) == now
    open_workdir(tmp_path, now)
    before = dict(fields)
    Weights.upgraded(fields)
    assert fields == before


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(call, tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    save_config(TOKENIZER, path)

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="no space"):
        save_config(JOINT, path)
    assert read_config(path) == TOKENIZER
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "config.json cannot be read"),
        ('{"class": "train.config.St', "config.json cannot be read"),
        ("[" * 100_000, "config.json cannot be read"),
        ("3", "config.json holds a int, which is no experiment"),
        ('{"class": "os.system", "fields": {}}', "'os.system' is not a dataclass"),
        (
            '{"class": "train.config.Run", "fields": {"steps": 1}}',
            "needs the field batch",
        ),
    ],
    ids=range(6),
)
def test_a_damaged_config_json_is_refused(text, message, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        read_config(path)


def test_a_folder_without_a_run_says_what_to_write(tmp_path):
    with pytest.raises(BadInput, match="there is no .*config.json; write the workdir"):
        read_config(tmp_path / "config.json")


def test_a_new_folder_is_created_and_the_same_experiment_resumes(tmp_path):
    folder = tmp_path / "runs" / "a"
    assert open_workdir(str(folder), TOKENIZER) == folder
    (folder / "checkpoints").mkdir()
    longer = {
        "run.steps": "2000",
        "run.save_every": "7",
        "mesh.fsdp": "2",
        "data.threads": "1",
        "name": "other",
    }
    changed = overrides(TOKENIZER, longer)
    open_workdir(folder, changed)
    assert (folder / "checkpoints").exists()
    # Whether the run goes on is not known yet.
    assert read_config(folder / "config.json") == TOKENIZER
    open_workdir(folder, changed, force=True)
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints",
        "config.json",
    ]


@pytest.mark.parametrize("part", ["schedule='cosine'", "cooldown=5"])
def test_rates_that_fall_to_an_end_take_a_word_for_another(part, tmp_path):
    name, _, value = part.partition("=")
    falling = overrides(TOKENIZER, {f"optimizer.{name}": value.strip("'")})
    for _ in range(2):  # the same goes on without it
        open_workdir(tmp_path, falling)
    for steps in ("2000", "500"):  # one that ends before falls sooner
        other = overrides(falling, {"run.steps": steps})
        with pytest.raises(BadInput, match="run.steps=1000, where .*--reschedule"):
            open_workdir(tmp_path, other)
    open_workdir(tmp_path, other, reschedule=True)


@pytest.mark.parametrize("name", LEFT)
def test_what_a_run_would_write_over_is_refused_at_once(name, tmp_path):
    """A file in a folder's place and a folder in a file's; with --force, too."""
    there = tmp_path / name
    there.mkdir() if "." in name else there.write_text("notes")
    # These two by themselves make it another run's, and are moved aside.
    for force in {False, name not in ("checkpoints", "config.json")}:
        with pytest.raises(BadInput, match=f"{name} is a .* is written there; remove"):
            open_workdir(tmp_path, TOKENIZER, force, write=False)
        assert [*os.listdir(tmp_path)] == [name]


def test_a_bundle_with_notes_beside_it_is_refused_at_once(tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "notes.txt").write_text("")
    with pytest.raises(BadInput, match="--workdir: .*delete best/notes.txt; move"):
        open_workdir(tmp_path, TOKENIZER, write=False)


def test_what_a_machine_needs_may_change(tmp_path):
    open_workdir(tmp_path, JOINT)
    texts = {"model.remat": "whole", "model.block.implementation": "plain"}
    texts["streams.text.solver"] = "Confidence()"
    changed = overrides(JOINT, texts)
    open_workdir(tmp_path, changed)
    # A part of it as well as the whole.
    open_workdir(tmp_path, overrides(changed, {"streams.text.solver.noise": "0.5"}))
    with pytest.raises(BadInput, match=r"model.block.qk_norm: None -> 'rms'"):
        open_workdir(tmp_path, overrides(JOINT, {"model.block.qk_norm": "rms"}))
    recomputed = {f"model.{part}.remat": "whole" for part in ("encoder", "decoder")}
    recomputed |= {"model.encoder.implementation": "plain"}
    open_workdir(tmp_path / "tok", TOKENIZER)
    open_workdir(tmp_path / "tok", overrides(TOKENIZER, recomputed))


def test_what_is_compared_by_its_content_may_lie_elsewhere(tmp_path):
    """And what is not, where another path leads to the same place; not what has no path
    any more. By --force the folder is taken over."""
    paths = {"streams.image.tokenizer": "runs/tok", "cache": "runs/cache"}
    there = replaced(JOINT, paths | {"init": "runs/old", "data.data_dir": "a"})
    open_workdir(tmp_path, there)
    elsewhere = {at: f"../{path}" for at, path in paths.items()}
    moved = replaced(there, elsewhere | {"data.data_dir": "/b"})
    open_workdir(tmp_path, moved)
    open_workdir(
        tmp_path, replaced(moved, {"init": os.path.abspath("runs/../runs/old")})
    )
    other = {"init": "../runs/old", "streams.image.tokenizer": Labels(10)}
    for at, value in (other | {"cache": None, "data.test_split": "./test"}).items():
        with pytest.raises(BadInput, match=rf"another experiment, .* \({at}: ") as e:
            open_workdir(tmp_path, replaced(moved, {at: value}))
        paths_differ = at != "data.test_split"
        assert ("leave a link where it was; write" in str(e.value)) == paths_differ
    open_workdir(tmp_path, moved, force=True)
    assert (tmp_path / "config.json.replaced-1").exists()
    assert read_config(tmp_path / "config.json") == moved


def test_another_experiment_is_refused_with_what_differs(tmp_path):
    open_workdir(tmp_path, TOKENIZER)
    texts = {
        "run.batch": "32",
        "run.steps": "2000",
        "model.quantizer": "FSQ(levels=(5, 4))",
        "optimizer.clip": "None",
    }
    other = overrides(TOKENIZER, texts)
    with pytest.raises(BadInput) as caught:
        open_workdir(tmp_path, other)
    line = str(caught.value)
    assert "\n" not in line
    assert "another experiment, 'tokenizer' (" in line
    assert "run.batch: 16 -> 32" in line
    assert "optimizer.clip: 1.0 -> None" in line
    assert "VectorQuantizer(num_codes=16, dim=4, start='kmeans') -> FSQ(levels=" in line
    assert "--force" in line and "another --workdir" in line
    assert "run.steps" not in line  # may differ
    assert read_config(tmp_path / "config.json") == TOKENIZER


def test_many_differences_are_counted(tmp_path):
    open_workdir(tmp_path, TOKENIZER)
    rates = {
        "peak_lr": "1",
        "warmup": "1",
        "b1": "0",
        "b2": "0",
        "clip": "2",
        "ema": "0",
    }
    texts = {f"optimizer.{name}": text for name, text in rates.items()}
    texts |= {f"losses.quantizer.{name}": "2" for name in ("commit", "codebook", "kl")}
    with pytest.raises(BadInput, match=r" and 1 more\);"):
        open_workdir(tmp_path, overrides(TOKENIZER, texts))


def test_the_other_stage_is_refused(tmp_path):
    open_workdir(tmp_path, TOKENIZER)
    with pytest.raises(
        BadInput, match="belongs to a StageOne, 'tokenizer'; write --fo"
    ):
        open_workdir(tmp_path, JOINT)


def test_force_moves_everything_aside(tmp_path):
    other = overrides(TOKENIZER, {"run.batch": "32"})
    last = overrides(TOKENIZER, {"run.batch": "64"})
    for experiment in (TOKENIZER, other, last):
        open_workdir(tmp_path, experiment, force=True)
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "of").write_text(str(experiment.run.batch))
        (tmp_path / "metrics.jsonl").write_text(str(experiment.run.batch))
        (tmp_path / "metrics.replaced.jsonl").write_text(str(experiment.run.batch))
    for n, experiment in ((1, TOKENIZER), (2, other)):
        batch = str(experiment.run.batch)
        assert (tmp_path / f"checkpoints.replaced-{n}" / "of").read_text() == batch
        assert (tmp_path / f"metrics.jsonl.replaced-{n}").read_text() == batch
        kept = tmp_path / f"metrics.replaced.jsonl.replaced-{n}"
        assert kept.read_text() == batch
        assert read_config(tmp_path / f"config.json.replaced-{n}") == experiment
    assert read_config(tmp_path / "config.json") == last


@pytest.mark.parametrize(
    "name",
    "bundle best best.json samples tensorboard statistics.json evaluation.json "
    "scores.csv scores.json report.html".split(),
)
def test_nothing_that_a_run_would_go_on_with_stays_under_another(name, tmp_path):
    """Best of all would stay what the other run's figure once was."""
    open_workdir(tmp_path, TOKENIZER)
    path = tmp_path / name
    path.write_text("of the first") if "." in name else path.mkdir()
    open_workdir(tmp_path, TOKENIZER, force=True)  # the same goes on
    assert (tmp_path / name).exists()
    open_workdir(tmp_path, overrides(TOKENIZER, {"run.batch": "32"}), force=True)
    assert not (tmp_path / name).exists()
    aside = tmp_path / f"{name}.replaced-1"
    assert aside.is_dir() or aside.read_text() == "of the first"


def test_checkpoints_of_nobody_knows_whom_are_not_resumed(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(BadInput, match="checkpoints but no config.json; write --force"):
        open_workdir(tmp_path, TOKENIZER)
    open_workdir(tmp_path, TOKENIZER, force=True)
    assert (tmp_path / "checkpoints.replaced-1").exists()


def test_a_bundle_is_no_workdir_and_is_called_so(tmp_path):
    (tmp_path / "config.json").write_text('{"kind": "tokenizer", "module": {}}')
    with pytest.raises(BadInput, match="is a bundle.*; write the workdir of its run"):
        read_config(tmp_path / "config.json")


def test_an_unreadable_config_json_needs_force_too(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read.*; write --force"):
        open_workdir(tmp_path, TOKENIZER)
    open_workdir(tmp_path, TOKENIZER, force=True)
    assert (tmp_path / "config.json.replaced-1").read_text() == "{"
    assert read_config(tmp_path / "config.json") == TOKENIZER


def test_other_processes_compare_and_write_nothing(tmp_path):
    folder = tmp_path / "new"
    open_workdir(folder, TOKENIZER, write=False)
    assert not folder.exists()
    open_workdir(folder, TOKENIZER)
    with pytest.raises(BadInput, match="another experiment"):
        open_workdir(folder, overrides(TOKENIZER, {"run.seed": "1"}), write=False)


def test_what_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="file is a file; write a folder"):
        open_workdir(tmp_path / "file", TOKENIZER)
    with pytest.raises(BadInput, match="cannot be written"):
        open_workdir(tmp_path / "file" / "inside", TOKENIZER)
    for nothing in (None, ""):
        with pytest.raises(BadInput, match="write --workdir=DIR"):
            open_workdir(nothing, TOKENIZER)


@pytest.mark.parametrize("name", ["metrics.jsonl", "statistics.json", "best.json"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_where_a_run_has_one(name, make, tmp_path):
    """A pipe was waited for without an end, a folder found out in the middle."""
    open_workdir(tmp_path, TOKENIZER)
    make(tmp_path / name)
    with pytest.raises(
        BadInput, match=f"{name} is a (pipe|folder), and a file is written"
    ):
        open_workdir(tmp_path, TOKENIZER)
    other = overrides(TOKENIZER, {"run.seed": "1"})
    open_workdir(tmp_path, other, force=True)  # which moves all aside
    assert not (tmp_path / name).exists()
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(
        BadInput, match="checkpoints is a file, and a folder is written"
    ):
        open_workdir(tmp_path, other)


def test_a_link_to_nowhere_is_told_as_one(tmp_path):
    (tmp_path / "link").symlink_to("gone")
    with pytest.raises(BadInput, match="link is a link to gone, which is not there"):
        open_workdir(tmp_path / "link", TOKENIZER)


@pytest.mark.parametrize("name", ["lr[1e-3]", "a*", "a?", "back\\slash", "\udcff"])
def test_a_path_that_no_checkpoint_is_read_back_from_is_refused(name, tmp_path):
    with pytest.raises(BadInput, match=r"one of \* \? \[ \\, or .*; rename it"):
        open_workdir(tmp_path / name, TOKENIZER)
    assert not any(tmp_path.iterdir())
    (tmp_path / name).mkdir()
    link = tmp_path / "link"  # Orbax is given where it leads
    link.symlink_to(tmp_path / name)
    with pytest.raises(BadInput, match="rename it"):
        open_workdir(link, TOKENIZER)
    plain = open_workdir(tmp_path / "größe 100% #1", TOKENIZER)
    (plain / "checkpoints").symlink_to(tmp_path / name)
    with pytest.raises(BadInput, match="rename it"):
        open_workdir(plain, TOKENIZER)


def test_the_order_of_streams_and_of_their_data_is_part_of_an_experiment(tmp_path):
    """Resumed in another, each stream had the row of another one in the model."""
    names = ("image", "text")
    both = dataclasses.replace(JOINT, data=dict.fromkeys(names, JOINT.data))
    open_workdir(tmp_path, both)
    open_workdir(tmp_path, both)
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    assert begun(tmp_path, both, False) == 5
    for at in ("streams", "data"):
        turned = {name: getattr(both, at)[name] for name in reversed(names)}
        other = dataclasses.replace(both, **{at: turned})
        line = f"another experiment, 'joint' .the order of {at}: image, text -> text, i"
        with pytest.raises(BadInput, match=line):
            open_workdir(tmp_path, other)
        assert begun(tmp_path, other, False) is None
        assert list(getattr(read_config(tmp_path / "config.json"), at)) == [*names]


def test_config_json_is_plain_json_with_the_classes_in_it(tmp_path):
    save_config(dataclasses.replace(JOINT, name="é"), tmp_path / "config.json")
    data = json.loads((tmp_path / "config.json").read_text())
    assert data["class"] == "train.StageTwo"
    assert data["fields"]["model"]["class"] == "vqdit.DiT"


def test_what_an_experiment_has_begun_is_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # which no folder given is not
    open_workdir(tmp_path, TOKENIZER)
    assert begun(tmp_path, TOKENIZER, False) is None
    for name in ("5", "20", "30.tmp"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert begun(tmp_path, TOKENIZER, False) == 20
    assert begun(None, TOKENIZER, False) is begun("", TOKENIZER, False) is None
    assert begun(tmp_path, replaced(TOKENIZER, {"run.seed": 3}), False) is None


def test_rates_of_a_discriminator_may_end_with_the_run_too(tmp_path):
    game = "Adversarial(PatchDiscriminator(8,1),optimizer=AdamW(schedule='cosine'))"
    falling = overrides(TOKENIZER, {"adversarial": game})
    assert falling.adversarial.optimizer.ends and not falling.optimizer.ends
    open_workdir(tmp_path, falling)
    longer = overrides(falling, {"run.steps": "2000"})
    with pytest.raises(BadInput, match="run.steps=1000, where .*--reschedule"):
        open_workdir(tmp_path, longer)
    level = {"adversarial.optimizer.schedule": "constant"}
    open_workdir(tmp_path / "level", overrides(falling, level))
    open_workdir(tmp_path / "level", overrides(longer, level))
