"""Reports and pictures of runs, from the files that `fulmen.loggers.CSVLogger` leaves: ``fulmen report``, ``fulmen plot``.

::

    folders.find_runs     which folders are runs
    run_folder.read_run   metrics.csv, hparams.yaml, environment.json, timeline.json, checkpoints → Run
    groups.group_series   which curves belong in one chart
    page.write_report     one HTML file that needs nothing else
    picture.write_picture the same charts with matplotlib

Nothing here is needed for training: the package is loaded by its two commands only.
"""

from __future__ import annotations

from fulmen.report.folders import find_runs
from fulmen.report.page import write_report
from fulmen.report.picture import write_picture

__all__ = ["find_runs", "write_picture", "write_report"]
