"""Sources and pages speak of the project alone, and files stay readable."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("python", "src_rust", "tests", "benches", "examples", "docs", "scripts")
#: put together from parts, so that this file does not match
FOREIGN = re.compile(
    "|".join(["/" + "work/", r"\bissue" + r" #?\d+\b", "work" + " session", r"\bas" + " an AI"]), re.IGNORECASE
)


def files(*endings: str) -> list[Path]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in endings]
    found += [path for path in ROOT.iterdir() if path.suffix in endings]
    return [path for path in found if path.is_file() and "target" not in path.relative_to(ROOT).parts]


def test_words() -> None:
    pages = files(".py", ".pyi", ".rs", ".md", ".toml", ".sh")
    assert len(pages) > 200
    lines = [f"{p}:{n}: {t}" for p in pages for n, t in enumerate(p.read_text().splitlines(), 1) if FOREIGN.search(t)]
    assert not lines


def test_rooms_are_small() -> None:
    sizes = {path: len(path.read_text().splitlines()) for path in files(".py", ".rs") if "tests" not in path.parts}
    assert not {path: size for path, size in sizes.items() if size > 600}
