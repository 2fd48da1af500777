"""Bad input is one line and exit status 2; a defect keeps its traceback."""

import os
import signal
import subprocess
import sys

import pytest

from train import errors
from train.errors import BadInput, run


def test_bad_input_is_one_line_and_exit_status_2(capsys):
    def main(argv):
        raise BadInput(f"--num={argv[0]}\n  is negative; write 1 or more")

    with pytest.raises(SystemExit) as caught:
        run(main, ["-3"])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: --num=-3 is negative; write 1 or more\n"


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
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
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
