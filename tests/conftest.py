"""For all tests: what has to be there before any of them starts."""

from __future__ import annotations

# pytest-xdist makes the workers' warnings anew in threads of the controller: the module of their classes must be whole
# by then, as two threads that import it at once can see half of it
import fulmen.utilities.warnings  # noqa: F401
