import hashlib
import os
import signal
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import line_method
import pytest
import torch
from line_method import Line, events, final_tensors, losses, plan
from PIL import Image
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from vesalius.errors import VesaliusError
from vesalius.train.checkpoint import newest_checkpoint
from vesalius.train.loop import open_run, take_step, train
from vesalius.train.session import Session


def weights_hash(out):
    """Of all trained weights, averages and optimiser state of the last checkpoint."""
    digest = hashlib.sha256()
    for name, value in sorted(final_tensors(out).items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def test_twenty_steps_equal_ten_a_kill_and_ten_more_to_the_bit(tmp_path):
    straight = train(Line(), plan(), tmp_path / "straight").best
    # a real kill in step 13: two whole steps after the checkpoint are lost
    killed = subprocess.run(
        [sys.executable, line_method.__file__, str(tmp_path), '{"killed": {}}', "13"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    newest = newest_checkpoint(tmp_path / "killed" / "checkpoints")
    assert newest is not None
    assert newest.state["seen_images"] == 80
    resumed = train(Line(), plan(), tmp_path / "killed", Session(resume=True)).best
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "straight")
    best, other = (load_file(folder / "model.safetensors") for folder in (straight, resumed))
    assert all(torch.equal(best[name], other[name]) for name in best)
    assert losses(tmp_path / "killed") == losses(tmp_path / "straight")


def test_a_run_that_is_stopped_saves_and_says_how_to_go_on(tmp_path):
    train(Line(), plan(), tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt, match="56 images: saved, continue with --resume"):
        train(Line(stop_at=7), plan(), tmp_path / "stopped")
    train(Line(), plan(), tmp_path / "stopped", Session(resume=True))
    assert weights_hash(tmp_path / "stopped") == weights_hash(tmp_path / "straight")


def test_a_run_that_is_cut_short_before_its_first_validation_has_a_result(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(Line(stop_at=2), plan(validate_images=1000), tmp_path)
    shorter = plan(seen_images=16, validate_images=1000)
    done = train(Line(), shorter, tmp_path, Session(resume=True))
    assert (done.best / "model.safetensors").is_file()
    assert done.state.best_loss is not None


def test_a_thread_may_train(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(train, Line(), plan(), tmp_path).result()
    assert done.best.is_dir()


def test_it_learns_logs_and_keeps_the_best_and_the_last_checkpoints(tmp_path):
    settings = plan(seen_images=1600, keep_checkpoints=3)
    best = train(Line(), settings, tmp_path).best
    validated = [event["validation"]["loss"] for event in events(tmp_path) if "validation" in event]
    assert len(validated) == 40
    assert min(validated) < 0.1 * validated[0]
    rebuilt = Line()
    rebuilt.module.load_state_dict(load_file(best / "model.safetensors"))
    rebuilt.module.eval()
    assert rebuilt.validate(rebuilt.module)["loss"] == pytest.approx(min(validated))
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["0000001440", "0000001520", "0000001600"]


def test_a_finished_run_is_not_trained_again_and_not_overwritten(tmp_path):
    train(Line(), plan(), tmp_path)
    method = Line()
    train(method, plan(), tmp_path, Session(resume=True))
    assert method.steps == 0
    with pytest.raises(VesaliusError, match="--resume"):
        train(Line(), plan(), tmp_path)


def test_only_what_is_trained_is_stored_and_changed(tmp_path):
    method = Line()
    before = method.module.frozen.weight.clone()
    train(method, plan(), tmp_path)
    assert torch.equal(method.module.frozen.weight, before)
    assert not [name for name in final_tensors(tmp_path) if "frozen" in name]


def test_accumulated_micro_batches_take_the_step_of_the_whole_batch():
    class Plain(Line):
        """Nothing random within a batch: only how its gradients are put together can differ."""

        def loss(self, rows, draw):
            x = self.x[rows]
            return {"loss": (self.module(x) - 2 * x).square().mean()}

    def step(micro):
        method = Plain()
        method.module.dropout.p = 0.0
        run = open_run(method, plan(micro=micro, clip_norm=0.1), Path(os.devnull).parent, Session())
        means = take_step(run)
        return means, {name: weight.detach() for name, weight in run.weights.items()}

    means, whole = step(None)
    for micro in (4, 2, 1):
        others, weights = step(micro)
        torch.testing.assert_close(others, means)
        torch.testing.assert_close(weights, whole)


def test_blocks_have_their_own_draws_and_every_step_other_rows(tmp_path):
    class Listening(Line):
        heard: list

        def loss(self, rows, draw):
            self.heard.append((rows.tolist(), draw.initial_seed()))
            return super().loss(rows, draw)

    heard = {}
    for micro in (8, 4):
        method = Listening()
        method.heard = heard[micro] = []
        train(method, plan(micro=micro, seen_images=16), tmp_path / str(micro))
    joined = [[*heard[4][k][0], *heard[4][k + 1][0]] for k in (0, 2)]
    assert joined == [rows for rows, _ in heard[8]]
    assert joined[0] != joined[1]
    assert len({seed for _, seed in heard[4]}) == 4


def test_nothing_in_a_step_waits_for_the_device(tmp_path):
    """Reading a number of the device would make it idle while the next step is prepared."""
    waits = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten._local_scalar_dense.default:
                callers = [frame.filename for frame in traceback.extract_stack()]
                # the optimiser of a CPU reads its own step counts; the fused one of a GPU does not
                if not any("torch/optim" in name for name in callers):
                    waits.append(callers[-3:])
            return function(*args, **(kwargs or {}))

    run = open_run(Line(), plan(micro=4), tmp_path, Session())
    with Watch():
        take_step(run)
        assert waits == []
        torch.ones(()).item()
    assert len(waits) == 1, "the watch does not see a number that is read"


@pytest.mark.gpu
def test_nothing_in_a_step_waits_for_a_gpu(tmp_path):
    method = Line()
    method.module.to("cuda")
    method.x = method.x.to("cuda")

    def loss(rows, draw):
        x = method.x[rows.to("cuda", non_blocking=True)]
        return {"loss": (method.module(x) - 2 * x).square().mean()}

    method.loss = loss
    run = open_run(method, plan(micro=4), tmp_path, Session())
    take_step(run)  # the first may set things up
    torch.cuda.set_sync_debug_mode("error")
    try:
        take_step(run)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.slow
@pytest.mark.ci
def test_a_compiled_run_has_the_same_weights_by_name(tmp_path):
    def method():
        line = Line()
        line.module.dropout.p = 0.0  # compiled code draws other masks
        return line

    train(method(), plan(), tmp_path / "eager")
    train(method(), plan(compile=True), tmp_path / "compiled")
    eager, compiled = final_tensors(tmp_path / "eager"), final_tensors(tmp_path / "compiled")
    assert eager.keys() == compiled.keys()
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, atol=1e-4, rtol=1e-3)


def test_auto_compiles_nothing_for_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **__: pytest.fail("compiled"))
    train(Line(), plan(compile="auto"), tmp_path)


@pytest.mark.parametrize("changes", [{"checkpoint_images": 40}, {"validate_images": 8}])
def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(tmp_path, changes):
    # a checkpoint falls due on the very step whose loss is poisoned: it must not be written
    with pytest.raises(VesaliusError, match="loss is not finite after 80 images: lower"):
        train(Line(poison_at=10), plan(**({"checkpoint_images": 40} | changes)), tmp_path)
    newest = newest_checkpoint(tmp_path / "checkpoints")
    assert newest is not None
    assert newest.state["seen_images"] == 40
    best = load_file(tmp_path / "best" / "model.safetensors")
    assert all(value.isfinite().all() for value in best.values())


def test_a_validation_loss_that_is_not_finite_is_told_too(tmp_path):
    method = Line()
    method.validate = lambda module: {"loss": float("nan")}
    with pytest.raises(VesaliusError, match="validation loss is not finite"):
        train(method, plan(), tmp_path)


def test_samples_are_drawn_with_the_averaged_weights_without_dropout(tmp_path):
    method, seen = Line(), []

    def sample(module):
        seen.append((module.training, module.last.weight.clone()))
        return [Image.new("RGB", (16, 16))] * 3

    method.sample = sample
    train(method, plan(sample_images=80), tmp_path)
    sheets = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert sheets == ["0000000080.png", "0000000160.png"]
    assert [training for training, _ in seen] == [False, False]
    assert torch.equal(seen[-1][1], final_tensors(tmp_path)["average.16.last.weight"])
    assert method.module.training  # the method's own mode is back


def test_a_method_has_a_word_after_each_step(tmp_path):
    method = Line()

    def clamp():
        method.module.last.bias.data.zero_()

    method.after_step = clamp
    train(method, plan(), tmp_path)
    assert not final_tensors(tmp_path)["model.last.bias"].any()
