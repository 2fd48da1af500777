"""Statistics that processes fit together, once for all."""

import contextlib

import pytest

from train.errors import BadInput
from train.objectives import start


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
    start.share_statistics("data")
    fitted = [("data", (1, 2)), "exchanged", ("believe", "data", "statistics")]
    assert calls == ([] if all(known) else fitted)
    calls.clear()
    monkeypatch.setattr(start.hosts, "several", lambda: False)
    start.share_statistics("data")
    assert not calls


def test_data_that_one_process_cannot_open_is_refused_by_all(monkeypatch):
    """Whether statistics are known is asked of the data, which it opens."""
    left = []

    @contextlib.contextmanager
    def together():
        try:
            yield
        except BadInput as error:
            left.append(str(error))
            raise

    def unread(data):
        raise BadInput("not there")

    monkeypatch.setattr(start.hosts, "several", lambda: True)
    monkeypatch.setattr(start.hosts, "together", together)
    monkeypatch.setattr(start, "are_known", unread)
    with pytest.raises(BadInput, match="not there"):
        start.share_statistics("data")
    assert left == ["not there"]
