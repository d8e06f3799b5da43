"""What a run tells of its steps: a row of the terminal and of curves at a time.

The terminal (`terminal.py`) gets few lines, for a person; the workdir's
`train.log` (`log_file.py`) has what libraries log; TensorBoard's files
(`curves.py`) lie beside it.
"""

import dataclasses
import importlib.util
import math
import time
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import numpy as np

from coatnet_jax.errors import UserError
from coatnet_jax.strict_json import is_finite
from coatnet_jax.terminal import Terminal, format_seconds
from coatnet_jax.training.curves import WRITERS, CurveWriter
from coatnet_jax.training.finite import describe_names, find_not_finite
from coatnet_jax.values import OneOf, Options, Range

# The time left is first estimated after this many steps.
STEPS_BEFORE_ESTIMATE = 10
# Steps that wait for their images for a larger part of the time are worth a
# word, once this many seconds have shown it.
_MAX_DATA_WAIT = 0.05
_SECONDS_BEFORE_ADVICE = 30.0
# Metrics of which a row has the mean over its steps, and not the last step's.
_MEANS = frozenset({'loss', 'top1'})


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggingOptions(Options, section='config.logging'):
  """How much is logged; see configs/base.py."""

  writers: tuple[Annotated[str, OneOf(WRITERS)], ...]
  every_steps: Annotated[int, Range(at_least=1, at_most=2**31 - 1)]
  image_grid_size: Annotated[int, Range(at_least=0, at_most=10_000)]
  profile_at_step: Annotated[int, Range(at_least=0, at_most=2**31 - 1)]
  profile_num_steps: Annotated[int, Range(at_least=1, at_most=10_000)]
  report: bool

  def check(self) -> None:
    """Raises UserError for a writer whose package is not there."""
    if 'wandb' in self.writers and importlib.util.find_spec('wandb') is None:
      raise UserError(
        "config.logging.writers has 'wandb', and the package wandb is not"
        ' installed: `pip install wandb`, or leave it out.'
      )

  @property
  def has_pictures(self) -> bool:
    """Whether something that pictures are written to is to have them."""
    return self.image_grid_size > 0 and not {'tensorboard', 'wandb'}.isdisjoint(
      self.writers
    )

  def check_steps(self, num_steps: int) -> None:
    """Raises UserError for a profile of a step that a run does not take."""
    if self.profile_at_step > num_steps:
      raise UserError(
        f'config.logging.profile_at_step is {self.profile_at_step}; it must be'
        f' one of the {num_steps:,} steps of the run, or 0.'
      )


class DivergenceError(UserError):
  """A number of a step, or of the state after it, is not finite.

  Attributes:
    problem: sentence that says what and when.
    step: step in which it was noticed.
  """

  def __init__(self, problem: str, step: int = 0, found: str = ''):
    """Adds what to do to what is known.

    Args:
      problem: sentence that says what is not finite, and when.
      step: step in which it was noticed.
      found: further sentences about where it begins, perhaps none.
    """
    advice = (
      'Nothing of it was saved; a lower learning rate, more warm-up or a'
      ' smaller config.optimizer.clip_norm may help.'
    )
    super().__init__(' '.join(filter(None, (problem, found, advice))))
    self.problem, self.step = problem, step


