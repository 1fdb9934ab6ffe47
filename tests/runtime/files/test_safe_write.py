"""Safe writes: whole or not at all, through links, and never over a folder."""

from pathlib import Path

import pytest

from distillery_runtime.errors import InputError
from distillery_runtime.files.safe_write import replacing, write_text


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")

    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "half, then \ud800")

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "old"}


def test_until_the_block_ends_the_old_file_stands(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")

    with replacing(tmp_path / "a.txt") as beside:
        beside.write_text("new")
        during = (tmp_path / "a.txt").read_text()

    assert (during, (tmp_path / "a.txt").read_text()) == ("old", "new")


def test_a_written_file_can_be_read_by_everybody(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "text")

    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "text")

    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "text"


def test_text_is_written_through_a_link_and_to_a_device_and_not_over_a_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")

    write_text(tmp_path / "link", "text")
    write_text(Path("/dev/null"), "text")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "text"
    assert Path("/dev/null").is_char_device()
    with pytest.raises(InputError):
        write_text(tmp_path, "text")


@pytest.mark.parametrize("name", [".", "folder", ""])
def test_a_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError, match="a folder, expected a file"), replacing(Path(name)):
        pass

    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
