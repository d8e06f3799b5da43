"""A log of training that nobody reads, for tests of what it notices."""

from typing import Any
from unittest import mock

from coatnet_jax.training import training_log

# A row every four steps, and nothing else.
QUICK_OPTIONS = training_log.LoggingOptions(
  writers=(),
  every_steps=4,
  image_grid_size=4,
  profile_at_step=0,
  profile_num_steps=1,
  report=False,
)


def create_quick_log(**changes: Any) -> training_log.TrainingLog:
  """Returns a log of a run of 99 steps that were not taken yet.

  Args:
    **changes: further arguments of `TrainingLog`.
  """
  return training_log.TrainingLog(
    mock.Mock(),
    mock.Mock(),
    options=QUICK_OPTIONS,
    first_step=0,
    num_steps=99,
    global_batch_size=2,
    **changes,
  )
