"""The batches of the user's own loaders, at less than their cost.

`choose` looks at a loader and takes the fastest `Source` that gives exactly its batches: values, types, layout, order, and
draws from the random generators. The trainer has one source per loader; `CombinedLoader` puts them together.

======================  ===============================================================================================
``source``, ``choose``  what a source is; which one a loader gets, and why
``plain``               the loader's own iterator
``gather``              rows of tensors and arrays in memory, gathered by the core (``datasets``: which data can be)
``look_ahead``          the loader's own iterator, run ahead in a thread
``state``               what a resume needs: places in passes, states of random generators
======================  ===============================================================================================
"""

from __future__ import annotations

from fulmen.prefetch.choose import choose
from fulmen.prefetch.source import Source

__all__ = ["Source", "choose"]
