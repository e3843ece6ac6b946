"""Whether all maps are there that a run on saved maps will ask for, before the work."""

from itertools import chain

from var_exp.data.datamodule import SampleModule
from var_exp.methods.saved import Saved
from var_exp.modules.attribution import AttributionModule
from var_exp.runs.experiment import Experiment
from var_exp.types import PREDICTED, Batch


def check_stored(
    experiment: Experiment,
    method: Saved,
    module: AttributionModule,
    batch_size: int,
    workers: int | None,
) -> None:
    """Refuse a folder that lacks a map; nothing is attributed.

    Which classes compete on a picture may hang on its logits, so this takes a forward pass for
    each, once all samples are known to have the map of their label.

    Raises:
        BadData: it names the first of the missing maps.
    """
    dataset = experiment.dataset
    if dataset.members is None:
        labels = [(dataset.sample_id(i), dataset.label(i)) for i in range(len(dataset))]
        method.refuse_missing(pair for pair in labels if pair[1] != PREDICTED)
    wanted: list[tuple[str, int]] = []
    loader = SampleModule(dataset, experiment.spec, batch_size, workers).test_dataloader()
    for batch in chain.from_iterable(loader):
        if isinstance(batch, Batch):  # what cannot be read is for the run to say
            _, classes, _ = module.competing(batch.to(module.device), controls=False)
            rows = zip(batch.ids, classes.tolist(), strict=True)
            wanted += [(name, label) for name, labels in rows for label in labels]
    method.refuse_missing(wanted)
