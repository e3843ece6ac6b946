"""What Lightning would refuse in its own words, and only once it is imported."""

import pytest

from var_exp.runs.trainer import built_trainer
from var_exp.types import ConfigError

CPU = {"_target_": "lightning.Trainer", "accelerator": "cpu", "logger": False}


@pytest.mark.parametrize("devices", [-3, 0, "x", 1.5, None, [], [0, -1], True, "1,", "01"])
def test_what_is_no_number_of_devices_is_refused(devices):
    with pytest.raises(ConfigError, match="must be a number of at least 1") as refused:
        built_trainer({**CPU, "devices": devices})
    assert f"got {devices}; set trainer.devices=1." in str(refused.value)


@pytest.mark.parametrize("devices", [-1, [0, 1], "0,1"])
def test_what_names_gpus_is_refused_on_a_cpu(devices):
    with pytest.raises(ConfigError, match=r"^on a CPU trainer\.devices must be a number"):
        built_trainer({**CPU, "devices": devices})


@pytest.mark.parametrize(("devices", "expected"), [(1, 1), ("2", 2), (3, 3), ("auto", 1)])
def test_numbers_of_processes_are_taken(devices, expected):
    assert built_trainer({**CPU, "devices": devices}).num_devices == expected
