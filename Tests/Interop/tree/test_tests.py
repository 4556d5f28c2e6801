"""The tests themselves: each lies in the folder of a behaviour, knows no other test, and stands in CONTRIBUTING.md."""

import ast
import re

import pytest

from node import ROOT

INTEROP = ROOT / "Tests/Interop"
FOLDERS = {"protocol", "triggers", "access", "storage", "resilience", "cost", "sdk", "tree"}
MODULES = sorted(path.relative_to(INTEROP) for path in INTEROP.rglob("test_*.py"))
ROW = re.compile(r"^\| ([^|]+) \| ((?:`\w+/test_\w+\.py`(?:, )?)+) \|$", re.MULTILINE)


def test_each_module_lies_in_the_folder_of_a_behaviour():
    assert {str(path.parent) for path in MODULES} == FOLDERS


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_imports_no_other_test(path):
    imported = set()
    for node in ast.walk(ast.parse((INTEROP / path).read_text())):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert not [name for name in imported if name.startswith("test_")], "what tests share is in a module beside conftest.py"


def test_the_table_of_behaviours_names_each_module_once():
    rows = ROW.findall((ROOT / "CONTRIBUTING.md").read_text())
    named = [path for _, paths in rows for path in re.findall(r"`([^`]+)`", paths)]
    assert sorted(named) == sorted(map(str, MODULES))
    behaviours = [behaviour for behaviour, _ in rows]
    assert len(set(behaviours)) == len(behaviours)
