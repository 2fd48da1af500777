"""Bad input is one line and exit status 2; a defect keeps its traceback."""

import io
import os
import signal
import subprocess
import sys
import threading
import types

import pytest

from train import errors
from train.errors import (
    BadInput,
    Unreadable,
    blame,
    of_stream,
    one_line,
    reading,
    refused,
    run,
)
from train.modalities import Audio, Images


def test_bad_input_is_one_line_and_exit_status_2(capsys):
    def main(argv):
        raise BadInput(f"--num={argv[0]}\n  is negative; write 1 or more")

    with pytest.raises(SystemExit) as caught:
        run(main, ["-3"])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: --num=-3 is negative; write 1 or more\n"


def raised(error, inside):
    """What comes out where the error is raised inside."""
    with pytest.raises(BaseException) as caught, inside:
        raise error
    return caught.value


def test_what_a_module_refuses_names_the_field():
    ours, wrong, ended = BadInput("ours"), ValueError("a < b"), KeyboardInterrupt()
    found = raised(wrong, blame("model.dim"))
    assert type(found) is BadInput and str(found) == "model.dim: a < b"
    assert found.__cause__ is wrong
    assert str(raised(wrong, blame())) == "a < b"
    for error in (ours, ended, TypeError()):
        assert raised(error, blame("model.dim")) is error


def test_what_is_refused_of_one_streams_data_names_it():
    """A field of the data, or the data; no file of that name; not where all share."""
    image, sound = Images(name="a"), Audio(name="b")
    said = "data.name=3, data.rate; data: no; data.csv, in /data: 3"
    named = "data.x.name=3, data.rate; data.x: no; data.csv, in /data: 3"
    for other, expected in ((sound, named), (image, said)):
        with (
            pytest.raises(BadInput) as caught,
            of_stream("x", {"x": image, "y": other}),
        ):
            raise BadInput(said)
        assert str(caught.value) == expected


def test_what_a_library_says_of_a_broken_file_is_one_line():
    ours, ended = (BadInput("ours"), Unreadable("why")), KeyboardInterrupt()
    for error in (*ours, ended):
        assert raised(error, reading("no picture")) is error
    found = raised(KeyError("x\n\n y" * 100), reading("no picture"))
    assert type(found) is Unreadable and "\n" not in str(found)
    assert str(found).startswith(r"no picture ('x\n\n yx")
    assert len(str(found)) == len("no picture ()") + 300 and str(found).endswith("...)")
    assert str(raised(OSError(), reading("no sound"))) == "no sound (OSError)"
    assert one_line(ValueError(" a\n\tb ")) == "a b"


def test_what_a_whole_set_hangs_on_is_refused():
    inside = lambda: refused("no table", lambda error: f"a.csv: {error}; write it")
    found = raised(IndexError("row 3"), inside())
    assert type(found) is BadInput and str(found) == "a.csv: no table (row 3); write it"
    assert str(raised(Unreadable("it is empty"), inside())) == (
        "a.csv: it is empty; write it"
    )
    ours = BadInput("ours")
    assert raised(ours, inside()) is ours


