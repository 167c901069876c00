"""A training run to its end: a progress bar, and the state saved from time to time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from .training import Training

_AVERAGED = 50  # steps, in the running mean of the loss that is shown


def run_to_end(
    training: Training,
    state: Path,
    *,
    label: str,
    steps: int,
    save_every: int,
    after_step: Callable[[Training, list[float]], None] = lambda training, losses: None,
    before_end: Callable[[], None] = lambda: None,
) -> None:
    """Do the steps that are left; a run that was stopped goes on from the file `state`, which goes when all is done.

    Args:
        training: at its start; restored if there is a `state`.
        label: what the progress bar is called.
        steps: of the whole run.
        save_every: steps from one saved state to the next; what came after the last one is lost when a run is stopped.
        after_step: called with the training and the losses of its models after each step.
        before_end: called when all is done, before `state` goes.
    """
    if state.exists():
        training.restore(state)
    mean = 0.0
    with tqdm(total=steps, initial=training.step, desc=label, mininterval=10) as bar:
        for done, losses in enumerate(training.run()):
            mean += (sum(losses) / len(losses) - mean) / min(done + 1, _AVERAGED)
            bar.set_postfix(loss=f"{mean:.3f}", refresh=False)
            bar.update()
            after_step(training, losses)
            if training.step % save_every == 0:
                training.save(state)
    before_end()
    state.unlink(missing_ok=True)
