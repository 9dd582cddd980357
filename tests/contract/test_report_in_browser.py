"""The report of real runs, opened in Chromium: every part is clicked through, and nothing may complain or be loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import fulmen as L
from fulmen.callbacks import LearningRateMonitor, ModelCheckpoint
from fulmen.cli.main import main
from fulmen.loggers import CSVLogger

pytestmark = pytest.mark.slow
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PARTS = ["overview", "curves", "rates", "time", "checkpoints", "hyperparameters", "environment"]


class Line(L.LightningModule):
    def __init__(self, lr: float, width: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.ReLU(), torch.nn.Linear(width, 1))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = torch.nn.functional.mse_loss(self.layers(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        # a curve with a hole
        self.log("odd", float("nan") if batch_idx == 2 else 1.0)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", torch.nn.functional.mse_loss(self.layers(batch[0]), batch[1]), on_step=True, on_epoch=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real runs; the first has a time split."""
    folder = tmp_path_factory.mktemp("runs")
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)
    for lr in (0.1, 0.01):
        logger = CSVLogger(folder, name=None, notes=True)
        trainer = L.Trainer(
            max_epochs=4, accelerator="cpu", logger=logger, log_every_n_steps=1, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[LearningRateMonitor(), ModelCheckpoint(monitor="val_loss", save_last=True)],
        )  # fmt: skip
        trainer.fit(Line(lr), loader, loader)
    parts = {"data wait": 0.1, "forward": 0.3, "backward": 0.4}
    split = {"version": 1, "wall_seconds": 1.0, "steps": 32, "parts": parts}
    (folder / "version_0" / "timeline.json").write_text(json.dumps(split))
    (folder / "version_1" / "timeline.json").unlink(missing_ok=True)
    return folder


class Opened:
    """A page in the browser, and everything that it said and asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.page = browser.new_context(viewport={"width": 1200, "height": 900}, **options).new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.resolve().as_uri())

    def count(self, selector: str) -> int:
        """How many elements can be seen."""
        return sum(one.is_visible() for one in self.page.query_selector_all(selector))

    def lines(self, part: str) -> list[str]:
        """The drawn paths of a part's charts."""
        return [path.get_attribute("d") for path in self.page.query_selector_all(f"#{part} .chart path.line")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt install chromium")
    with api.sync_playwright() as playwright:
        # as root, in a container, its sandbox cannot be set up
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def single(browser: Any, runs: Path) -> Opened:
    assert main(["report", str(runs / "version_0")]) == 0
    return Opened(browser, runs / "version_0" / "report.html")


@pytest.fixture
def compared(browser: Any, runs: Path) -> Opened:
    assert main(["report", str(runs)]) == 0
    return Opened(browser, runs / "report.html")


@pytest.mark.parametrize("which", ["single", "compared"])
def test_every_part_opens_without_a_complaint(which: str, request: pytest.FixtureRequest, runs: Path) -> None:
    opened: Opened = request.getfixturevalue(which)
    page = opened.page
    assert [tab.text_content() for tab in page.query_selector_all('[role="tab"]')] == [
        "Overview", "Curves", "Learning rate", "Time", "Checkpoints", "Hyperparameters", "Environment",
    ]  # fmt: skip
    shows = {
        "overview": "best: val_loss", "curves": "by evaluation batch", "rates": "lr-SGD", "time": "everything else",
        "checkpoints": "last.ckpt", "hyperparameters": "width", "environment": "torch",
    }  # fmt: skip
    for part in PARTS:
        page.click(f"#tab-{part}")
        assert opened.count("main > section") == 1 and page.is_visible(f"#{part}")
        assert shows[part] in page.inner_text(f"#{part}"), part
    page.click("#tab-curves")
    assert opened.count("#curves article") == 3
    assert all(line.startswith("M") and "NaN" not in line for line in opened.lines("curves"))
    # wide tables and charts stay within the page
    for part in PARTS:
        page.click(f"#tab-{part}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), part
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith(("file:", "data:"))] == []


def test_settings_change_the_curves(single: Opened) -> None:
    page = single.page
    page.click("#tab-curves")
    before = single.lines("curves")
    page.select_option('#curves [data-option="x"]', "epoch")
    first = "#curves article:first-child .chart"
    assert "epochs done" in page.text_content(first) and "step" not in page.text_content(f"{first} svg")
    page.check('#curves [data-option="log"]')
    page.fill('#curves [data-option="smooth"]', "0.9")
    assert len(single.lines("curves")) > len(before)
    page.click("#tab-rates")
    # the same settings stand in every part
    assert page.input_value('#rates [data-option="x"]') == "epoch" and page.is_checked('#rates [data-option="log"]')
    page.click("#tab-curves")
    page.click("#curves .legend button >> nth=0")
    assert page.get_attribute("#curves .legend button >> nth=0", "aria-pressed") == "false"
    for button in page.query_selector_all("#curves article:first-child .legend button")[1:]:
        button.click()
    assert "nothing to draw" in page.text_content("#curves article:first-child")
    assert single.said == []


def test_a_hole_in_a_curve_stays_a_hole(single: Opened) -> None:
    single.page.click("#tab-curves")
    odd = single.page.query_selector("#curves article:nth-child(2) path.line").get_attribute("d")
    assert odd.count("M") > 1


def test_the_keyboard_is_enough(single: Opened) -> None:
    page = single.page
    page.focus("#tab-overview")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-curves" and page.is_visible("#curves")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.is_visible("#environment") and page.url.endswith("#environment")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "svg":
            break
    page.keyboard.press("ArrowRight")
    first = page.inner_text("#curves .tip >> nth=0")
    page.keyboard.press("End")
    last = page.inner_text("#curves .tip >> nth=0")
    assert first.startswith("step 0") and last.startswith("step 31") and "train_loss_step" in last
    # and it is spoken
    assert "step 31" in page.text_content("#curves [aria-live] >> nth=0")
    page.keyboard.press("Escape")
    assert single.count("#curves .tip") == 0
    assert single.said == []


def test_runs_are_switched_off_and_differences_found(compared: Opened) -> None:
    page = compared.page
    page.click("#tab-curves")
    before = len(compared.lines("curves"))
    page.click("#runs button >> nth=1")
    assert len(compared.lines("curves")) == before / 2
    page.click("#tab-hyperparameters")
    assert compared.count("#hyperparameters tbody tr") == 2
    page.check("#hyperparameters [data-differences]")
    assert page.inner_text("#hyperparameters tbody").split() == ["lr", "0.1", "0.01"]
    assert compared.said == []


def test_colours_follow_the_system_and_the_button(browser: Any, single: Opened, runs: Path) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = Opened(browser, runs / "version_0" / "report.html", color_scheme="dark")
    assert single.page.evaluate(colour) != dark.page.evaluate(colour)
    dark.page.click("#theme")
    assert single.page.evaluate(colour) == dark.page.evaluate(colour)
    assert dark.page.get_attribute("html", "data-theme") == "light"


def test_small_screens_and_no_script(browser: Any, single: Opened, runs: Path) -> None:
    path = runs / "version_0" / "report.html"
    small = Opened(browser, path)
    small.page.set_viewport_size({"width": 360, "height": 700})
    for part in PARTS:
        small.page.click(f"#tab-{part}")
        assert small.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), part
    plain = Opened(browser, path, java_script_enabled=False)
    # all parts stand below each other then
    assert plain.count("main > section") == len(PARTS)
