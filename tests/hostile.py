"""Files as nobody but an attacker writes them, drawn from a seed.

`values` are put in the place of any value of a JSON file, `spoiled` does so, and the
seals are made anew, so that it is not the seal that refuses them. `refused` is what all
readers owe: one line, soon, in little memory.
"""

import contextlib
import copy
import resource
import time

import numpy as np

VALUES = (
    *(None, True, -1, 0, 1, 3, 2**31, 2**62, 10**12, 10**40, 0.5, -0.0, 1e300, 1e999),
    *("", "x", "../..", "/etc/passwd", "a/b", "\x00", "\ud7ff" * 3, "a" * 5000, "é"),
    *([], [[]], {}, {"": {}}, [0] * 3, [1] * 100, [10**6] * 4, [None], ["a", "b"]),
    *({"float": "nan"}, {"float": "inf"}, {"dict": {}}, {"dict": {"a": 1}}),
    *({"class": "os.system", "fields": {}}, {"class": "vqdit.Codec", "fields": {}}),
    *({"class": "vqdit.FSQ", "fields": {}}, {"class": [], "fields": {}}),
    {"class": "vqdit.Labels", "fields": {"classes": 3}},
)
NAMES = ("", "..", "../x", "/", "a/b", "class", "fields", "x" * 5000, "\x00")


def nested(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


def paths(value, at=()):
    """Of every value inside this one."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in inside:
        yield (*at, key)
        if isinstance(part, dict | list):
            yield from paths(part, (*at, key))


def spoiled(content, source):
    """A copy of JSON with something in it replaced, left out, or added."""
    content = copy.deepcopy(content)
    every = list(paths(content))
    at = every[source.integers(len(every))]
    owner = content
    for key in at[:-1]:
        owner = owner[key]
    draw = source.integers(10)
    if draw == 0:
        del owner[at[-1]]
    elif draw == 1 and isinstance(owner, dict):
        owner[NAMES[source.integers(len(NAMES))]] = owner.pop(at[-1])
    elif draw == 2 and isinstance(owner, list):
        owner *= int(source.integers(2, 300))
    elif draw == 3:
        owner[at[-1]] = nested(int(source.choice([50, 300, 600])))
    else:
        owner[at[-1]] = copy.deepcopy(VALUES[source.integers(len(VALUES))])
    return content


def texts(source):
    """Files that are no JSON of ours at all."""
    yield from (
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"NaN",
        b'{"a": NaN}',
        b"\xff\xfe\x00",
    )
    yield b"[" * 10**6
    yield b'{"a":' * 10**5
    yield b"1" * 10**5
    yield b'{"format": ' + b"9" * 6000 + b"}"
    yield b" " * (2**24 + 1)
    yield source.bytes(1000)


def bytes_of(data, source):
    """A file with bytes changed, cut out, or put in."""
    data = bytearray(data)
    for _ in range(source.integers(1, 4)):
        at = int(source.integers(len(data)))
        draw = source.integers(4)
        if draw == 0:
            data[at] = source.integers(256)
        elif draw == 1:
            data[at : at + int(source.integers(1, 9))] = b""
        elif draw == 2:
            data[at:at] = source.bytes(int(source.integers(1, 9)))
        else:
            data[at : at + 8] = bytes([255]) * 8
    return bytes(data)


def _memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def bounded(seconds=10, memory=2**30):
    """A part that takes no longer, and no more than so many bytes more than before."""
    start, before = time.perf_counter(), _memory()
    yield
    assert time.perf_counter() - start < seconds
    assert _memory() - before < memory


def refused(read, error):
    """What a reader says of a file, in one line, or None where it can be read."""
    with bounded():
        try:
            read()
        except error as caught:
            line = str(caught)
            assert line and "\n" not in line and len(line) < 2000, line
            return line
    return None


def seeded(*numbers):
    return np.random.default_rng(numbers)
