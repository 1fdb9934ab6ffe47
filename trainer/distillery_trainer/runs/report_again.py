"""`trainer report`: the report of a finished run, made again from what is still at hand."""

import logging
from pathlib import Path

from distillery_runtime.errors import DistilleryError
from distillery_runtime.files.safe_write import write_text
from distillery_trainer.report.build import render
from distillery_trainer.report.facts import read_facts
from distillery_trainer.report.learning import Lesson
from distillery_trainer.runs.pipeline import Pipeline
from distillery_trainer.runs.run import labelled_articles, open_finished_run

logger = logging.getLogger(__name__)


def report_run(run: Path, out: Path, titles: bool = True) -> None:
    """Writes the report of a finished run. The run itself is left as it is, but for its cache.

    Without `titles`, or where the fit was told to leave them out, articles are named by their ids alone.

    What needs the labels files is left out where they are gone or have changed; so is the learning curve where the
    probe's encoder cannot be opened.

    Raises:
        InputError: the folder is no finished run, or one of another version.
        SpecError: its config is not valid for this version.
    """
    found = open_finished_run(run)
    found.evaluation()
    labelled = labelled_articles(found.manifest, found.spec)
    lessons = _lessons(Pipeline(found.spec, labelled, run, found.seed)) if labelled else ()
    write_text(out, render(read_facts(run, found.spec, labelled, lessons, found.seed, titles and found.titles)))


def _lessons(pipeline: Pipeline) -> tuple[Lesson, ...]:
    try:
        return pipeline.lessons()
    except DistilleryError as error:  # a base model or a package that is not here: the rest can be told without it
        logger.warning("no learning curve", extra={"reason": str(error)})
        return ()
