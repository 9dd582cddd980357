"""The exceptions that users may have to catch."""

from __future__ import annotations

import re


class MisconfigurationException(Exception):
    """Arguments, hooks or data do not fit together, so that the run cannot do what was asked for."""


class DamagedCheckpoint(RuntimeError):
    """A checkpoint file that is truncated, altered, or no checkpoint at all. The message says what is wrong with it.

    Cure: load an older one (the message names the newest in the same folder that loads), or copy the file again.
    """


class SIGTERMException(SystemExit):
    """Raised inside the loops after the process received ``SIGTERM``, or a scheduler's warning (``SIGUSR1``).

    Its code, the exit status of a process that lets it pass, is 128 + the signal's number.

    Callbacks see it in ``on_exception``, for example to save a last checkpoint.
    """


class _TunerExitException(Exception):
    """Ends a trial run of the tuner early; it never reaches the user."""


def _augment_message(exception: BaseException, pattern: str, new_message: str) -> None:
    """Replace those text arguments of ``exception`` that match ``pattern`` from their beginning."""
    matches = re.compile(pattern, re.DOTALL).match
    exception.args = tuple(new_message if isinstance(a, str) and matches(a) else a for a in exception.args)
