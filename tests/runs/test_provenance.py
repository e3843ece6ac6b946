"""The record tells runs apart that could differ, and nothing else."""

import json
import subprocess
from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from var_exp.conf_files import conf_dir
from var_exp.runs.arguments import open_key
from var_exp.runs.naming import deciding_options, short_hash
from var_exp.runs.provenance import data_hash, record_of, weights_hash
from var_exp.runs.run_record import RunRecord
from var_exp.types import BadData, ConfigError, Sample, SampleDataset


class Noise(SampleDataset):
    """Pictures in files, one class asked about."""

    class_names = ("a", "b")

    def __init__(self, folder, count=20, changed=None):
        self.pictures = [folder / f"{i}.png" for i in range(count)]
        self.changed = changed

    def __len__(self):
        return len(self.pictures)

    def label(self, index):
        return index % 2

    def files(self):
        return iter(self.pictures)

    def sample_id(self, index):
        return self.pictures[index].name

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        sample = Sample(
            torch.rand(3, 4, 4, generator=generator),
            torch.tensor([self.label(index)]),
            torch.ones(1, 4, 4, dtype=torch.bool),
            self.sample_id(index),
        )
        return self.changed(sample) if self.changed else sample


@pytest.fixture
def folder(tmp_path):
    for i in range(21):
        (tmp_path / f"{i}.png").write_bytes(b"picture")
    return tmp_path


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


ROOT = {"seed": 0, "trainer": {"precision": "32-true", "devices": 1}, "method": {"_target_": "x.Y"}}


def test_one_bit_of_one_weight_is_another_model():
    model = network()
    known = weights_hash(model)
    assert weights_hash(network()) == known
    weight = model[0].weight.data.view(torch.int32)
    weight[1, 2] ^= 1
    assert weights_hash(model) != known
    weight[1, 2] ^= 1
    assert weights_hash(model) == known
    model[1].num_batches_tracked += 1
    assert weights_hash(model) != known


def test_weights_of_half_precision_and_none_at_all_have_a_hash():
    assert weights_hash(network().bfloat16()) != weights_hash(network().half())
    assert weights_hash(nn.ReLU())


def test_another_sample_label_picture_or_file_is_other_data(folder):
    known = data_hash(Noise(folder))
    assert data_hash(Noise(folder)) == known

    def brighter(sample):
        return replace(sample, image=sample.image + 1e-6)

    def elsewhere(sample):
        return replace(sample, regions=~sample.regions)

    def unreadable(sample):
        raise BadData(sample.id)

    others = [
        data_hash(Noise(folder, count=21)),
        *(data_hash(Noise(folder, changed=change)) for change in (brighter, elsewhere, unreadable)),
    ]
    (folder / "3.png").write_bytes(b"another picture")  # not among those looked at
    others.append(data_hash(Noise(folder)))
    relabelled = Noise(folder)
    relabelled.label = lambda index: 0
    others.append(data_hash(relabelled))
    assert len({known, *others}) == len(others) + 1


@pytest.mark.parametrize(
    ("count", "places"),
    [
        (1, [0]),
        (5, [0, 1, 2, 3, 4]),
        (16, list(range(16))),
        (20, [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 19]),  # floor(i * 19 / 15)
    ],
)
def test_sixteen_samples_from_the_first_to_the_last_are_looked_at(folder, count, places):
    looked_at = []

    class Watched(Noise):
        def __getitem__(self, index):
            looked_at.append(index)
            return super().__getitem__(index)

    data_hash(Watched(folder, count=count))
    assert looked_at == places


def test_files_are_found_within_a_layout(folder):
    class Layout(Noise):
        def __init__(self, dataset):
            self.dataset = dataset

        def __len__(self):
            return 1

        def sample_id(self, index):
            return "all"

        def __getitem__(self, index):
            return self.dataset[0]

        def files(self):
            return self.dataset.files()

    known = data_hash(Layout(Noise(folder)))
    (folder / "3.png").write_bytes(b"another picture")
    assert data_hash(Layout(Noise(folder))) != known


def test_how_work_is_spread_decides_nothing():
    spread = {"devices": 4, "num_nodes": 2, "strategy": {"_target_": "x.Y", "timeout": 3}}
    root = {"seed": 0, "workers": 3, "trainer": {"precision": 16, **spread}}
    assert deciding_options(root) == {"seed": 0, "trainer.precision": 16}
    assert short_hash({"a": 1, "b": 2}) == short_hash({"b": 2, "a": 1}) != short_hash({"a": 1})


