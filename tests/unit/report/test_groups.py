from __future__ import annotations

from fulmen.report.groups import group_series
from fulmen.report.metrics_file import Series


def grouped(*names: str, epochs: float | None = 0) -> list[tuple[str, str, list[str]]]:
    many = [Series(name, [0], [epochs], [1]) for name in names]
    return [(group.part, group.title, group.names) for group in group_series(many)]


def test_training_and_validation_of_a_thing_are_one_chart_and_losses_come_first() -> None:
    names = [
        "acc",
        "val_acc",
        "val/loss",
        "train_loss_epoch",
        "train_loss_step",
        "test_loss",
        "valid_f1/dataloader_idx_0",
    ]
    assert grouped(*names) == [
        ("curves", "loss", ["train_loss_step", "train_loss_epoch", "val/loss", "test_loss"]),
        ("curves", "acc", ["acc", "val_acc"]),
        ("curves", "f1", ["valid_f1/dataloader_idx_0"]),
    ]


def test_rates_and_devices_have_parts_of_their_own() -> None:
    names = [
        "lr-Adam/pg1",
        "lr-SGD",
        "lr-SGD-momentum",
        "my_lr",
        "DeviceStatsMonitor.on_train_batch_end/cpu_percent",
        "slr",
    ]
    assert grouped(*names) == [
        ("rates", "learning rate", ["lr-Adam/pg1", "lr-SGD", "my_lr"]),
        ("rates", "momentum", ["lr-SGD-momentum"]),
        ("device", "cpu_percent", ["DeviceStatsMonitor.on_train_batch_end/cpu_percent"]),
        ("curves", "slr", ["slr"]),
    ]


def test_another_x_axis_is_another_chart() -> None:
    assert grouped("val_loss_step", epochs=None) == [("curves", "loss, by evaluation batch", ["val_loss_step"])]
