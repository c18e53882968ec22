"""Run by torchrun: noise of steps without gradients, and sums of steps with some, of two processes.

`private_steps.py OUT` writes OUT/<rank>.safetensors.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.append(str(Path(__file__).parents[1]))

from private_gradients import SIZES, Rows, audited_gradient, gradient_of, trained, weights_of

from vesalius.train.distributed import join, rank, sum_over_ranks
from vesalius.train.privacy.accountant import Mechanism
from vesalius.train.privacy.canaries import KEPT
from vesalius.train.privacy.gradient import new_secret


def main(out):
    torch.set_num_threads(1)
    join("cpu")
    method = Rows(sum(SIZES))
    weights = weights_of(method)
    gradient = gradient_of(method, noise_draws=2)
    sums = [sum_over_ranks(gradient.clipped_sum(weights, step)) for step in range(3)]
    gradient = gradient_of(
        method, mechanism=Mechanism(1.5, 0.6, 9), secret=(secret := new_secret())
    )
    method.empty = set(range(sum(SIZES)))
    noise = []
    for step in range(40):
        gradient(weights, step, None)
        noise.append(torch.cat([p.grad.flatten() for p in weights.values()]))
    audited = trained(audited_gradient())
    seen = audited.kept[KEPT]
    tensors = {"canaries": torch.tensor([seen["inside"], seen["scores"]], dtype=torch.float64)}
    tensors |= {"sums": torch.stack(sums), "noise": torch.stack(noise)}
    tensors["secret"] = torch.tensor(list(bytes.fromhex(secret)), dtype=torch.uint8)
    save_file(tensors, Path(out) / f"{rank()}.safetensors")


if __name__ == "__main__":
    main(sys.argv[1])
