"""Profilers by themselves."""

import time

import pytest

from fulmen.errors import NotYet
from fulmen.profilers import AdvancedProfiler, PassThroughProfiler, PyTorchProfiler, SimpleProfiler, XLAProfiler


def test_simple_takes_the_time_of_every_action():
    profiler = SimpleProfiler()
    for _ in range(3):
        with profiler.profile("a"):
            time.sleep(0.002)
    with profiler.profile("b"):
        pass
    assert [len(profiler.recorded_durations[n]) for n in "ab"] == [3, 1]
    assert all(0.002 <= t < 1 for t in profiler.recorded_durations["a"])
    lines = profiler.summary().splitlines()
    rows = [line.split("|")[0].strip() for line in lines]
    assert rows.index("a") < rows.index("b")
    assert next(line for line in lines if line.startswith("a")).split("|")[2].strip() == "3"
    assert "Num calls" not in SimpleProfiler(extended=False).summary()


@pytest.mark.parametrize("profiler", [SimpleProfiler(), AdvancedProfiler()])
def test_stop_without_start(profiler):
    with pytest.raises(ValueError, match="'never'"):
        profiler.stop("never")


def test_simple_refuses_a_second_start():
    profiler = SimpleProfiler()
    profiler.start("a")
    with pytest.raises(ValueError, match="not running"):
        profiler.start("a")


def test_profile_stops_after_an_exception():
    profiler = SimpleProfiler()
    with pytest.raises(KeyError), profiler.profile("a"):
        raise KeyError
    assert len(profiler.recorded_durations["a"]) == 1 and not profiler.current_actions


def test_advanced_lists_functions_and_nested_actions_do_not_disturb(tmp_path):
    def work():
        return sorted(range(100))

    profiler = AdvancedProfiler(dirpath=tmp_path, filename="report", dump_stats=True)
    profiler.setup("fit", local_rank=0)
    with profiler.profile("outer"):
        with profiler.profile("inner"):
            work()
    profiler.describe()
    text = (tmp_path / "fit-report-0.txt").read_text()
    assert "Profile stats for: outer" in text and "work" in text
    assert [p.suffix for p in tmp_path.glob("*.prof")] == [".prof"]


def test_report_goes_to_a_file_and_is_appended(tmp_path):
    for _ in range(2):
        profiler = SimpleProfiler(filename="times")
        profiler.setup("fit", local_rank=1, log_dir=str(tmp_path))
        with profiler.profile("a"):
            pass
        profiler.describe()
    text = (tmp_path / "fit-times-1.txt").read_text()
    assert text.count("Action") == 2 and profiler.local_rank == 1


def test_report_without_a_file_goes_to_the_log(caplog):
    profiler = SimpleProfiler()
    with profiler.profile("an action"):
        pass
    with caplog.at_level("INFO"):
        profiler.describe()
    assert "an action" in caplog.text


def test_pass_through_measures_nothing():
    profiler = PassThroughProfiler()
    with profiler.profile("a"):
        pass
    assert profiler.summary() == ""


@pytest.mark.parametrize("kind", [PyTorchProfiler, XLAProfiler])
def test_not_there_yet(kind):
    with pytest.raises(NotYet):
        kind()
