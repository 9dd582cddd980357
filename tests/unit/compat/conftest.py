import pytest

import fulmen.compat


@pytest.fixture
def alias():
    """The alias, taken away again afterwards."""
    fulmen.compat.install()
    yield fulmen.compat
    fulmen.compat.uninstall()
