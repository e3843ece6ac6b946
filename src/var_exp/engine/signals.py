"""Which tensors of a forward pass are signals: those that depend on the image.

All others, weights and what is computed from them, are constants. Parameters are frozen, so that a
signal is what asks for a gradient.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from var_exp.engine.calls import QUERY_CALLS, Call, Calls
from var_exp.types import UnsupportedModel


def signals_of(call: Call) -> list[Tensor]:
    """Tensors of a call that depend on the image."""
    return [tensor for tensor in call.tensors if tensor.requires_grad]


class Signals(Calls, ABC):
    """Lets `follow` answer every call of signals, and refuses signals that it has not seen made."""

    opens_attention: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self._known = WeakTensorKeyDictionary()

    @contextmanager
    def watch(self, leaf: Tensor) -> Iterator[None]:
        """Watch a forward pass that starts at the leaf."""
        self.note([leaf])
        with self:
            yield

    def note(self, results: Sequence[Any]) -> None:
        """Note the signals among the results of a call."""
        for result in results:
            if isinstance(result, Tensor) and result.requires_grad:
                self._known[result] = True

    def is_signal(self, tensor: Tensor) -> bool:
        """Whether a tensor depends on the image.

        Raises:
            UnsupportedModel: it does, but is no result of a call that was seen.
        """
        if tensor in self._known:
            return True
        if tensor.requires_grad:
            raise self.unseen()
        return False

    def answer(self, call: Call) -> Any:
        """Result of a call: what `follow` makes of it where it is one of signals."""
        if call.name in QUERY_CALLS:
            return call.run()
        signals = [tensor for tensor in call.tensors if self.is_signal(tensor)]
        return self.follow(call, signals) if signals else call.run()

    @abstractmethod
    def follow(self, call: Call, signals: list[Tensor]) -> Any:
        """Result of a call of signals; the calls made in here are not seen again."""

    @abstractmethod
    def unseen(self) -> UnsupportedModel:
        """Error for a signal that no call made which was seen."""
