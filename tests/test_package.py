"""The package's face: public names, and no Hydra behind them."""

import subprocess
import sys

import var_exp

LIBRARY = """
import sys
sys.modules["hydra"] = sys.modules["omegaconf"] = None  # importing them fails from here on
import torch, var_exp
model = var_exp.load_model("critters_cnn")
maps = var_exp.get_method("gbp").attribute(model, torch.rand(1, 3, 64, 64), torch.tensor([[1, 2]]))
refined = var_exp.VAR(scale="max")(maps)
metric = var_exp.metrics.EnergyPointingGame()
metric.update(maps=refined[:, 0], regions=torch.ones(1, 64, 64, dtype=torch.bool))
print(float(metric.compute()))
"""


def test_the_library_works_without_hydra():
    done = subprocess.run([sys.executable, "-c", LIBRARY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == 1.0


def test_the_aliases_of_the_contract_exist():
    methods = "gradient input_x_gradient gbp deconvnet ig smoothgrad gradcam guided_gradcam"
    assert set(f"{methods} occlusion rise".split()) <= set(var_exp.list_methods())
    models = "critters_cnn critters_vit resnet50 wide_resnet50_2 resnext50 densenet121 vgg16"
    assert set(f"{models} convnext_base vit_b16 swin_b deit_s".split()) <= set(
        var_exp.list_models()
    )
    assert var_exp.list_methods() == sorted(var_exp.list_methods())
