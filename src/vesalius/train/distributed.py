"""Several processes as one: torchrun starts them, gradients are summed, the first one writes.

Each process runs the same program on its own blocks of the global batch. Either every process
holds the whole model and gradients are summed over them (ddp), or weights, averages and optimiser
state are divided among them (fsdp; PyTorch's `fully_shard`), for models too large for one device.
"""

import atexit
import copy
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from vesalius.errors import VesaliusError

BUCKET_BYTES = 2**26  # gradients of so many bytes are summed in one call
# The others wait while the first process encodes a whole set.
PATIENCE = timedelta(hours=12)


def join(device: str) -> str:
    """Join the processes that torchrun started, if it did; return the device of this one.

    `cuda` becomes the device that torchrun assigns, such as `cuda:1`.
    """
    kind = torch.device(device).type
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    if kind == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
        atexit.register(_leave)
    return device


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process among its peers; 0 writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def any_rank(flag: bool) -> bool:
    """Whether `flag` holds in any process: the same answer in all of them.

    Asked on the host: no device is waited for.
    """
    if world_size() == 1:
        return flag
    asked = torch.tensor(int(flag))
    dist.all_reduce(asked, dist.ReduceOp.MAX)
    return bool(asked)


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean of `values` over all processes."""
    if world_size() > 1:
        dist.all_reduce(values)
        values /= world_size()
    return values


def on_first_rank(work: Callable[[], object]) -> None:
    """Do `work` in the first process while the others wait.

    What it raises is raised there; the others raise VesaliusError instead of waiting for ever.
    """
    failure: BaseException | None = None
    if rank() == 0:
        try:
            work()
        except BaseException as error:
            failure = error
    if any_rank(failure is not None):
        raise failure or VesaliusError("the first process failed: its message says why")


@torch.no_grad()
def share_weights(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the first one's weights."""
    if world_size() > 1:
        for parameter in parameters:
            if not isinstance(parameter, DTensor):
                dist.broadcast(parameter.data, 0)


def sum_over_ranks(values: Tensor) -> Tensor:
    """`values` summed over all processes, in place."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def shared_bytes(own: bytes) -> bytes:
    """The first process's bytes, in every one; as many in each."""
    if world_size() == 1:
        return own
    values = torch.tensor(list(own), dtype=torch.uint8)
    dist.broadcast(values, 0)
    return bytes(values.tolist())


@torch.no_grad()
def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum the gradients over all processes, in buckets; shards have been summed already."""
    if world_size() == 1:
        return
    work = []
    for bucket in _buckets(p for p in parameters if not isinstance(p, DTensor)):
        # A weight that no block here used may have been used elsewhere: its sum is needed.
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        work.append((bucket, gradients, flat, dist.all_reduce(flat, async_op=True)))
    for bucket, gradients, flat, sent in work:
        sent.wait()
        parts = flat.split([gradient.numel() for gradient in gradients])
        for parameter, gradient, part in zip(bucket, gradients, parts, strict=True):
            parameter.grad = gradient.copy_(part.view(gradient.shape))


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    for parameter in (p for p in parameters if p.requires_grad):
        if bucket and (
            parameter.dtype != bucket[0].dtype or sum(p.nbytes for p in bucket) > BUCKET_BYTES
        ):
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket


def shard(module: nn.Module, parts: list[nn.Module]) -> Callable[[], nn.Module]:
    """Divide the weights of `parts`, called one by one in `module`, among all processes, in place.

    Returns a function that gives a copy of `module` with whole weights on the CPU, for saving; all
    processes must call it.
    """
    # Everything but the weights: they are put in when the copy is asked for.
    holes = {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in module.parameters()}
    hollow = copy.deepcopy(module, holes)
    for part in parts:
        part.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        for block in (*_blocks(part), part):
            # The outermost too: weights left gathered would outlive their exchange for averages.
            fully_shard(block, reshard_after_forward=True)
    for block in module.modules():
        if isinstance(block, FSDPModule):
            # Losses are divided already, so gradients are summed; Gloo knows no scaled sum.
            block.set_gradient_divide_factor(1.0)
            block.set_force_sum_reduction_for_comms(True)

    def whole() -> nn.Module:
        copied = copy.deepcopy(hollow)
        values = {name: full(value) for name, value in module.state_dict().items()}
        copied.load_state_dict(values, assign=True)
        return copied

    return whole


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The members of the outermost lists of modules: what is gathered and let go together."""
    for child in module.children():
        yield from child if isinstance(child, nn.ModuleList) else _blocks(child)


def full(value: Tensor) -> Tensor:
    """The whole of a tensor that may be divided among processes, on the CPU, contiguous."""
    whole = value.full_tensor() if isinstance(value, DTensor) else value
    return whole.detach().cpu().contiguous()


@torch.no_grad()
def fill(target: Tensor, whole: Tensor) -> None:
    """Copy a whole tensor into `target`, or this process's part of it into its shard."""
    if isinstance(target, DTensor):
        device = target.to_local().device
        whole = distribute_tensor(whole.to(device), target.device_mesh, target.placements)
    target.copy_(whole)
