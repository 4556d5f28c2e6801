"""The lint of the C core's house: an arrow that runs up, a circle that is too large, and a name that is gone are found."""

import shutil
import subprocess
import sys

import pytest

from node import ROOT

TOOL = ROOT / "Tests/Support/architecture.py"
HOUSE = {
    "CStreamBase/base.c": '#include "CStreamBase.h"\nint sc_base(void) { return 1; }\n',
    "CStreamBase/include/CStreamBase.h": "int sc_base(void);\n",
    "CStreamWebSocket/frame.c": '#include "CStreamBase.h"\nint sc_frame(void) { return sc_base(); }\n',
    "CStreamJSON/scan.c": '#include "CStreamJSON.h"\nint sc_scan(void) { return sc_base(); }\n',
    "CStreamJSON/include/CStreamJSON.h": '#include "CStreamBase.h"\nint sc_scan(void);\n',
}


@pytest.fixture
def house(tmp_path):
    """A house of a few rooms of the real one's names, with the picture of them."""
    for path, text in HOUSE.items():
        (tmp_path / "CSources" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "CSources" / path).write_text(text)
    shutil.copy(ROOT / "ARCHITECTURE.md", tmp_path)
    drawn = subprocess.run([sys.executable, TOOL, "--root", tmp_path], capture_output=True, text=True)
    assert drawn.returncode == 0, drawn.stdout + drawn.stderr
    return tmp_path


def breaches(house):
    done = subprocess.run([sys.executable, TOOL, "--check", "--root", house], capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == (1 if done.stdout else 0)
    return done.stdout.splitlines()


def append(house, path, text):
    with (house / "CSources" / path).open("a") as file:
        file.write(text)


def test_arrows_that_point_down_pass(house):
    assert breaches(house) == []


def test_an_include_and_a_call_that_run_up_are_found(house):
    append(house, "CStreamBase/table.c", '#include "CStreamJSON.h"\n')
    append(house, "CStreamBase/base.c", "int sc_frame(void);\nint sc_planted(void) { return sc_frame(); }\n")
    found = breaches(house)
    assert any("CStreamBase/table.c" in line and "may not know CStreamJSON" in line for line in found), found
    assert any("base.c calls sc_frame" in line and "may not know CStreamWebSocket" in line for line in found), found
    assert any("the picture is not that of the code" in line for line in found), found


def test_rooms_of_one_line_do_not_know_each_other(house):
    append(house, "CStreamWebSocket/frame.c", '#include "CStreamJSON.h"\n')
    assert any("CStreamWebSocket may not know CStreamJSON" in line for line in breaches(house))


@pytest.mark.parametrize("count", [4, 5])
def test_a_circle_of_five_files_is_too_large(house, count):
    for at in range(count):
        text = f"void sc_planted_{(at + 1) % count}(void);\nvoid sc_planted_{at}(void) {{ sc_planted_{(at + 1) % count}(); }}\n"
        (house / f"CSources/CStreamJSON/planted_{at}.c").write_text(text)
    found = [line for line in breaches(house) if "in a circle" in line]
    assert len(found) == (1 if count > 4 else 0), found


def test_a_room_without_a_place_is_found(house):
    (house / "CSources/CStreamPlanted").mkdir()
    (house / "CSources/CStreamPlanted/planted.c").write_text("int sc_planted;\n")
    assert any(line.startswith("CStreamPlanted: a room that has no place") for line in breaches(house))


def test_a_name_that_is_gone_is_found(tmp_path):
    """The lint reads the files that git knows."""
    (tmp_path / "CSources").mkdir()
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/comment-names").write_text("other_library_name\n")
    (tmp_path / "CSources/planted.c").write_text(
        '// Calls sc_gone, then `away()`; see lost.c. Not: `here`, planted.c, other_library_name, "wire_word".\n'
        'void here(void); /* here_too */ const char *text = "wire_word // no_comment"; int no_comment;\n'
    )
    tool = tmp_path / "Tests/Support/comment_names.py"
    tool.parent.mkdir(parents=True)
    shutil.copy(ROOT / "Tests/Support/comment_names.py", tool)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    done = subprocess.run([sys.executable, tool], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    names = [line.split(": ")[1] for line in done.stdout.splitlines()]
    assert sorted(names) == ["away", "here_too", "lost.c", "sc_gone"]
