"""A table of the user's own, trained on, scored, completed, cached and resumed."""

import csv
import dataclasses

import numpy as np
import pytest

import vqdit
from train import sample, score, stage_two
from train.config import Run, StageTwo, Stream
from train.errors import BadInput
from train.modalities import Tables
from train.objectives.latents import encode_streams
from train.objectives.streams import prepare
from train.pipeline import open_examples
from train.pipeline.statistics import records_of
from train.pipeline.streams import settled
from vqdit.diffusion import Case, Masking, Mixture, Scattered
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
