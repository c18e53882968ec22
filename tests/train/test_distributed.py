"""Two processes under torchrun, with Gloo on the CPU."""

import json

import line_method
import pytest
import torch
from line_method import Line, final_tensors, losses, plan
from safetensors.torch import load_file
from tests.small import in_two_processes

from vesalius.train.checkpoint import newest_checkpoint
from vesalius.train.loop import train


def torchrun(folder, plans, *arguments):
    """Run `line_method` in two processes; plans: name -> changes of the plan."""
    return in_two_processes(line_method.__file__, folder, json.dumps(plans), *arguments)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Runs that took the whole way in two processes."""
    folder = tmp_path_factory.mktemp("two")
    plans = {
        "ddp": {"micro": 4},
        "accumulated": {"micro": 2},
        "sharded": {"micro": 4, "distributed": "fsdp"},
    }
    done = torchrun(folder, plans)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(("name", "micro"), [("ddp", 4), ("accumulated", 2), ("sharded", 4)])
def test_one_and_two_processes_have_the_same_losses_and_weights(two, tmp_path, name, micro):
    train(Line(), plan(micro=micro), tmp_path)
    torch.testing.assert_close(losses(two / name), losses(tmp_path), rtol=1e-5, atol=1e-6)
    ours, theirs = final_tensors(tmp_path), final_tensors(two / name)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


def test_sharded_weights_are_saved_whole(two):
    saved = load_file(two / "sharded" / "best" / "model.safetensors")
    whole = Line().module.state_dict()
    assert {name: value.shape for name, value in saved.items()} == {
        name: value.shape for name, value in whole.items()
    }
    assert torch.equal(saved["frozen.weight"], whole["frozen.weight"])


@pytest.mark.slow
@pytest.mark.ci
def test_two_processes_killed_and_resumed_equal_a_straight_run_to_the_bit(two, tmp_path):
    # step 13 has two blocks in each process: the 25th call
    plans = {"accumulated": {"micro": 2}}
    killed = torchrun(tmp_path, plans, "25")
    assert killed.returncode != 0
    newest = newest_checkpoint(tmp_path / "accumulated" / "checkpoints")
    assert newest is not None
    assert newest.state["seen_images"] == 80
    done = torchrun(tmp_path, plans)
    assert done.returncode == 0, done.stderr
    straight, resumed = (final_tensors(folder / "accumulated") for folder in (two, tmp_path))
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert losses(tmp_path / "accumulated") == losses(two / "accumulated")