class TrainingLog:
  """Collects the metrics of every step, and reports a row of them at a time."""

  def __init__(
    self,
    writer: CurveWriter,
    terminal: Terminal,
    *,
    options: LoggingOptions,
    first_step: int,
    num_steps: int,
    global_batch_size: int,
    max_skipped: int = 0,
    skipped_before: int = 0,
    num_workers: int = 0,
  ):
    """Starts with no step taken.

    Args:
      writer: writer of TensorBoard's curves.
      terminal: terminal that the lines are written to.
      options: how often lines are written, and what else is.
      first_step: number of steps taken by earlier processes.
      num_steps: number of steps of the whole run.
      global_batch_size: number of examples per step.
      max_skipped: number of steps that may be skipped in the whole run; with 0,
        steps don't say whether they were.
      skipped_before: number of steps that earlier processes skipped.
      num_workers: number of processes that prepare images, for advice.
    """
    self._writer = writer
    self._terminal = terminal
    self._options = options
    self._first_step = first_step
    self._num_steps = num_steps
    self._global_batch_size = global_batch_size
    self._max_skipped = max_skipped
    self._skipped_before = skipped_before
    self._skipped = 0
    self._last: dict[str, float] = {}
    self._pending: list[tuple[int, Mapping[str, jax.Array]]] = []
    self._num_workers = num_workers
    self._seconds_in_steps = 0.0
    self._steps_timed = 0
    self._row_wait = 0.0
    self._is_wait_said = False
    self._first_row_seconds: float | None = None
    self._seconds_waited = 0.0  # After the first row.
    self.start_clock()
    self._start = self._row_start

  @property
  def progress(self) -> dict[str, float]:
    """Examples, seconds, seconds in steps, and skipped steps, as reported."""
    return {
      'examples': self._steps_timed * self._global_batch_size,
      'seconds': time.monotonic() - self._start,
      'seconds_in_steps': self._seconds_in_steps,
      'skipped_steps': self._skipped,
    }

  @property
  def seconds_per_step(self) -> float:
    """Mean time of the steps reported; 0 before the first report."""
    return self._seconds_in_steps / max(self._steps_timed, 1)

  def start_clock(self) -> None:
    """Begins the time of the next row here, after a pause."""
    self._row_start = time.monotonic()

  def is_due(self, step: int) -> bool:
    """Returns whether a row is due after a step; an early one for the ETA."""
    early = step == self._first_step + STEPS_BEFORE_ESTIMATE
    return early or step % self._options.every_steps == 0

  def add(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
    """Keeps a step's metrics, device scalars, without waiting for them."""
    self._pending.append((step, metrics))

  def add_wait(self, seconds: float) -> None:
    """Adds time in which devices had no step, for want of images.

    Args:
      seconds: seconds of the row that is not reported yet.
    """
    self._row_wait += seconds

  def report(self) -> None:
    """Waits for the steps added so far and reports them as one row.

    Raises:
      DivergenceError: a step's loss, gradient or parameters are not finite, and
        it was not skipped, or too many were.
    """
    if not self._pending:
      return
    rows = [
      (step, {name: float(value) for name, value in metrics.items()})
      for step, metrics in jax.device_get(self._pending)
    ]
    seconds = time.monotonic() - self._row_start
    self._pending = []
    # Steps that were skipped are in no mean.
    taken = [metrics for step, metrics in rows if self._is_taken(step, metrics)]
    self._seconds_in_steps += seconds
    self._steps_timed += len(rows)

    step, loss = rows[-1][0], math.nan
    rate = len(rows) * self._global_batch_size / max(seconds, 1e-9)
    per_device = rate / jax.device_count()
    data_wait = min(self._row_wait / max(seconds, 1e-9), 1.0)
    scalars = {
      'speed/images_per_second': rate,
      'speed/images_per_second_per_device': per_device,
      'speed/data_wait': data_wait,
    }
    if self._max_skipped:
      scalars['train/skipped_steps'] = self._count_skipped()
    if taken:
      self._last = taken[-1]
      scalars |= {f'train/{name}': value for name, value in taken[-1].items()}
      for name in _MEANS.intersection(taken[-1]):
        scalars[f'train/{name}'] = float(np.mean([m[name] for m in taken]))
      loss = scalars['train/loss']
    self._writer.write_scalars(step, scalars)
    elapsed = time.monotonic() - self._start
    left = elapsed / (step - self._first_step) * (self._num_steps - step)
    text = f'{rate:,.0f} images/s'
    if jax.device_count() > 1:
      text += f' ({per_device:,.0f} per device)'
    if step == self._first_step + STEPS_BEFORE_ESTIMATE:
      self._terminal.line(f'About {format_seconds(left)} to go at {text}.')
    self._terminal.moving_line(
      f'step {step:,}/{self._num_steps:,} ({step / self._num_steps:.0%})'
      f'  loss {loss:.3f}  {text}  data wait {data_wait:.0%}'
      f'  {format_seconds(left)} left',
      step / self._num_steps,
    )
    self._advise_on_wait()
    self.start_clock()

  def _advise_on_wait(self) -> None:
    """Says once what to do where steps wait long for images.

    The first row does not count, in which the first batches are made.
    """
    if self._first_row_seconds is None:
      self._first_row_seconds = self._seconds_in_steps
    else:
      self._seconds_waited += self._row_wait
    self._row_wait = 0.0
    seconds = self._seconds_in_steps - self._first_row_seconds
    share = self._seconds_waited / max(seconds, 1e-9)
    if seconds < _SECONDS_BEFORE_ADVICE or self._is_wait_said:
      return
    if share > _MAX_DATA_WAIT:
      self._is_wait_said = True
      by = (
        f'{self._num_workers} worker processes'
        if self._num_workers
        else 'threads of this process'
      )
      self._terminal.line(
        f'Steps wait {share:.0%} of the time for images, which {by} prepare: a'
        ' larger config.data.num_workers, prepared shards (docs/data.md) or'
        ' less augmentation may help.'
      )

  def _is_taken(self, step: int, metrics: dict[str, float]) -> bool:
    """Returns whether a step was taken, and not skipped.

    Args:
      step: number of the step.
      metrics: metrics of the step; loses 'skipped', where it has it.

    Raises:
      DivergenceError: it is not finite, and there are no more to be skipped.
    """
    was_skipped = metrics.pop('skipped', 0) > 0
    if not was_skipped and is_finite(metrics):
      return True
    shown = ', '.join(
      f'{name.replace("_", " ")} {value:.4g}' for name, value in metrics.items()
    )
    self._skipped += was_skipped
    count = self._count_skipped()
    if was_skipped and count <= self._max_skipped:
      self._terminal.line(
        f'step {step:,}: skipped, as it is not finite ({shown}); {count:,} of'
        f' at most {self._max_skipped:,}'
      )
      return False
    more = f' {count - 1:,} steps were skipped before.' * was_skipped
    raise DivergenceError(
      f'Training diverged at step {step}: {shown}.{more}', step
    )

  def _count_skipped(self) -> int:
    return self._skipped_before + self._skipped

  def check_state(self, step: int, state: Any) -> None:
    """Looks at every array of a state that is to be saved; by all processes.

    Args:
      step: step after which it is, whose metrics were reported.
      state: `TrainState` after that step.

    Raises:
      DivergenceError: a number is not finite.
    """
    names = find_not_finite(state)
    if names:
      shown = ', '.join(
        f'{name.replace("_", " ")} {value:.4g}'
        for name, value in self._last.items()
      )
      raise DivergenceError(
        f'Training diverged at step {step} or before: {describe_names(names)};'
        f' {shown}.',
        step,
      )

  def report_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
    """Reports 'loss', 'top1', 'top5' (0..1) and 'count' of an evaluation."""
    self._writer.write_scalars(
      step, {f'eval/{name}': value for name, value in metrics.items()}
    )
    self._terminal.line(f'step {step:,}: {format_metrics(metrics)}')

  def write_pictures(
    self, step: int, pictures: Mapping[str, np.ndarray]
  ) -> None:
    """Writes pictures of an evaluation by name, each [1, H, W, 3] uint8."""
    self._writer.write_images(step, pictures)

  def write_images(self, step: int, images: np.ndarray) -> None:
    """Writes the first of a batch, [B, H, W, 3] uint8, as one square."""
    side = math.isqrt(min(self._options.image_grid_size, len(images)))
    if not side:
      return
    _, height, width, channels = images.shape
    grid = images[: side * side].reshape(side, side, height, width, channels)
    grid = grid.swapaxes(1, 2)  # [side, H, side, W, 3]
    grid = grid.reshape(1, side * height, side * width, channels)
    self._writer.write_images(step, {'train/images': grid})


def format_metrics(metrics: Mapping[str, float]) -> str:
  """Returns evaluation metrics as a sentence for people.

  >>> metrics = {'top1': 0.8925, 'top5': 0.9975, 'loss': 0.3249, 'count': 2000}
  >>> format_metrics(metrics)
  'top-1 89.25%, top-5 99.75%, loss 0.3249 on 2,000 images'
  >>> format_metrics({**metrics, 'mean_class_accuracy': 0.5})[:42]
  'top-1 89.25%, mean over classes 50.00%, to'
  """
  shown = {name: metrics[name] for name in ('top1', 'top5', 'loss')}
  precision, classes = '', ''
  if 'mean_average_precision' in metrics:
    shown['precision'] = metrics['mean_average_precision']
    precision = f'mean average precision {shown["precision"]:.2%}, '
  if 'mean_class_accuracy' in metrics:
    shown['classes'] = metrics['mean_class_accuracy']
    # Where all classes have as many images it is the same.
    if f'{shown["classes"]:.2%}' != f'{metrics["top1"]:.2%}':
      classes = f'mean over classes {shown["classes"]:.2%}, '
  return (
    f'{precision}top-1 {metrics["top1"]:.2%}, {classes}top-5'
    f' {metrics["top5"]:.2%}, loss {metrics["loss"]:.4f} on'
    f' {metrics["count"]:,} images'
    + ('' if is_finite(shown) else ' (not all finite, so never the best)')
  )