def test_a_plain_value_error_is_not_swallowed():
    def main(argv):
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        run(main, [])


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda path: (path / ("a" * 300)).stat(), "File name too long"),
        (lambda path: path.write_text(""), "Is a directory"),
        (lambda _: os.write(os.open("/dev/full", os.O_WRONLY), b"a"), "No space left"),
    ],
)
def test_what_the_system_refuses_is_one_line(call, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        run(lambda _: call(tmp_path), [])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and said in err and err.count("\n") == 1


def test_an_error_of_a_library_is_not_taken_for_the_systems():
    def main(_):
        raise OSError("something else")

    with pytest.raises(OSError, match="something else"):
        run(main, [])


INTERRUPTED = """
import os, signal, sys, time
from train.errors import run

# What a shell starts in the background ignores an interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

def main(argv):
    try:
        os.kill(os.getpid(), int(argv[0]))
        time.sleep(10)
    finally:
        print("tidied up")

run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_one_line_and_its_status(number):
    """Wherever it comes, and what is under way is left in order."""
    words = [sys.executable, "-c", INTERRUPTED, str(int(number))]
    # As users have it: what is printed waits in the process.
    buffered = {n: v for n, v in os.environ.items() if n != "PYTHONUNBUFFERED"}
    how = {"capture_output": True, "text": True, "timeout": 60, "env": buffered}
    done = subprocess.run(words, **how)
    assert done.returncode == 128 + number
    assert done.stderr == f"stopped by {number.name}\n"
    assert done.stdout == "tidied up\n"


def test_the_handler_of_before_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    seen = []
    run(lambda _: seen.append(signal.getsignal(signal.SIGTERM)), [])
    assert seen != [before] and signal.getsignal(signal.SIGTERM) is before


def test_what_is_of_imports_ends_with_them():
    """SIGTERM is again what it is to a process, or a part that tidies up."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        errors.importing()
        left = signal.getsignal(signal.SIGTERM)
        seen = []
        run(lambda _: seen.append(signal.getsignal(signal.SIGTERM)), [])
        assert left not in (signal.SIG_DFL, *seen)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_of_others_stays():
    """In a thread, where none can be set, and while a program is imported."""
    before, own = signal.getsignal(signal.SIGTERM), lambda *_: None
    try:
        signal.signal(signal.SIGTERM, own)
        seen = []
        main = lambda _: seen.append(signal.getsignal(signal.SIGTERM))
        thread = threading.Thread(target=run, args=(main, []))
        thread.start()
        thread.join()
        assert seen == [own]
        errors.importing()
        assert signal.getsignal(signal.SIGTERM) is own
        run(main, [])  # which ends what `importing` began for SIGINT
        assert seen[1] is not own and signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_that_python_did_not_set_becomes_the_systems(monkeypatch):
    kept = []
    monkeypatch.setattr(errors.signal, "signal", lambda *of: kept.append(of))
    run(lambda _: None, [])
    assert kept[-1] == (signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.parametrize("word", ["--help", "-h", None])
def test_help_begins_with_what_the_program_is(word, capsys):
    run(lambda argv: print(f"options of {argv}"), ["--a", word] if word else ["--a"])
    out = capsys.readouterr().out
    assert out.startswith(f"{__doc__}\noptions of ") == bool(word)
    assert out.endswith(f"options of {['--a', word] if word else ['--a']}\n")
    assert word or out.count("\n") == 1


def test_a_name_that_is_no_text_is_printed(monkeypatch):
    """As the bytes of a name on a disk need not be; and whatever stands for stdout."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    run(lambda _: print("\udce9.png", flush=True), [])
    assert written.getvalue() == b"\\udce9.png\n"
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    run(lambda _: print("a"), [])
    assert sys.stdout.getvalue() == "a\n"


@pytest.mark.parametrize(
    "environment, there, platform, done",
    [
        ({}, "", "linux", True),
        ({"JAX_PLATFORMS": "cpu", "VQDIT_KEEP_HEAP": "1"}, "/dev/null", "linux", True),
        ({"JAX_PLATFORMS": "cuda"}, "", "linux", False),
        ({"VQDIT_KEEP_HEAP": "0"}, "", "linux", False),
        ({}, "/dev/nvidia0", "linux", False),
        ({}, "/dev/accel0", "linux", False),
        ({}, "/dev/vfio", "linux", False),
        ({}, "", "darwin", False),
    ],
)
def test_freed_memory_is_kept_on_a_cpu(environment, there, platform, done, monkeypatch):
    """In one arena, none of it mapped; what is freed goes back from 2 GiB on."""
    settings = {}

    def mallopt(name, value):
        settings[name] = value
        return name != refuses

    monkeypatch.setattr(errors.os, "environ", environment)
    monkeypatch.setattr(errors.os.path, "exists", lambda path: path == there)
    monkeypatch.setattr(errors.sys, "platform", platform)
    library = types.SimpleNamespace(mallopt=mallopt)
    monkeypatch.setattr(errors.ctypes, "CDLL", lambda _: library)
    refuses = None
    assert errors._keep_heap() is done
    kept = {-8: 1, -4: 0, -1: 2**31 - 1, -2: 2**28}
    assert settings == (kept if done else {})
    refuses = -8
    settings.clear()
    assert errors._keep_heap() is False
    assert settings == (kept if done else {})
    del library.mallopt  # of another C library
    assert errors._keep_heap() is False


def test_memory_is_kept_before_the_program_begins(monkeypatch):
    order = []
    monkeypatch.setattr(errors, "_keep_heap", lambda: order.append("kept"))
    run(order.append, [])
    assert order == ["kept", []]


def test_without_arguments_the_command_line_is_read(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program", "--a", "b"])
    seen = []
    run(seen.append)
    assert seen == [["--a", "b"]]


def test_a_pipe_that_nobody_reads_ends_the_program(capfd):
    def main(argv):
        raise BrokenPipeError

    copied = os.dup(1)
    try:
        with pytest.raises(SystemExit) as caught:
            run(main, [])
        assert caught.value.code == 1
        os.write(1, b"gone")
    finally:
        os.dup2(copied, 1)
        os.close(copied)
    assert capfd.readouterr() == ("", "")


def test_a_program_without_streams_works(tmp_path):
    """Nor do what it writes and what libraries say meet in one file."""
    script = (
        "import os, sys; from train.errors import run\n"
        "def main(argv):\n"
        "    file = open('a.txt', 'w'); os.write(2, b'a library'); file.write('own')\n"
        "    print(sys.stderr.isatty(), file=sys.stderr); print(sys.stdin.read(1))\n"
        "run(main, [])\n"
    )
    line = f'{sys.executable} -c "$SCRIPT" <&- >&- 2>&-'
    paths = os.pathsep.join([os.getcwd(), *sys.path])
    environment = {**os.environ, "SCRIPT": script, "PYTHONPATH": paths}
    subprocess.run(line, shell=True, check=True, cwd=tmp_path, env=environment)
    assert (tmp_path / "a.txt").read_text() == "own"
