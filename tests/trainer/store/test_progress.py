"""What a log, which is no terminal, shows of long work."""

import pytest

from distillery_trainer.store import progress
from distillery_trainer.store.progress import Bar


def test_a_log_hears_of_long_work_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)

    with Bar("fit", lines=True) as bar:
        bar.start(698, 40)
        bar.step(0.5)
        bar.step(0.25)
        bar.epoch(0.75)
    with Bar("student") as bar:
        bar.advance_to(32, 816)

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "fit: from step 40 of 698"
    assert lines[1].startswith("fit: 41 of 698, loss 0.500")
    assert lines[2].startswith("fit: 42 of 698, loss 0.250, ")
    assert lines[2].endswith(" min left")
    assert lines[3] == "fit: epoch 1, loss 0.250, val MAE 0.750"
    assert lines[4].startswith("student: 32 of 816")
    assert len(lines) == 5


def test_work_of_a_moment_is_no_line_of_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("probe") as bar:
        bar.start(60, 0)
        bar.step(0.5)
        bar.epoch(0.75)
        bar.advance_to(60, 60)

    assert capsys.readouterr().err == ""