def test_code_of_the_users_own_is_part_of_the_record(tmp_path, monkeypatch, folder):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "my_method_of_the_record.py"
    file.write_text("class Mine: ...\n")
    root = {**ROOT, "method": {"_target_": "my_method_of_the_record.Mine"}}
    known = record_of(root, network(), Noise(folder))
    assert record_of(root, network(), Noise(folder)) == known
    file.write_text("class Mine: ...  # a comment\n")
    assert record_of(root, network(), Noise(folder)) == known
    file.write_text("class Mine: steps = 2\n")
    now = record_of(root, network(), Noise(folder))
    assert now["code"] != known["code"]
    assert {**now, "code": known["code"]} == known


RECORD = {"options": {"seed": 0, "method._target_": "a"}, "weights": "w", "data": "d", "code": "c",
          "versions": {"torch": "2"}}  # fmt: skip


def test_a_run_goes_on_under_the_same_record_only(tmp_path):
    run = RunRecord(tmp_path)
    run.begin(RECORD, processes=1, device="cpu", done=0)
    written = json.loads((tmp_path / "run.json").read_text())
    assert written["record"] == RECORD
    assert written["id"] == short_hash(RECORD)
    run.begin(RECORD, processes=3, device="cpu", done=7)
    facts = run.facts()
    assert (facts["record"], facts["times started"]) == (written["id"], "2")
    assert (facts["processes"], facts["device"], facts["torch"]) == ("1, 3", "cpu", "2")
    options = {"seed": 1, "method._target_": "a", "method.steps": 4}
    other = {**RECORD, "options": options, "weights": "v", "versions": {"torch": "3"}}
    with pytest.raises(ConfigError) as refused:
        run.begin(other, processes=1, device="cpu", done=7)
    for difference in (
        "seed was 0, is 1",
        "method.steps was 'absent', is 4",
        "weights was 'w', is 'v'",
        "versions.torch was '2', is '3'",
    ):
        assert difference in str(refused.value)
    assert "method._target_" not in str(refused.value)
    assert len(json.loads((tmp_path / "run.json").read_text())["sessions"]) == 2


def test_a_damaged_record_is_refused(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(BadData, match=r"run\.json is damaged"):
        RunRecord(tmp_path).facts()


def test_git_says_which_commit_and_whether_files_differ(tmp_path, monkeypatch):
    def git(*words):
        names = ["-c", "user.name=a", "-c", "user.email=b"]
        subprocess.run(["git", "-C", tmp_path, *names, *words], check=True, capture_output=True)

    monkeypatch.setattr("var_exp.runs.run_record._PACKAGE", tmp_path)
    record = RunRecord(tmp_path / "run")
    (tmp_path / "run").mkdir()

    def recorded():
        record.begin(RECORD, processes=1, device="cpu", done=0)
        return json.loads(record.path.read_text())["git"]

    assert recorded() is None
    (tmp_path / "types.py").write_text("one")
    (tmp_path / ".gitignore").write_text("run")
    git("init")
    assert recorded() is None  # a repository that is not the package's
    git("add", "types.py", ".gitignore")
    git("commit", "-m", "one")
    assert recorded()["changed"] is False
    (tmp_path / "types.py").write_text("two")
    assert recorded()["changed"] is True
    assert len(recorded()["commit"]) == 40
    assert record.facts()["git"].endswith(" with changes")


@pytest.fixture
def names():
    """Names of the folders of a run and of a sweep, by the overrides of the command line."""

    def named(*overrides, key="hydra.run.dir"):
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            words = ["title=t", *map(open_key, overrides)]
            cfg = compose("evaluate", overrides=words, return_hydra_config=True)
        cfg.hydra.runtime.choices = {"method": "gbp", "model": "m"}
        from hydra.core.hydra_config import HydraConfig

        monkey = HydraConfig.instance().cfg
        HydraConfig.instance().set_config(cfg)
        try:
            return str(cfg.hydra.run.dir if key == "hydra.run.dir" else cfg.hydra.sweep.dir)
        finally:
            HydraConfig.instance().cfg = monkey

    return named


def test_the_same_command_has_the_same_folder_however_it_is_spread(names):
    folder = names("method=ig")
    assert folder == names("method=ig", "trainer.devices=2", "workers=3", "trainer.strategy=ddp")
    assert folder == names("method=ig", "data.seed=0")  # its default, spelt out
    others = [names(*other) for other in (["method=gbp"], ["method=ig", "seed=1"],
              ["method=ig", "batch_size=4"], ["method=ig", "method.steps=3"])]  # fmt: skip
    assert len({folder, *others}) == 5


def test_a_sweep_is_named_by_what_was_asked_for(names):
    sweep = names("method=ig", "seed=1", key="sweep")
    assert sweep == names("seed=1", "method=ig", "workers=2", key="sweep")
    assert sweep != names("method=ig", key="sweep")
