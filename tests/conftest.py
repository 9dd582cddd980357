"""For all tests: what has to be there before any of them starts."""

from __future__ import annotations

import signal

# pytest-xdist makes the workers' warnings anew in threads of the controller: the module of their classes must be whole
# by then, as two threads that import it at once can see half of it
import fulmen.utilities.warnings  # noqa: F401 (for what importing it does)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell's background job ignores Ctrl-C, and so would the processes that tests start
    signal.signal(signal.SIGINT, signal.default_int_handler)
