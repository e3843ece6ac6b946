"""Which cell of a feature map changes most where the picture is changed, cell by cell."""

import torch


def farthest_answer(model, target, image):
    """How far the farthest answer lies, with every cell of the image changed by itself."""

    def features(picture):
        runs = []
        layer = model.get_submodule(target.name)
        handle = layer.register_forward_hook(lambda _m, _i, output: runs.append(output))
        with torch.no_grad():
            model(picture)
        handle.remove()
        return target.to_map(runs[target.run])

    (h, w), (height, width) = target.grid, image.shape[2:]
    before, worst = features(image), 0
    stream = torch.Generator().manual_seed(1)
    for i in range(h):
        for j in range(w):
            picture = image.clone()
            area = picture[..., i * height // h : (i + 1) * height // h, :]
            area = area[..., j * width // w : (j + 1) * width // w]
            area += torch.randn(area.shape, generator=stream)
            most = int((features(picture) - before).square().sum(1).argmax())
            worst = max(worst, abs(most // w - i), abs(most % w - j))
    return worst
