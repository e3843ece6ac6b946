"""What is asked of the hub of Hugging Face, with an answer within seconds."""

from pickle import UnpicklingError

import huggingface_hub

ANSWER_SECONDS = 4.0  # time the hub has for its first answer
WAYS_OUT = (
    "give a local file with model.checkpoint=PATH, take random weights with "
    "model.pretrained=false, or use a model whose weights come with a package "
    "(model=critters_cnn; ImageNet's classes: model=efficientnet_lite2)"
)


def answered(repository: str, filename: str) -> None:
    """Ask whether a file is there; raises one of the client's many errors where it is not."""
    url = huggingface_hub.hf_hub_url(repository, filename)
    huggingface_hub.get_hf_file_metadata(url, timeout=ANSWER_SECONDS)


def from_hub(repository: str, filename: str) -> str:
    """Local path of a hub file, downloaded with a progress bar unless it is in the cache.

    timm would ask the hub about cached files too, and repeat its questions for most of a minute
    where there is no network.
    """
    cached = huggingface_hub.try_to_load_from_cache(repository, filename)
    if isinstance(cached, str):
        return cached
    answered(repository, filename)
    path: str = huggingface_hub.hf_hub_download(repository, filename)
    return path


def in_short(error: BaseException) -> str:
    """The first words of an error, for a sentence."""
    if isinstance(error, UnpicklingError):  # torch's own text fills a page
        return (
            "it is no file that holds weights alone; if you trust who made it, "
            "model.trust_pickle=true runs the code in it"
        )
    return " ".join(str(error).split())[:200].rstrip(" .") or type(error).__name__
