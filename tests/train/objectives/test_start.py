"""Statistics that processes fit together, once for all."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from tests.train.experiments import TOKENIZER
from tests.train.processes import noting
from train.config import replaced
from train.errors import BadInput
from train.modalities import Series
from train.modalities.transforms.normalise import SAMPLE
from train.objectives import start
from train.pipeline import statistics
from vqdit.quantizers import VectorQuantizer


@pytest.mark.parametrize("known", [[True, True], [True, False], [False, False]])
def test_each_process_reads_its_share_unless_all_know_them(known, monkeypatch):
    """And not at all alone, where whoever asks first fits them."""
    calls = []

    class Fitted:
        def gathered(self, exchange):
            calls.append(exchange)
            return self

        def finished(self):
            return "statistics"

    noted = lambda name: lambda *of: calls.append((name, *of))
    fit = lambda *of: calls.append(of) or Fitted()
    for name, answer in (
        ("several", lambda: True),
        ("agreed", lambda mine: all([mine, *known[1:]])),
        ("share", lambda: (1, 2)),
        ("exchanged", "exchanged"),
        ("together", contextlib.nullcontext),
    ):
        monkeypatch.setattr(start.hosts, name, answer)
    monkeypatch.setattr(start, "are_known", lambda data: known[0])
    monkeypatch.setattr(start, "moments_of", fit)
    monkeypatch.setattr(start, "believe", noted("believe"))
    data = SimpleNamespace(normalise="standard")
    start.share_statistics(data)
    fitted = [(data, (1, 2)), "exchanged", ("believe", data, "statistics")]
    assert calls == ([] if all(known) else fitted)
    calls.clear()
    monkeypatch.setattr(start.hosts, "several", lambda: False)
    start.share_statistics(data)
    assert not calls


def test_quantiles_are_the_same_of_any_number_of_processes(monkeypatch, tmp_path):
    """A tokenizer that several trained is not refused by one, for another scale."""
    draw = np.random.default_rng(0)
    for i in range(3):
        values = draw.normal(3, 1, SAMPLE // 2).astype(np.float32)
        np.savetxt(tmp_path / f"{i}.csv", values, "%.4f", header="a", comments="")
    how = {"length": 16, "channels": 1, "holdout": 0.0, "normalise": "robust"}
    data = Series(name="folder", data_dir=str(tmp_path), threads=0, **how)
    one = statistics.statistics_of(data)
    assert not one.exact
    monkeypatch.setattr(statistics, "_known", {})
    monkeypatch.setattr(start.hosts, "together", contextlib.nullcontext)
    monkeypatch.setattr(start.hosts, "several", lambda: True)
    monkeypatch.setattr(start.hosts, "agreed", lambda mine: mine)
    monkeypatch.setattr(start.hosts, "share", lambda: (1, 2))
    monkeypatch.setattr(start.hosts, "exchanged", lambda x: [x, x])
    start.share_statistics(data)
    assert statistics.statistics_of(data) == one


def test_codes_that_stay_are_not_revived():
    """A step would replace what rates say is left as it is, for it is no gradient's."""
    book = VectorQuantizer(16, dim=4, revive="batch")
    frozen = (("encoder", 0.0), ("quantizer", 0.0))
    changes = {"model.quantizer": book, "optimizer.rates": frozen}
    with pytest.raises(BadInput, match="rates: quantizer/codewords stays as it"):
        start.open_start(replaced(TOKENIZER, changes))
    slow = (("encoder", 0.0), ("codewords", 0.1))
    for more in (
        {"optimizer.rates": slow},
        {"model.quantizer": book.clone(revive="none")},
    ):
        assert start.open_start(replaced(TOKENIZER, changes | more))


def test_data_that_one_process_cannot_open_is_refused_by_all(monkeypatch):
    """Whether statistics are known is asked of the data, which it opens."""
    left = []

    def unread(data):
        raise BadInput("not there")

    monkeypatch.setattr(start.hosts, "several", lambda: True)
    monkeypatch.setattr(start.hosts, "together", noting(left))
    monkeypatch.setattr(start, "are_known", unread)
    with pytest.raises(BadInput, match="not there"):
        start.share_statistics("data")
    assert left == ["not there"]
