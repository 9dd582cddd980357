"""BaseFinetuning and BackboneFinetuning by themselves."""

import pytest
import torch
from torch import nn

import fulmen as L
from fulmen.callbacks import BackboneFinetuning, BaseFinetuning
from fulmen.demos.boring_classes import BoringModel
from fulmen.utilities.exceptions import MisconfigurationException


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Sequential(nn.Linear(2, 2)))


def test_flatten_gives_leaves_and_holders_of_parameters():
    net = network()
    net[2].register_parameter("scale", nn.Parameter(torch.ones(1)))
    assert BaseFinetuning.flatten_modules(net) == [net[0], net[1], net[2], net[2][0]]
    assert BaseFinetuning.flatten_modules([net[0], [net[1]]]) == [net[0], net[1]]


@pytest.mark.parametrize("train_bn", [True, False])
def test_freeze_and_back(train_bn):
    net = network()
    BaseFinetuning.freeze(net, train_bn=train_bn)
    assert [p.requires_grad for p in net.parameters()] == [False] * 2 + [train_bn] * 2 + [False] * 2
    assert net[1].track_running_stats is train_bn
    frozen = list(BaseFinetuning.filter_params(net, requires_grad=False))
    assert len(frozen) == (4 if train_bn else 6)
    BaseFinetuning.make_trainable(net)
    assert all(p.requires_grad for p in net.parameters())
    assert net[1].track_running_stats
    assert len(list(BaseFinetuning.filter_params(net, train_bn=False))) == 4


def test_freeze_module_leaves_children_alone():
    net = network()
    BaseFinetuning.freeze_module(net)
    assert all(p.requires_grad for p in net.parameters())


def test_added_group_has_only_new_parameters():
    net = network()
    optimizer = torch.optim.SGD(net[0].parameters(), lr=0.5)
    BaseFinetuning.unfreeze_and_add_param_group(net[2], optimizer, initial_denom_lr=5)
    with pytest.warns(UserWarning, match="already exist within another group"):
        BaseFinetuning.unfreeze_and_add_param_group(net, optimizer, lr=3)
    assert [(g["lr"], len(g["params"])) for g in optimizer.param_groups] == [(0.5, 2), (0.1, 2), (3.0, 2)]
    with pytest.warns(UserWarning, match="already exist"):
        BaseFinetuning.unfreeze_and_add_param_group(net, optimizer)
    assert len(optimizer.param_groups) == 3


def test_backbone_is_asked_for():
    trainer = L.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, callbacks=BackboneFinetuning())
    with pytest.raises(MisconfigurationException, match=r"Set `self.backbone` in BoringModel"):
        trainer.fit(BoringModel())


def test_rate_grows_up_to_the_heads():
    class Net(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = nn.Linear(2, 2), nn.Linear(2, 2)

    net = Net()
    callback = BackboneFinetuning(unfreeze_backbone_at_epoch=1, lambda_func=lambda epoch: float(epoch))
    callback.freeze_before_training(net)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=1.0)
    rates = []
    for epoch in range(5):
        callback.finetune_function(net, epoch, optimizer)
        rates.append(optimizer.param_groups[-1]["lr"])
    # 0.1 at first, then times the number of the next epoch, at most the head's
    assert rates == pytest.approx([1.0, 0.1, 0.3, 1.0, 1.0])
    assert callback.state_dict()["previous_backbone_lr"] == 1.0
