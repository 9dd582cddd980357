"""A tqdm bar with numbers of steady width, that becomes plain lines when its output is no terminal."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

from fulmen.callbacks.progress.pace import LinePace, LivePace, clock, is_live, plain_line

if TYPE_CHECKING:
    from tqdm import tqdm

    _tqdm: TypeAlias = tqdm[Any]
elif importlib.util.find_spec("ipywidgets") is None:
    from tqdm import tqdm as _tqdm
else:
    # a widget in notebooks, the same bar elsewhere
    from tqdm.auto import tqdm as _tqdm

_NUMBER_WIDTH = 5


class Tqdm(_tqdm):
    """tqdm's bar, with two differences: see the module.

    Attributes:
        next_draw: time, on the clock of ``time.perf_counter``, before which drawing the bar again is of no use.
        fit_left: gives the seconds until the end of the whole fit, or None; it stands where ``{fit_left}`` is in the
            bar's format.
    """

    # tqdm's own thread would redraw bars that nobody has updated for a while: ours are drawn when a batch ends
    monitor_interval = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._pace: LivePace | LinePace = LivePace() if is_live(kwargs.get("file") or sys.stderr) else LinePace()
        self._last_line = ""
        self._quiet = False
        self.fit_left: Callable[[], float | None] | None = None
        super().__init__(*args, **kwargs)

    @property
    def next_draw(self) -> float:
        """When it makes sense to draw the bar again."""
        return self._pace.next_draw

    @property
    def format_dict(self) -> Mapping[str, Any]:  # type: ignore[override]  # a property in tqdm too, typed as an attribute
        """What the bar's format may name."""
        left = self._fit_left()
        return {**super().format_dict, "fit_left": "" if left is None else f", fit {clock(left)}"}

    def _fit_left(self) -> float | None:
        # tqdm asks for the format while it is being made
        ask = getattr(self, "fit_left", None)
        return None if ask is None else ask()

    @staticmethod
    def format_num(n: float | str) -> str:
        """A number or text, filled with zeros to five characters, so that the bar does not jump; integers stay."""
        text = n if isinstance(n, str) else _tqdm.format_num(n)
        if isinstance(n, int) or "e" in text or len(text) >= _NUMBER_WIDTH:
            return text
        if "." not in text:
            try:
                float(text)
            except ValueError:
                return text
            text += "."
        return text.ljust(_NUMBER_WIDTH, "0")

    def share_pace(self, lines: LinePace) -> None:
        """Let all bars of a run write their lines, if lines they are, at one pace."""
        if isinstance(self._pace, LinePace):
            self._pace = lines

    def reset(self, total: float | None = None) -> None:
        """Set the bar to 0. It is not drawn if it was just before, for the sake of short epochs."""
        self._quiet = perf_counter() < self._pace.next_draw
        super().reset(total)
        self._quiet = False

    def display(self, *args: Any, **kwargs: Any) -> bool | None:  # type: ignore[override]  # takes what tqdm passes
        """Draw the bar, or write a line if one is due. Arguments as tqdm's, whose bar in notebooks has others."""
        if isinstance(self._pace, LinePace):
            self._write_line(self._pace, at_end=False)
            return True
        if self._quiet:
            return False
        began = perf_counter()
        shown: bool | None = super().display(*args, **kwargs)
        self._pace.drew(began)
        return shown

    def end_epoch(self) -> None:
        """The bar stands at an epoch's end: draw it if it is time to."""
        if self.disable:
            return
        if isinstance(self._pace, LinePace):
            self._write_line(self._pace, at_end=True)
        elif perf_counter() >= self._pace.next_draw:
            self.refresh()

    def clear(self, *args: Any, **kwargs: Any) -> None:
        """Remove the bar from the terminal; lines stay."""
        if isinstance(self._pace, LivePace):
            super().clear(*args, **kwargs)

    def close(self) -> None:
        """End the bar, leaving it on the terminal, or as a last line, if it was made with ``leave=True``."""
        # tqdm closes a bar when it is collected, even if its construction failed
        pace = getattr(self, "_pace", None)
        if not isinstance(pace, LinePace) or self.disable:
            super().close()
            return
        if self.leave and self.n:
            self._write_line(pace, at_end=True, anyway=True)
        self.disable = True
        with self.get_lock():  # type: ignore[no-untyped-call]  # tqdm's
            self._decr_instances(self)  # type: ignore[attr-defined]  # private to tqdm

    def _write_line(self, pace: LinePace, at_end: bool, anyway: bool = False) -> None:
        if not self.n or not (anyway or pace.is_due(at_end)):
            return
        elapsed = self.format_dict["elapsed"]
        shown = f"{self.desc} {self.n}/{self.total} {self.postfix}"
        if shown == self._last_line:
            # the line is there already, apart from its times
            return
        self._last_line = shown
        line = plain_line(self.desc or "", self.n, self.total, elapsed, str(self.postfix or ""), self._fit_left())
        self.fp.write(f"{line}\n")
        self.fp.flush()
        pace.wrote(line, self.n / elapsed if elapsed else 0.0)
