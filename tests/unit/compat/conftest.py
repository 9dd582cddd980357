import sys

import pytest

import fulmen.compat
from fulmen.compat import aliases


@pytest.fixture
def alias():
    """The alias, taken away again afterwards; the real Lightning, where another test imported it, is put aside."""
    real = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in aliases.ROOTS}
    for name in real:
        del sys.modules[name]
    fulmen.compat.install()
    yield fulmen.compat
    fulmen.compat.uninstall()
    sys.modules.update(real)
