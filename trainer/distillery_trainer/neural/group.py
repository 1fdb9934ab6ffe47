"""Processes that train together: the first one trains, the others add their part of each step's gradient.

The first process alone has the optimiser, the checkpoint and the say when to stop. Before a step it sends its weights
and after it gets the sum of all gradients: no process can drift from it, and after a kill nothing is left behind but
its checkpoint.
"""

import atexit
import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from distillery_trainer.neural.running import device
from distillery_trainer.store import processes

FIT, STOP, END = -1, -2, -3  # a fit begins; its training is over; there is no more fit. A number from 0 on is a step
WAIT = timedelta(days=7)  # others wait while the first one splits, validates and calibrates


@dataclass(frozen=True, slots=True)
class Group:
    """One process, this one, among `size` of them. In a group of one nothing is sent."""

    rank: int = 0
    size: int = 1

    def say(self, word: int) -> None:
        """Tells the others what comes next; the first process only."""
        self._spread(torch.tensor([word]))

    def receive(self) -> int:
        """What the first process says; all others only."""
        word = torch.tensor([END])
        self._spread(word)
        return int(word)

    def share(self, weights: Iterable[Tensor]) -> None:
        """Gives all the weights of the first process."""
        for weight in weights:
            self._spread(weight.detach())

    def gather(self, loss: float, weights: Iterable[Tensor]) -> float:
        """Adds up losses and gradients at the first process, and gives the sum of the losses there."""
        if self.size == 1:
            return loss
        for weight in weights:
            if weight.grad is None:  # it had no batch in this step
                weight.grad = torch.zeros_like(weight)
            dist.reduce(weight.grad, dst=0)
        total = torch.tensor([loss], dtype=torch.float64)
        dist.reduce(total, dst=0)
        return float(total)

    def _spread(self, tensor: Tensor) -> None:
        if self.size > 1:
            dist.broadcast(tensor, src=0)


@functools.cache
def join() -> Group:
    """The group that a launcher started this process in, or a group of one. On CUDA each takes a device of its own."""
    if processes.count() == 1:
        return Group()
    on_cuda = device().type == "cuda"
    if on_cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo", timeout=WAIT)
    atexit.register(_destroy)
    return Group(processes.rank(), processes.count())


def leave() -> None:
    """Leaves the group when every process has come to this point, and ends the threads that it started here.

    A thread of the group that still runs while the interpreter ends is ended by force, which aborts the process: a
    finished training would be reported as failed.
    """
    if join().size > 1:
        dist.barrier()
        _destroy()
        join.cache_clear()


def _destroy() -> None:
    """Closes connections and joins threads; at exit it does so for a process that failed on the way."""
    if dist.is_initialized():
        dist.destroy_process_group()
