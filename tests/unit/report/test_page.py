from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fulmen.report import tables
from fulmen.report.folders import find_runs
from fulmen.report.page import render, write_report

CSS = (Path(tables.__file__).parent / "assets" / "page.css").read_text()
VOID = {"meta", "link", "br", "input"}


class Checker(HTMLParser):
    """Elements are closed in the order in which they were opened; ids and addresses are collected."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes) -> None:
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "srcset", "action", "data"):
                self.addresses.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data


def test_the_page_is_sound_and_loads_nothing(make_run, tmp_path: Path) -> None:
    make_run("a", hparams="lr: 0.1\n", timeline={"wall_seconds": 2, "steps": 10, "parts": {"forward": 1.0}})
    make_run("b", hparams="lr: 0.2\n")
    path = tmp_path / "new" / "report.html"
    write_report(find_runs([tmp_path / "logs"]), path)
    page = path.read_text()
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    found = Checker(page)
    assert len(set(found.ids)) == len(found.ids)
    assert found.addresses == ["data:,", "#main"]
    assert not re.search(
        r"url\((?!#|`?#)|@import|//cdn|fetch\(|XMLHttpRequest|import\(", page.replace("url(#${id})", "")
    )
    assert "default-src 'none'" in page
    for words in (
        "2 runs compared",
        "Learning rate",
        "everything else",
        "50.0%",
        "No time split for b",
        "has no checkpoints",
    ):
        assert words in found.text, words
    assert re.search(r'<tr class="differs"><th scope="row">lr</th><td>0.1</td><td>0.2</td>', page)


def test_names_from_files_cannot_become_code(make_run) -> None:
    evil = "</script><script>alert(1)</script><b>"
    folder = make_run("<i>run", table=f'step,"{evil}"\n0,1\n', hparams=f'"{evil}": "{evil}"\n')
    page = render(find_runs([folder]))
    Checker(page)
    assert "alert(1)</script>" not in page and "<i>run" not in page and "<b>" not in page


def test_an_empty_run_says_what_is_missing(make_run) -> None:
    text = Checker(render(find_runs([make_run(table="loss,step\n")]))).text
    for words in ("no values yet", "none yet", "No metric has been logged yet", "LearningRateMonitor", "timeline.json",
                  "save_hyperparameters", "environment.json"):  # fmt: skip
        assert words in text, words


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast(theme: int) -> None:
    """WCAG 2.1, 1.4.3 and 1.4.11: 4.5 for text, 3 for lines that carry information."""
    block = re.findall(r":root(?:\[data-theme=\"dark\"\])? \{(.*?)\}", CSS, re.DOTALL)[theme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))

    def contrast(one: str, other: str) -> float:
        light, dark = sorted((luminance(colours[one]), luminance(colours[other])), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    pairs = [("ink", "bg"), ("ink", "card"), ("soft", "card"), ("soft", "bg"), ("accent", "card")]
    pairs += [("warn", "warn-bg"), ("good", "good-bg"), ("accent", "accent-soft")]
    assert {pair: contrast(*pair) for pair in pairs if contrast(*pair) < 4.5} == {}
    lines = [f"s{at}" for at in range(8)]
    assert {line: contrast(line, "card") for line in lines if contrast(line, "card") < 3} == {}


@pytest.mark.parametrize(("seconds", "words"), [
    (0.00012, "0.12 ms"), (0.5, "500 ms"), (9.999, "10.00 s"), (59.94, "59.9 s"), (60, "1 min"), (200, "3 min 20 s"), (3600, "1 h"),
    (18720, "5 h 12 min"), (97200, "1 d 3 h"),
])  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert tables.duration(seconds) == words


def test_sizes_and_numbers() -> None:
    assert [tables.share(part) for part in (0, 0.0001, 0.0123, 1)] == ["0.0%", "<0.1%", "1.2%", "100.0%"]
    assert [tables.size(n) for n in (0, 999, 1000, 123_456_789, 5 * 10**15)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "123 MB",
        "5000 TB",
    ]
    assert [tables.number(n) for n in (3.0, 0.123456, 1e-9, 1e20)] == ["3", "0.1235", "1e-09", "1e+20"]
