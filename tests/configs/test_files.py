"""Every experiment file loads, can be run, and its variants change one thing each."""

import ast
from pathlib import Path

import pytest

from train.config import load, variants
from train.paths import diff
from train.validate import validate

FOLDER = Path(__file__).resolve().parents[2] / "configs"


def _has_config(path: Path) -> bool:
    names = [
        target.id
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    return "CONFIG" in names


FILES = [path for path in sorted(FOLDER.glob("*.py")) if _has_config(path)]
IDS = [path.stem for path in FILES]


def test_there_are_files():
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_an_experiment_is_named_after_its_file_and_can_be_run(path):
    experiment = load(path)
    assert experiment.name == path.stem
    validate(experiment, devices=1, tokenizers=False)


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_each_variant_changes_one_field_and_can_be_run(path):
    experiment = load(path)
    for name in variants(path):
        changed = load(path, name)
        assert len(diff(experiment, changed)) == 1, name
        validate(changed, devices=1, tokenizers=False)


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_file_opens_with_the_command_that_runs_it(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert "python -m train." in text and f"configs/{path.name}" in text
