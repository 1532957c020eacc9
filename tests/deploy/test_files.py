"""What a file is written into: links, devices and pipes stay what they are."""

import os
from pathlib import Path

import pytest

from deploy import files
from deploy.system.error_messages import explain


def test_a_link_stays_and_its_file_is_written(tmp_path: Path) -> None:
    target = tmp_path / "disk" / "target.txt"
    target.parent.mkdir()
    link, dangling = tmp_path / "link", tmp_path / "dangling"
    target.write_text("old")
    (tmp_path / "middle").symlink_to(target)
    link.symlink_to("middle")
    dangling.symlink_to(target.parent / "new" / "file")
    files.write(link, "new")
    files.write(dangling, "first")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert dangling.is_symlink()
    assert (target.parent / "new" / "file").read_text() == "first"
    assert [path.name for path in target.parent.iterdir() if path.is_file()] == ["target.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_a_pipe_and_a_device_get_the_bytes_and_stay(tmp_path: Path) -> None:
    pipe, null = tmp_path / "pipe", tmp_path / "null"
    os.mkfifo(pipe)
    null.symlink_to(os.devnull)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write(pipe, "whole")
        assert os.read(reader, 100) == b"whole"
    finally:
        os.close(reader)
    files.write(null, "lost")
    assert pipe.is_fifo()
    assert null.is_symlink()
    assert Path(os.devnull).is_char_device()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["null", "pipe"]


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as error:
        files.write(tmp_path, "text")
    assert explain(error.value).startswith(f"cannot write {tmp_path}: Is a directory")
