"""Arguments by position, from the environment, and of the 1.x series."""

import pytest

import fulmen
from fulmen.callbacks import EarlyStopping, ModelCheckpoint
from fulmen.trainer.config_arguments import from_environment, trainer_arguments
from fulmen.trainer.legacy_arguments import GONE, TRANSLATIONS
from fulmen.utilities.rank_zero import LightningDeprecationWarning

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


class Fake:
    """As much of a trainer as the decorator sees."""

    @trainer_arguments
    def __init__(
        self,
        *,
        accelerator="auto",
        strategy="auto",
        devices="auto",
        max_epochs=None,
        callbacks=None,
        enable_progress_bar=None,
        enable_checkpointing=None,
        enable_model_summary=None,
        use_distributed_sampler=True,
        detect_anomaly=False,
        reload_dataloaders_every_n_epochs=0,
    ):
        self.given = {name: value for name, value in locals().items() if name != "self"}
        self._config = type("Config", (), {})()


def made(**kwargs):
    with pytest.warns(LightningDeprecationWarning) as seen:
        given = Fake(**kwargs).given
    assert len(seen) == len(kwargs)
    return given


def test_positions_count_in_the_order_of_the_signature():
    assert Fake("cpu", "ddp", 2).given["strategy"] == "ddp"
    assert (
        fulmen.Trainer("cpu", "auto", 1, 1, None, False, **{k: v for k, v in QUIET.items() if k != "logger"}).loggers
        == []
    )


def test_positions_are_checked():
    with pytest.raises(TypeError, match="at most 11"):
        Fake(*range(12))
    with pytest.raises(TypeError, match="by position and one by name"):
        Fake("cpu", accelerator="cpu")


def test_environment_values_are_literals_or_text():
    found = from_environment(
        ("max_epochs", "strategy", "max_time", "logger", "devices", "callbacks"),
        {
            "PL_TRAINER_MAX_EPOCHS": " 7",
            "PL_TRAINER_STRATEGY": "ddp",
            "PL_TRAINER_MAX_TIME": "{'hours': 1}",
            "PL_TRAINER_LOGGER": "False",
            "PL_TRAINER_DEVICES": "",
            "PL_TRAINER_NOPE": "1",
        },
    )
    assert found == {"max_epochs": 7, "strategy": "ddp", "max_time": {"hours": 1}, "logger": False}


def test_arguments_beat_the_environment(monkeypatch):
    monkeypatch.setenv("PL_TRAINER_MAX_EPOCHS", "7")
    assert fulmen.Trainer(**QUIET).max_epochs == 7
    assert fulmen.Trainer(max_epochs=3, **QUIET).max_epochs == 3
    assert Fake(max_epochs=None).given["max_epochs"] is None


def test_an_unknown_argument_is_a_type_error_with_a_hint():
    with pytest.raises(TypeError, match=r"unexpected keyword argument.*`max_epoch`.*Did you mean `max_epochs`"):
        fulmen.Trainer(max_epoch=3)


@pytest.mark.parametrize(
    ("old", "value", "new"),
    [
        ("gpus", 2, {"accelerator": "gpu", "devices": 2}),
        ("gpus", [0, 1], {"accelerator": "gpu", "devices": [0, 1]}),
        ("gpus", "-1", {"accelerator": "gpu", "devices": "-1"}),
        ("gpus", 0, {"accelerator": "cpu", "devices": 1}),
        ("gpus", None, {}),
        ("tpu_cores", 8, {"accelerator": "tpu", "devices": 8}),
        ("num_processes", 2, {"accelerator": "cpu", "devices": 2}),
        ("distributed_backend", "ddp", {"strategy": "ddp"}),
        ("distributed_backend", "ddp_cpu", {"strategy": "ddp_spawn", "accelerator": "cpu"}),
        ("progress_bar_refresh_rate", 0, {"enable_progress_bar": False}),
        ("checkpoint_callback", False, {"enable_checkpointing": False}),
        ("weights_summary", None, {"enable_model_summary": False}),
        ("replace_sampler_ddp", False, {"use_distributed_sampler": False}),
        ("terminate_on_nan", True, {"detect_anomaly": True}),
        ("reload_dataloaders_every_epoch", True, {"reload_dataloaders_every_n_epochs": 1}),
        ("auto_lr_find", False, {}),
        ("amp_backend", "native", {}),
        ("track_grad_norm", -1, {}),
    ],
)
def test_translations(old, value, new):
    plain = Fake().given
    assert made(**{old: value}) == {**plain, **new}


def test_the_warning_gives_the_new_form():
    with pytest.warns(LightningDeprecationWarning, match=r"Use `Trainer\(accelerator='gpu', devices=2\)`"):
        Fake(gpus=2)
    with pytest.warns(LightningDeprecationWarning, match=r"Remove it"):
        Fake(amp_backend="native")
    with pytest.warns(LightningDeprecationWarning, match=r"Use `trainer.fit\(model, ckpt_path='a.ckpt'\)`"):
        Fake(resume_from_checkpoint="a.ckpt")


def test_translations_that_are_callbacks_join_the_others():
    first, checkpoint = EarlyStopping("x"), ModelCheckpoint()
    given = made(checkpoint_callback=checkpoint, progress_bar_refresh_rate=5, weights_summary="full")
    names = [type(callback).__name__ for callback in given["callbacks"]]
    assert names == ["ModelCheckpoint", "TQDMProgressBar", "ModelSummary"]
    assert given["callbacks"][1].refresh_rate == 5
    with pytest.warns(LightningDeprecationWarning):
        assert Fake(callbacks=[first], checkpoint_callback=checkpoint).given["callbacks"] == [first, checkpoint]
    with pytest.warns(LightningDeprecationWarning):
        assert Fake(callbacks=first, checkpoint_callback=checkpoint).given["callbacks"] == [first, checkpoint]


def test_resume_from_checkpoint_reaches_the_config():
    with pytest.warns(LightningDeprecationWarning):
        assert Fake(resume_from_checkpoint="a.ckpt")._config.resume_from_checkpoint == "a.ckpt"


def test_a_translation_must_not_contradict():
    with pytest.warns(LightningDeprecationWarning), pytest.raises(TypeError, match="`devices` is given too"):
        Fake(gpus=2, devices=1)
    with pytest.warns(LightningDeprecationWarning):
        assert Fake(gpus=2, devices=2).given["devices"] == 2


@pytest.mark.parametrize(
    ("old", "value", "cure"),
    [
        ("auto_lr_find", True, "lr_find"),
        ("auto_scale_batch_size", "power", "BatchSizeFinder"),
        ("stochastic_weight_avg", True, "StochasticWeightAveraging"),
        ("amp_backend", "apex", "16-mixed"),
        ("track_grad_norm", 2, "grad_norm"),
        ("truncated_bptt_steps", 2, "automatic_optimization"),
        ("weights_save_path", "x", "default_root_dir"),
        ("distributed_backend", "dp", "ddp"),
        *((name, 1, cure[:10]) for name, cure in GONE.items()),
    ],
)
def test_what_has_no_translation_says_the_new_form(old, value, cure):
    with pytest.raises(TypeError, match=cure):
        Fake(**{old: value})


def test_no_translated_name_is_an_argument_of_today():
    import inspect

    today = set(inspect.signature(fulmen.Trainer.__init__).parameters)
    assert not today & (set(TRANSLATIONS) | set(GONE))
