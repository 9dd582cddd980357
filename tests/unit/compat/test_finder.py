"""Lightning's names mean fulmen."""

import importlib
import importlib.metadata
import importlib.util
import logging
import pickle
import subprocess
import sys
from unittest import mock

import pytest
import torch

import fulmen
import fulmen.compat
from fulmen.compat import aliases
from fulmen.compat.distributions import NAMES, DistributionFinder
from fulmen.compat.finder import AliasModule

ROOTS = ("lightning", "lightning.pytorch", "pytorch_lightning")


def aliased():
    return [name for name in sys.modules if name.partition(".")[0] in aliases.ROOTS]


def test_importing_compat_installs_nothing():
    code = (
        "import sys, fulmen.compat; print(fulmen.compat.is_installed(), [m for m in sys.modules if 'lightning' in m])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split()[0] == "False" and "'lightning'" not in out and "pytorch_lightning" not in out


@pytest.mark.parametrize("root", ROOTS)
def test_objects_are_the_same_under_every_root(alias, root):
    module = importlib.import_module(root)
    assert module.Trainer is fulmen.Trainer and module.seed_everything is fulmen.seed_everything
    assert module.__file__ == fulmen.__file__
    assert module.__spec__.name == module.__name__ == root


def test_spellings(alias):
    import lightning
    import lightning.pytorch as pl
    import pytorch_lightning
    from lightning.pytorch.callbacks.early_stopping import EarlyStopping
    from pytorch_lightning.callbacks import EarlyStopping as Same

    assert EarlyStopping is Same is fulmen.callbacks.early_stopping.EarlyStopping
    assert lightning.pytorch is pl and pl.callbacks.early_stopping.EarlyStopping is Same
    assert (
        pytorch_lightning.utilities.types.STEP_OUTPUT is importlib.import_module("fulmen.utilities.types").STEP_OUTPUT
    )


def test_submodules_need_no_import_of_their_own(alias):
    import lightning as L

    assert L.pytorch.loggers.CSVLogger is importlib.import_module("fulmen.loggers").CSVLogger
    assert L.fabric.utilities.seed.seed_everything is fulmen.seed_everything


def test_fabric_paths(alias):
    from lightning.fabric.utilities.cloud_io import _load, get_filesystem
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning_fabric.utilities.data import AttributeDict

    from fulmen.utilities import exceptions, files, parsing

    assert get_filesystem is files.get_filesystem and _load is files.load_file
    assert MisconfigurationException is exceptions.MisconfigurationException
    assert AttributeDict is parsing.AttributeDict


def test_versions(alias):
    for root in (*ROOTS, "lightning.fabric", "lightning_fabric"):
        assert importlib.import_module(root).__version__ == "2.6.6"
    assert fulmen.__version__ != "2.6.6"


def test_star_import(alias):
    names = {}
    exec("from pytorch_lightning import *", names)
    assert names["Trainer"] is fulmen.Trainer


def test_a_missing_class_says_that_fulmen_lacks_it(alias):
    with pytest.raises(ImportError, match=r"fulmen has no `fulmen.callbacks.NoSuchThing`.*lightning.pytorch.callbacks"):
        from lightning.pytorch.callbacks import NoSuchThing  # noqa: F401 (importing it is the test)
    with pytest.raises(ImportError, match="NoSuchThing"):
        from lightning.pytorch.callbacks.early_stopping import NoSuchThing  # noqa: F401, F811 (importing it is the test)
    assert not hasattr(importlib.import_module("lightning.pytorch.callbacks"), "NoSuchThing")


@pytest.mark.parametrize("name", ["lightning.pytorch.nothing_of_the_kind", "lightning.data", "lightning.callbacks"])
def test_a_missing_module_does_not_exist(alias, name):
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(name)
    assert caught.value.name == name
    assert importlib.util.find_spec(name) is None


@pytest.mark.parametrize("name", ["lightning", "lightning.pytorch.loggers.wandb", "lightning_fabric.utilities.seed"])
def test_find_spec_before_and_after_the_import(alias, name):
    assert importlib.util.find_spec(name).name == name
    assert importlib.import_module(name) is sys.modules[name]
    assert importlib.util.find_spec(name).name == name


def test_pickles_that_name_lightnings_classes(alias):
    data = b"clightning.pytorch.callbacks.early_stopping\nEarlyStopping\n."
    assert pickle.loads(data) is fulmen.callbacks.early_stopping.EarlyStopping
    made = pickle.loads(pickle.dumps(fulmen.callbacks.EarlyStopping("x")))
    assert type(made).__module__ == "fulmen.callbacks.early_stopping"


def test_a_file_that_names_lightnings_classes(alias, tmp_path):
    from fulmen.utilities.parsing import AttributeDict

    torch.save({"hparams": AttributeDict(a=1)}, tmp_path / "x.pt", pickle_protocol=2)
    content = (tmp_path / "x.pt").read_bytes()
    ours, theirs = b"fulmen.utilities.parsing", b"lightning.fabric.utilities.data"
    assert ours in content
    with mock.patch.object(AttributeDict, "__module__", theirs.decode()):
        torch.save({"hparams": AttributeDict(a=1)}, tmp_path / "y.pt", pickle_protocol=2)
    assert theirs in (tmp_path / "y.pt").read_bytes()
    loaded = torch.load(tmp_path / "y.pt", weights_only=False)["hparams"]
    assert type(loaded) is AttributeDict and loaded.a == 1


def test_patching_an_alias_patches_fulmen(alias):
    import fulmen.callbacks.early_stopping as real

    before = real.EarlyStopping
    with mock.patch("lightning.pytorch.callbacks.early_stopping.EarlyStopping", "patched"):
        assert real.EarlyStopping == "patched"
    assert real.EarlyStopping is before and "EarlyStopping" in vars(real)


def test_patching_a_name_that_lives_elsewhere(alias):
    from fulmen.utilities import files

    before = files.get_filesystem
    with mock.patch("pytorch_lightning.core.saving.get_filesystem", "patched"):
        assert files.get_filesystem == "patched"
    assert files.get_filesystem is before


def test_fulmens_own_modules_stay_untouched(alias):
    import lightning.pytorch.core.saving
    import lightning.pytorch.trainer.connectors.logger_connector.result  # noqa: F401 (importing it is the test)

    assert not isinstance(sys.modules["fulmen.core"].saving, AliasModule)
    assert not hasattr(sys.modules["fulmen.trainer"], "connectors")


def test_install_twice_and_uninstall():
    before = list(sys.meta_path)
    fulmen.compat.install()
    fulmen.compat.install()
    assert fulmen.compat.is_installed() and len(sys.meta_path) == len(before) + 2
    import lightning.pytorch.callbacks.timer  # noqa: F401 (importing it is the test)

    fulmen.compat.uninstall()
    assert not fulmen.compat.is_installed() and sys.meta_path == before and not aliased()
    fulmen.compat.uninstall()


def test_install_after_the_real_package_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", type(sys)("lightning"))
    with pytest.raises(RuntimeError, match="came too late.*lightning"):
        fulmen.compat.install()
    assert not fulmen.compat.is_installed()


def test_distributions():
    finder = DistributionFinder()
    for name in (*NAMES, "PyTorch_Lightning"):
        (found,) = finder.find_distributions(importlib.metadata.DistributionFinder.Context(name=name))
        assert found.version == "2.6.6"
    assert not finder.find_distributions(importlib.metadata.DistributionFinder.Context())
    assert not finder.find_distributions(importlib.metadata.DistributionFinder.Context(name="torch"))
    assert finder.find_spec("lightning") is None


def test_metadata_without_the_real_distributions(alias, monkeypatch):
    ours = [f for f in sys.meta_path if isinstance(f, DistributionFinder)]
    monkeypatch.setattr(sys, "meta_path", ours)
    assert importlib.metadata.version("lightning") == importlib.metadata.version("pytorch-lightning") == "2.6.6"


def test_lightnings_loggers_are_fulmens(alias):
    ours = logging.getLogger("fulmen.utilities.rank_zero")
    assert logging.getLogger("lightning.pytorch.utilities.rank_zero") is ours
    for name in ROOTS:
        assert logging.getLogger(name) is logging.getLogger("fulmen")


def test_logger_settings_made_before_are_kept():
    early = logging.getLogger("pytorch_lightning.trainer.trainer")
    early.setLevel(logging.ERROR)
    ours = logging.getLogger("fulmen.trainer.trainer")
    level = ours.level
    try:
        fulmen.compat.install()
        assert ours.level == logging.ERROR and logging.getLogger(early.name) is ours
    finally:
        fulmen.compat.uninstall()
        ours.setLevel(level)
    assert logging.getLogger(early.name) is early


def test_the_table_has_no_dead_entry(alias):
    dead = []
    for path, names in aliases.NAMES.items():
        for name in names:
            module = f"lightning.{path}" if path else "lightning"
            try:
                getattr(importlib.import_module(module), name)
            except (ImportError, AttributeError) as error:
                dead.append(f"{module}.{name}: {error}")
    for path in aliases.MODULES:
        try:
            importlib.import_module(f"lightning.{path}" if path else "lightning")
        except ImportError as error:
            dead.append(f"{path}: {error}")
    assert not dead
