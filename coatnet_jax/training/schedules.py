"""Learning-rate schedules, and durations given in steps or in epochs.

Schedules are `optax.Schedule`s: functions of the optimizer step, counted from
0. What the paper's recipes need is warm-up and one decay; for anything else
write an optax schedule and pass it to `optimizers.create_optimizer`.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import optax

from coatnet_jax.errors import UserError
from coatnet_jax.values import OneOf, Range, checked

# What a counter of steps can hold.
MAX_STEPS = 2**31 - 1

# name -> function of (peak, minimum, number of steps after warm-up).
DECAYS = {
  'cosine': lambda peak, minimum, steps: optax.schedules.cosine_decay_schedule(
    peak, steps, alpha=minimum / peak
  ),
  'linear': optax.schedules.linear_schedule,
  'constant': lambda peak, minimum, steps: optax.schedules.constant_schedule(
    peak
  ),
}


def resolve_steps(
  *, name: str, steps: int, epochs: float, steps_per_epoch: float
) -> int:
  """Returns a duration in optimizer steps, given in steps or in epochs.

  >>> length = {'name': 'training.num', 'steps_per_epoch': 78.125}
  >>> resolve_steps(steps=500, epochs=0, **length)
  500
  >>> resolve_steps(steps=0, epochs=10, **length)
  781

  Args:
    name: start of the two config keys, for errors: 'training.num' stands
      for training.num_steps and training.num_epochs.
    steps: duration in optimizer steps, or 0 where epochs say it.
    epochs: duration in passes over the training data, or 0 where steps say it.
      Rounded to the nearest step, and up to one step.
    steps_per_epoch: training examples / global batch size. Need not be whole:
      only the result is rounded.

  Returns:
    Steps; 0 where both are 0.

  Raises:
    UserError: Both are set, or they are more steps than can be counted.
  """
  check_unit(name, steps, epochs)
  # A period of a tiny part of an epoch must not become a period of 0 steps.
  steps = steps or (max(round(epochs * steps_per_epoch), 1) if epochs else 0)
  if steps > MAX_STEPS:
    raise UserError(
      f'config.{name}_epochs is {epochs}, which is {steps:,} steps; at most'
      f' {MAX_STEPS:,} can be counted.'
    )
  return steps


def check_unit(name: str, steps: int, epochs: float) -> None:
  """Raises UserError for a duration that both steps and epochs say.

  Args:
    name: name of the duration, as `resolve_steps` takes it.
    steps: duration in optimizer steps; 0 where epochs say it.
    epochs: duration in epochs; 0 where steps say it.
  """
  if steps and epochs:
    raise UserError(
      f'config.{name}_steps is {steps} and config.{name}_epochs is {epochs};'
      ' set the one that is not meant to 0.'
    )


def resolve_warmup(
  *,
  warmup_steps: int,
  warmup_epochs: float,
  max_warmup_fraction: float,
  steps_per_epoch: float,
  num_steps: int,
) -> tuple[int, int]:
  """Returns how many steps warm-up takes, and how many it was to take.

  >>> resolve_warmup(
  ...   warmup_steps=1000,
  ...   warmup_epochs=0,
  ...   max_warmup_fraction=0.2,
  ...   steps_per_epoch=78.125,
  ...   num_steps=2000,
  ... )
  (400, 1000)

  Args:
    warmup_steps: length of warm-up in steps, or 0.
    warmup_epochs: length of warm-up in epochs, or 0.
    max_warmup_fraction: part of the run that it is shortened to where it is
      longer, rounded down, to no step in the shortest runs; 0 shortens none.
    steps_per_epoch: training examples / global batch size.
    num_steps: number of optimizer steps of the whole run.

  Raises:
    UserError: it is longer than the run, and not to be shortened.
  """
  wanted = resolve_steps(
    name='schedule.warmup',
    steps=warmup_steps,
    epochs=warmup_epochs,
    steps_per_epoch=steps_per_epoch,
  )
  if max_warmup_fraction:
    return min(wanted, int(max_warmup_fraction * num_steps)), wanted
  if wanted > num_steps:
    raise UserError(
      f'Warm-up takes {wanted:,} steps, more than the {num_steps:,} of the'
      ' whole run; shorten it with config.schedule.warmup_steps or'
      ' config.schedule.warmup_epochs (0 for none), or set'
      ' config.schedule.max_warmup_fraction, 0.2, say, to have it shortened.'
    )
  return wanted, wanted


def describe_warmup(
  schedule: Mapping[str, Any], steps_per_epoch: float, num_steps: int
) -> tuple[str, ...]:
  """Returns a line where warm-up is shortened or left out.

  Args:
    schedule: values of `config.schedule`.
    steps_per_epoch: training examples / global batch size.
    num_steps: number of optimizer steps of the whole run.
  """
  part = schedule['max_warmup_fraction']
  steps, wanted = resolve_warmup(
    warmup_steps=schedule['warmup_steps'],
    warmup_epochs=schedule['warmup_epochs'],
    max_warmup_fraction=part,
    steps_per_epoch=steps_per_epoch,
    num_steps=num_steps,
  )
  if steps == wanted:
    return ()
  if not steps:
    return (
      f'warm-up left out, as config.schedule.max_warmup_fraction, {part},'
      f' of {num_steps:,} steps is less than one step',
    )
  return (
    f'warm-up shortened from {wanted:,} steps to {steps:,}, as'
    f' config.schedule.max_warmup_fraction is {part}',
  )


@checked
def create_learning_rate_schedule(
  *,
  peak_learning_rate: Annotated[float, Range(above=0)],
  min_learning_rate: Annotated[float, Range(at_least=0)],
  warmup_steps: Annotated[int, Range(at_least=0, at_most=MAX_STEPS)],
  warmup_epochs: Annotated[float, Range(at_least=0, at_most=1e6)],
  max_warmup_fraction: Annotated[float, Range(at_least=0, at_most=1)],
  decay: Annotated[str, OneOf(DECAYS)],
  steps_per_epoch: float,
  num_steps: int,
) -> optax.Schedule:
  """Returns linear warm-up followed by a decay, as in Table 10 of the paper.

  The rate is 0 at step 0, `peak_learning_rate` at the last step of warm-up and
  `min_learning_rate` from step `num_steps` on. Training runs steps 0 to
  `num_steps - 1`, so the minimum itself is the rate of no update.

  >>> schedule = create_learning_rate_schedule(
  ...   peak_learning_rate=1e-3,
  ...   min_learning_rate=1e-5,
  ...   warmup_steps=100,
  ...   warmup_epochs=0,
  ...   max_warmup_fraction=0,
  ...   decay='linear',
  ...   steps_per_epoch=50,
  ...   num_steps=1000,
  ... )
  >>> [f'{float(schedule(step)):.2g}' for step in (0, 50, 100, 550, 1000)]
  ['0', '0.0005', '0.001', '0.00051', '1e-05']

  Args:
    peak_learning_rate: rate at the end of warm-up; positive.
    min_learning_rate: rate at step `num_steps`. Not used by 'constant', which
      stays at the peak.
    warmup_steps: length of warm-up in steps, or 0.
    warmup_epochs: length of warm-up in epochs, or 0. Where both are 0 the rate
      starts at the peak.
    max_warmup_fraction: part of the run that a longer warm-up is shortened to,
      or 0 to shorten none: `resolve_warmup`.
    decay: name of the decay, one of `DECAYS`: 'cosine', 'linear' or 'constant'.
    steps_per_epoch: training examples / global batch size.
    num_steps: optimizer steps of the whole run, warm-up included.

  Returns:
    A function of the step (an int or an integer scalar array), which returns
    the learning rate: a float, or a float32 scalar array.

  Raises:
    UserError: Unknown `decay`, two warm-ups, warm-up longer than the run, or
      rates that are no descent from a positive peak.
  """
  if decay != 'constant' and min_learning_rate > peak_learning_rate:
    raise UserError(
      f'config.schedule.min_learning_rate is {min_learning_rate}; it must be at'
      f' most config.schedule.peak_learning_rate, {peak_learning_rate}.'
    )
  if num_steps < 1:
    raise UserError(
      f'The run has {num_steps} steps; it must have at least one: set'
      ' config.training.num_steps or config.training.num_epochs.'
    )
  warmup, _ = resolve_warmup(
    warmup_steps=warmup_steps,
    warmup_epochs=warmup_epochs,
    max_warmup_fraction=max_warmup_fraction,
    steps_per_epoch=steps_per_epoch,
    num_steps=num_steps,
  )
  # Where warm-up is the whole run no decay is left, but optax wants one step.
  after_warmup = DECAYS[decay](
    peak_learning_rate, min_learning_rate, max(num_steps - warmup, 1)
  )
  if warmup == 0:
    return after_warmup
  return optax.schedules.join_schedules(
    [
      optax.schedules.linear_schedule(0.0, peak_learning_rate, warmup),
      after_warmup,
    ],
    boundaries=[warmup],
  )
