import sys

import pytest

import fulmen.compat
from fulmen.compat import aliases


@pytest.fixture(autouse=True)
def apart():
    """The real Lightning, where another test of this process imported it, is put aside for one test."""
    real = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in aliases.ROOTS}
    for name in real:
        del sys.modules[name]
    yield
    sys.modules.update(real)


@pytest.fixture
def alias(apart):
    """The alias, taken away again afterwards."""
    fulmen.compat.install()
    yield fulmen.compat
    fulmen.compat.uninstall()
