"""The messages of errors, and NotYet."""

import pickle

import pytest

from fulmen import errors
from fulmen.utilities.exceptions import MisconfigurationException


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (errors.misconfiguration, MisconfigurationException),
        (errors.value_error, ValueError),
        (errors.type_error, TypeError),
    ],
)
def test_a_message_says_argument_expected_received_cure(build, kind):
    error = build("Trainer(max_epochs)", "an integer", "x", "Write 3")
    assert type(error) is kind
    assert str(error) == "Trainer(max_epochs): expected an integer, received 'x'. Write 3."


def test_words_are_not_quoted():
    assert errors.show(errors.Words("no loader")) == "no loader"
    assert errors.show("no loader") == "'no loader'"


def test_long_values_are_cut():
    assert len(errors.show(list(range(1000)))) == 200
    assert errors.show(list(range(1000))).endswith("…")


def test_a_value_whose_repr_fails_can_be_shown():
    class Broken:
        def __repr__(self):
            raise KeyError

    assert "Broken" in errors.show(Broken())


def test_the_type_is_told_where_the_repr_hides_it():
    class Path2:
        def __repr__(self):
            return "x"

    assert errors.show(Path2()).startswith("x (") and errors.show(Path2()).endswith("Path2)")


def test_a_cure_ends_with_one_full_stop():
    for cure in ("Do this", "Do this.", "Do `this`"):
        message = str(errors.value_error("a", "b", 1, cure))
        assert not message.endswith("..") and message.rstrip(".").endswith(cure.rstrip("."))


def test_not_yet_names_what_and_instead_and_survives_pickling():
    error = pickle.loads(pickle.dumps(errors.NotYet("Tuner", "Choose by hand")))
    assert isinstance(error, NotImplementedError)
    assert (error.what, error.instead) == ("Tuner", "Choose by hand")
    assert str(error) == "Tuner is not available in this version of fulmen. Choose by hand."


def test_a_missing_package_names_the_pip_command():
    error = errors.missing_package("tensorboard", "TensorBoardLogger", "fulmen[tensorboard]")
    assert isinstance(error, ModuleNotFoundError) and error.name == "tensorboard"
    assert "pip install fulmen[tensorboard]" in str(error)
