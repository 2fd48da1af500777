"""All programs under one command, from any folder.

vqdit stage-one --config=demo_tokenizer --workdir=runs/tok
vqdit sample --help
"""

import ast
import importlib
from pathlib import Path

import vqdit
from train.errors import BadInput, arguments, run
from vqdit.values import near

NOT_PROGRAMS = ("__init__", "__main__", "errors", "progress")


def programs() -> dict[str, str]:
    """Name of each program, as one writes it -> what it says it is, in a line."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in NOT_PROGRAMS:
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[path.stem.replace("_", "-")] = text.partition("\n")[0]
    return found


def main(argv=None):
    """Runs the program that the first word names on the words after it."""
    argv = list(arguments(argv))
    known = programs()
    name = argv[0].replace("_", "-") if argv else "--help"
    if name in ("--help", "-h"):
        print(__doc__)
        for each, text in known.items():
            print(f"  {each:14}{text}")
    elif name == "--version":
        print(vqdit.__version__)
    elif name in known:
        module = importlib.import_module(f"train.{name.replace('-', '_')}")
        run(module.main, argv[1:])
    else:
        run(_unknown, argv[:1])


def _unknown(words):
    raise BadInput(f"{words[0]!r} is no program; {near(words[0], programs())}")


if __name__ == "__main__":
    main()
