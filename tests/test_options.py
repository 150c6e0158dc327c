"""Training options: refused early, in words."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
import torch

from llama_index_adapters.errors import InvalidOptionError, UnknownOptionError
from llama_index_adapters.training.options import TrainingOptions

DEFAULTS = TrainingOptions()


def test_an_unknown_name(subtests):
    for name, closest in (
        ("learning_rat", "Did you mean 'learning_rate'?"),
        ("batchsize", "Did you mean 'batch_size'?"),
        ("warmup_steps", "Did you mean 'warmup'?"),
        ("zzz", "The options of training are epochs"),
    ):
        with subtests.test(name=name, closest=closest):
            with pytest.raises(UnknownOptionError) as caught:
                DEFAULTS.updated({name: 1})
            assert str(caught.value).startswith(f"Unknown option {name!r}.")
            assert closest in str(caught.value)
            assert "epochs, batch_size, learning_rate" in str(caught.value)
            assert isinstance(caught.value, TypeError)


def test_a_name_close_to_one_that_is_not_about_training():
    with pytest.raises(UnknownOptionError, match=r"Did you mean 'val_dataset'\? The options of"):
        DEFAULTS.updated({"val_datset": 1}, beside=["dataset", "val_dataset"])


def test_what_is_changed_and_what_is_not():
    changed = DEFAULTS.updated({"epochs": 3, "scale": 5})
    assert (changed.epochs, changed.scale) == (3, 5)
    assert dataclasses.replace(changed, epochs=DEFAULTS.epochs, scale=DEFAULTS.scale) == DEFAULTS
    assert DEFAULTS.updated({}) == DEFAULTS == TrainingOptions()


WHOLE = "a whole number from 1 on"
FINITE = "a finite number above 0"
PART = "a number from 0 on and below 1"


def test_a_value_that_cannot_be_used(subtests):
    for name, value, expected in (
        *[
            (name, value, WHOLE)
            for name in ("epochs", "batch_size", "patience")
            for value in (0, -1, 2.0, "3", None, True)
        ],
        *[("steps_per_epoch", value, WHOLE + ", or leave it out") for value in (0, 1.5, False)],
        *[
            (name, value, FINITE)
            for name in ("learning_rate", "scale", "max_grad_norm")
            for value in (0, -1e-3, float("nan"), float("inf"), "1e-3", None, True)
        ],
        *[
            (name, value, PART)
            for name in ("weight_decay", "warmup")
            for value in (-0.1, 1, float("nan"), "0", None)
        ],
        *[("seed", value, "a whole number from 0 to") for value in (-1, 0.5, None, 2**63)],
        *[
            ("optimizer_class", value, "a class of torch.optim that steps without a closure")
            for value in ("SGD", int, torch.optim.LBFGS, torch.optim.SGD([torch.ones(1)]))
        ],
        *[
            ("optimizer_params", value, "a mapping of the optimizer's arguments")
            for value in (5, "lr", None, [("betas", 1)])
        ],
    ):
        with subtests.test(name=name, value=value, expected=expected):
            with pytest.raises(InvalidOptionError) as caught:
                TrainingOptions(**{name: value})
            message = str(caught.value)
            assert message.startswith(f"{name} is {value!r}; give {expected}")
            assert isinstance(caught.value, ValueError)
            if (name, value) != ("optimizer_params", None):
                with pytest.raises(InvalidOptionError):
                    DEFAULTS.updated({name: value})


def test_a_value_that_can(subtests):
    for values in (
        {"warmup": 0, "weight_decay": 0},
        {"scale": 1, "learning_rate": 1},
        {"seed": 2**63 - 1},
        {"steps_per_epoch": 1},
        {"optimizer_class": torch.optim.SGD},
    ):
        with subtests.test(values=values):
            options = TrainingOptions(**values)
            assert {name: getattr(options, name) for name in values} == values


class TestLlamaIndexsNames:
    def test_the_lr_of_optimizer_params_is_the_learning_rate(self):
        options = DEFAULTS.updated({"optimizer_params": {"lr": 0.25, "betas": (0.5, 0.9)}})
        assert options.learning_rate == 0.25
        assert options.optimizer_params == {"betas": (0.5, 0.9)}

    def test_twice_the_same_is_no_contradiction(self):
        options = DEFAULTS.updated({"optimizer_params": {"lr": 0.25}, "learning_rate": 0.25})
        assert options.learning_rate == 0.25

    def test_two_different_ones_are(self):
        message = r"learning_rate is 0\.5 and lr in optimizer_params is 0\.25; give one of them"
        with pytest.raises(InvalidOptionError, match=message):
            DEFAULTS.updated({"optimizer_params": {"lr": 0.25}, "learning_rate": 0.5})

    def test_a_wrong_lr_is_a_wrong_learning_rate(self):
        with pytest.raises(InvalidOptionError, match=r"learning_rate is -1; give a finite number"):
            DEFAULTS.updated({"optimizer_params": {"lr": -1}})

    def test_lr_is_not_ignored_where_it_cannot_be_understood(self):
        with pytest.raises(InvalidOptionError, match=r"lr is given as learning_rate"):
            TrainingOptions(optimizer_params={"lr": 0.25})

    def test_none_for_none(self):
        assert DEFAULTS.updated({"optimizer_params": None, "optimizer_class": None}) == DEFAULTS

    def test_the_mapping_given_is_not_changed(self):
        given = {"lr": 0.25}
        DEFAULTS.updated({"optimizer_params": given})
        assert given == {"lr": 0.25}


class TestToDict:
    def test_every_option_is_in_it(self):
        written = DEFAULTS.to_dict()
        assert list(written) == [option.name for option in dataclasses.fields(TrainingOptions)]
        assert (written["optimizer_class"], written["learning_rate"]) == ("AdamW", 1e-3)

    def test_json_holds_it(self):
        options = TrainingOptions(
            optimizer_class=torch.optim.SGD,
            optimizer_params={"momentum": 0.9, "betas": (0.5, 0.9), "capturable": torch.ones(2)},
        )
        written = json.loads(json.dumps(options.to_dict()))
        assert written["optimizer_class"] == "SGD"
        assert written["optimizer_params"] == {"momentum": 0.9, "betas": [0.5, 0.9]}


def test_options_are_known_without_torch():
    code = (
        "import sys; from llama_index_adapters.training.options import TrainingOptions;"
        "TrainingOptions(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
