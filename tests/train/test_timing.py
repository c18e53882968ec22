"""How long a training takes, added up from its parts."""

import time

from vesalius.config import Optimisation
from vesalius.train.timing import Duration, Timed, Watch, events, quick_plan

PLAN = Optimisation(
    seen_images=1000, batch=8, lr=1e-3, validate_images=300, checkpoint_images=500,
    validation_size=20,
)  # fmt: skip


def test_parts_are_added_up():
    took = Duration("cpu")
    took.add("encoding", 60)
    took.add_run("", Timed((2.0,), 0.5, 10.0), PLAN, (1000,), 12)
    # 125 steps, 4 validations of 12 images, 2 checkpoints
    assert took.parts == {"encoding": 60, "steps": 250, "validation": 24, "checkpoints": 20}
    assert str(took).startswith("about 5.9 min on cpu (steps 4.2 min, encoding 1 min, ")


def test_a_run_validates_at_its_end_too():
    assert (events(PLAN, 300), events(PLAN, 500), events(PLAN, 5000)) == (4, 2, 1)


def test_the_first_batch_is_not_counted():
    watch = Watch()
    with watch("encoding") as count:
        time.sleep(0.2)
        for done in (8, 16):
            count(done, 16)
    assert watch.each < 0.01


def test_a_step_that_is_timed_is_short():
    assert quick_plan(PLAN, 1e11, "cpu").batch == 3
    assert quick_plan(PLAN, 1e9, "cpu").batch == 8
    assert quick_plan(PLAN, 1e11, "cuda").batch == 8
