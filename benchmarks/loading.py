"""How much of a guided backpropagation run goes to loading pictures.

Makes JPEG files of the size of ImageNet's, runs `data=folder` over them the way `evaluate.py` does,
with and without the loader processes, and measures in the same run how long the model waits for its
batches. A second figure says what looking at the heads of many files costs before a run.

    python benchmarks/loading.py                     # ResNet-50, 2 workers
    python benchmarks/loading.py --model vit_b16 --pictures 64 --batch-size 8
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import var_exp
from var_exp.data.datamodule import SampleModule
from var_exp.data.folder import PictureFolder
from var_exp.data.unreadable import unreadable
from var_exp.models import input_spec


def make_pictures(folder: Path, count: int) -> None:
    """Noisy photographs of 500 x 375 px, about 100 KB each as ImageNet's."""
    random = np.random.default_rng(0)
    for index in range(count):
        small = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8))
        smooth = np.asarray(small.resize((500, 375), Image.Resampling.BICUBIC)).astype(int)
        pixels = (smooth + random.integers(-20, 21, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:05}.jpg", quality=90)


def main() -> None:
    """Print one line for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--competing", type=int, default=4)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    model = var_exp.load_model(options.model, pretrained=False).to(options.device)
    spec, method, refine = input_spec(model), var_exp.get_method("gbp"), var_exp.VAR()

    def attribute(images: torch.Tensor) -> None:
        with torch.no_grad():
            classes = model(images).topk(options.competing).indices
        refine(method.attribute(model, images, classes)).sum().item()  # waits for the device

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pictures(folder, options.pictures)
        kilobytes = sum(file.stat().st_size for file in folder.iterdir()) / options.pictures / 1e3
        print(
            f"{options.model} on {options.device}, {options.pictures} JPEGs of {kilobytes:.0f} KB"
        )
        data = PictureFolder(name, spec, num_classes=1000)
        attribute(torch.zeros(options.batch_size, 3, spec.size, spec.size, device=options.device))
        for workers in (0, 2):
            batches = iter(SampleModule(data, spec, options.batch_size, workers).test_dataloader())
            waited, started = 0.0, time.perf_counter()
            while True:
                before = time.perf_counter()
                loaded = next(batches, None)
                waited += time.perf_counter() - before
                if loaded is None:
                    break
                for batch in loaded:
                    attribute(batch.images.to(options.device))
            total = time.perf_counter() - started
            print(
                f"workers={workers}: {1e3 * total / options.pictures:6.1f} ms a picture, "
                f"{waited / total:6.1%} of it waiting for pictures"
            )
        files = [data.files[0][0]] * 5000
        started = time.perf_counter()
        unreadable(files, "fail")
        each = (time.perf_counter() - started) / len(files)
        print(f"heads of files: {1e6 * each:.0f} us each, {50_000 * each:.1f} s for 50,000")


if __name__ == "__main__":
    main()
