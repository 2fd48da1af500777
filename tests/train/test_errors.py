"""Bad input is one line and exit status 2; a defect keeps its traceback."""

import os
import sys

import pytest

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
