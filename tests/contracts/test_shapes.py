"""The shapes in the signatures are true: every alias runs with them enforced."""

import subprocess
import sys

import pytest

CHECKED = """
import inspect, yaml
from warnings import filterwarnings
from jaxtyping import install_import_hook

filterwarnings("ignore", category=DeprecationWarning)  # of the checker, about typing's aliases
rooms = ["seeds", "classes", "engine", "methods", "refine", "metrics"]
with install_import_hook([f"var_exp.{room}" for room in rooms], "beartype.beartype"):
    import importlib, pkgutil, timm, torch, var_exp
    for room in rooms:
        package = importlib.import_module(f"var_exp.{room}")
        for found in pkgutil.walk_packages(getattr(package, "__path__", []), f"var_exp.{room}."):
            importlib.import_module(found.name)
    from var_exp.classes import ClassNames
    from var_exp.modules.attribution import AttributionModule
    from var_exp.registry import aliases, conf_dir, from_alias, locate
    from var_exp.types import Batch

torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3, 2, 1),
    torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 6),
).eval()
vit = timm.create_model("test_vit", img_size=24, patch_size=8, num_classes=6).eval()
images, classes, ids = torch.rand(2, 3, 24, 24), torch.tensor([[1, 2, 3], [4, 0, 5]]), ["a", "b"]
ATTENTION = {"attention_gradcam", "attention_rollout", "attnlrp", "legrad"}
ATTENTION |= {"libragrad", "transformer_attribution"}
quick = {"ig": {"steps": 2}, "smoothgrad": {"samples": 2}, "rise": {"masks": 3}}
for alias in var_exp.list_methods():
    method = var_exp.get_method(alias, **quick.get(alias, {}))
    chosen = vit if alias in ATTENTION else model
    maps = method.attribute(chosen, images, classes, ids=ids)
    assert maps.shape[:2] == (2, 3) and maps.shape[3:] == (24, 24), alias
maps = var_exp.get_method("gbp").attribute(model, images, classes)
logits = model(images).detach()
for alias in aliases("refine"):
    assert from_alias("refine", alias)(maps, logits.gather(1, classes)).shape[:2] == (2, 3), alias
for alias in aliases("classes"):
    needs = {
        "siblings": {"siblings": torch.tensor([[1], [2], [3], [4], [5], [0]])},
        "named": {"known": ClassNames(list("abcdef")), "names": ["a", 2]},
    }
    rule = from_alias("classes", alias, **needs.get(alias, {}))
    one = alias in ("siblings", "published_top_k")
    rule(logits, classes[:, :1] if one else classes, ids)
regions = torch.zeros(2, 3, 24, 24, dtype=torch.bool)
for cell in range(3):
    regions[:, cell, :, 8 * cell : 8 * cell + 8] = True
without = images[:, None] * torch.tensor([0.0, 0.5]).view(1, 2, 1, 1, 1)
batch = Batch(images, classes, regions, tuple(ids), torch.ones_like(regions), without=without)
perturber = var_exp.metrics.Perturber(model, (0.2, 0.2, 0.2))
small = {"model": perturber, "steps": 3, "samples": 4, "regions": 4, "stages": 2}

def metric(alias):
    node = yaml.safe_load((conf_dir() / "metric" / f"{alias}.yaml").read_text())
    accepted = inspect.signature(locate(node["_target_"])).parameters
    options = {k: v for k, v in small.items() if k in accepted}
    return from_alias("metric", alias, **options | ({"stages": 1} if "full" in alias else {}))

module = AttributionModule(
    model, var_exp.get_method("gbp"), from_alias("classes", "given"), {"var": var_exp.VAR()},
    lambda: {alias: metric(alias) for alias in aliases("metric")},
)
scored = []
module.keep = scored.append
module.test_step([batch], 0)
assert {row.metric for row in scored[0].rows} == set(aliases("metric"))
try:
    var_exp.VAR()(maps[0])
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.slow
def test_every_method_refiner_rule_and_metric_keeps_the_shapes_of_its_signature():
    done = subprocess.run([sys.executable, "-c", CHECKED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["TypeCheckError"]  # so the shapes were enforced
