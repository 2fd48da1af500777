"""A table of the user's own, trained on, scored, completed, cached and resumed."""

import csv
import dataclasses

import numpy as np
import pytest

import vqdit
from train import sample, score, stage_two
from train.codec.examples import _rows
from train.config import Run, StageTwo, Stream, replaced
from train.errors import BadInput
from train.modalities import Tables, Volumes
from train.objectives.latents import encode_streams, refuse_still
from train.objectives.streams import prepare
from train.pipeline import JointExamples, open_examples
from train.pipeline.statistics import records_of
from train.pipeline.streams import settled
from vqdit.diffusion import Case, Masking, Mixture, Scattered, Unmask
from vqdit.dit import DiT
from vqdit.nn import Block
from vqdit.tokenizer import Labels, Table


def experiment_of(path, **fields):
    data = Tables(data_dir=str(path), label="kind", threads=0)
    return StageTwo(
        name="own_table",
        data=data,
        model=DiT(width=16, depth=1, block=Block(2)),
        streams={
            "record": Stream(Masking(), Table(bins=4)),
            "kind": Stream(Masking(), Labels(2)),
        },
        mixture=Mixture((Case(given=0.5), Case(parts={"record": Scattered()}))),
        run=Run(steps=2, batch=8, save_every=2, log_every=1),
        **fields,
    )


def table_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture
def path(tmp_path):
    draw = np.random.default_rng(0)
    rows = [
        f"{'' if i % 4 == 0 else round(x, 2)},{'fm'[i % 2]},{'ab'[i % 2]}"
        for i, x in enumerate(draw.normal(50, 9, 60))
    ]
    (tmp_path / "own.csv").write_text("\n".join(["age,sex,kind", *rows]) + "\n")
    return tmp_path / "own.csv"


def test_bins_are_settled_by_the_training_part_and_known_is_said_by_place(path):
    streams = prepare(experiment_of(path))
    table = streams.values["record"]
    assert table.settled and table.code_count == 4 + 2
    assert (
        streams.model.streams[0].vocab == 6 and streams.processes["record"].vocab == 6
    )
    batch = next(streams.batches(0))
    known = batch["known"]["record"]
    assert known.shape == (8, 2) and known[:, 1].all() and not known.all()
    assert next(streams.heldout())["streams"]["record"].max() < 6
    assert streams.generator({}).solvers == {}
    own = prepare(replaced(experiment_of(path), {"streams.record.solver": Unmask()}))
    assert own.generator({}).solvers == {"record": Unmask()}


def test_a_cache_brings_its_bins(path, tmp_path):
    experiment = experiment_of(path)
    table = prepare(experiment).values["record"]
    encode_streams(experiment, tmp_path / "cache")
    cached = dataclasses.replace(experiment, cache=str(tmp_path / "cache"))
    path.unlink()  # as on a machine that was given the cache alone
    from_cache = prepare(cached)
    assert from_cache.values["record"] == table
    known = next(from_cache.batches(0))["known"]["record"]
    assert known.shape == (8, 2) and known.any() and not known.all()


@pytest.mark.slow
def test_it_is_trained_scored_completed_and_not_resumed_with_other_rows(path, tmp_path):
    workdir = tmp_path / "run"
    stage_two.train(experiment_of(path), workdir)
    assert vqdit.load(workdir).values["record"].settled
    score.main([f"--workdir={workdir}", "--of=record", "--given=kind", "--draws=2"])
    table = table_of(workdir / "scores.csv")
    assert table and all(float(row["nats"]) > 0 for row in table)
    out = tmp_path / "full.csv"
    sample.main(
        [
            f"--workdir={workdir}",
            f"--given.record={path.parent / 'own.csv'}",
            "--want=record",
            f"--out={out}",
        ]
    )
    full = table_of(out)
    assert len(full) == 60 and not any(row["sex"] == "" for row in full)
    text = path.read_text().replace(",f,", ",x,")
    path.write_text(text)
    for kept in (records_of, open_examples, settled):
        kept.cache_clear()
    with pytest.raises(BadInput, match="another tokenizers.record than is there now"):
        stage_two.train(experiment_of(path), workdir)


def test_a_word_of_held_out_rows_alone_is_missing(path, tmp_path, capsys):
    text = path.read_text()
    header, *rows = text.splitlines()
    for part, lines in (
        ("train", rows),
        ("test", [f"{rows[0].split(',')[0]},rare,a", *rows]),
    ):
        (tmp_path / f"{part}.csv").write_text("\n".join([header, *lines]) + "\n")
    experiment = experiment_of(tmp_path)
    values = prepare(experiment).values
    for _ in range(2):
        joined = JointExamples(experiment.sources, values, False)
    assert not joined.take(np.arange(1))["known"]["record"][0, 1]
    assert capsys.readouterr().err.count("never seen are missing: 1 of 'sex'") == 1
    given = tmp_path / "given.csv"
    given.write_text("age,sex\n50,rare\n")
    rows = _rows(values["record"], str(given))
    assert rows == [{"age": 50.0, "sex": None}]
    assert "given.csv: entries that training has never seen" in capsys.readouterr().err
    with pytest.raises(ValueError, match="sex='rare' is none of f, m"):
        values["record"].encode(_rows(values["record"], "sex=rare"))


@pytest.mark.parametrize("name", ["record", "kind"])
def test_a_cache_of_a_stream_alone_is_found_again(name, path, tmp_path):
    """It lies in the folder itself, as that of a tokenizer does."""
    experiment = experiment_of(path)
    alone = {name: experiment.streams[name]}
    experiment = dataclasses.replace(experiment, streams=alone)
    count = encode_streams(experiment, tmp_path / "cache")
    cached = prepare(dataclasses.replace(experiment, cache=str(tmp_path / "cache")))
    assert count == len(cached.source)
    found, expected = (next(of.batches(0)) for of in (cached, prepare(experiment)))
    for part in ("streams", "known"):
        np.testing.assert_array_equal(found[part][name], expected[part][name])


def test_a_tokenizer_that_a_cache_contradicts_is_refused(path, tmp_path):
    experiment = experiment_of(path)
    encode_streams(experiment, tmp_path / "cache")
    streams = dict(experiment.streams)
    streams["record"] = dataclasses.replace(streams["record"], tokenizer=Table(bins=8))
    cached = dataclasses.replace(
        experiment, streams=streams, cache=str(tmp_path / "cache")
    )
    with pytest.raises(
        BadInput, match="has bins=4 and streams.record.tokenizer bins=8"
    ):
        prepare(cached)


def test_epochs_of_what_nothing_draws_anew_are_refused(path, tmp_path):
    refuse_still([Volumes(resize=False)], 8)  # cut anywhere
    with pytest.raises(BadInput, match="--epochs=8: nothing augments the data"):
        encode_streams(experiment_of(path), tmp_path / "cache", epochs=8)
