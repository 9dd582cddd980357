"""The tuner, as far as it goes."""

import pytest

from fulmen.errors import NotYet
from fulmen.tuner import Tuner


def test_searches_say_not_yet():
    tuner = Tuner(None)
    with pytest.raises(NotYet, match="lr_find"):
        tuner.lr_find(None)
    with pytest.raises(NotYet, match="scale_batch_size"):
        tuner.scale_batch_size(None)
