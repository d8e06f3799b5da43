"""A checkpoint with numbers that are not finite, as older versions saved it."""

import jax.numpy as jnp
import pytest

from coatnet_jax.checkpoints import resuming, saving
from coatnet_jax.checkpoints.metadata import Progress
from coatnet_jax.errors import UserError
from tests.checkpoints import saved_run


def _save(manager, step, value):
  state = saved_run.create_state(step)
  saving.save_checkpoint(
    manager,
    state.replace(w=state.w.at[3, 4].set(value)),
    step=step,
    progress=Progress(),
    metadata=saving.Metadata(
      model={}, preprocessing={}, class_names=(), config={}
    ),
  )


def test_it_is_put_aside_and_the_one_before_is_used(tmp_path):
  said, shape = [], saved_run.create_state(0)
  with saving.open_checkpoints(
    tmp_path, saved_run.OPTIONS, said.append
  ) as manager:
    _save(manager, 3, jnp.nan)
    manager.wait_until_finished()
    with pytest.raises(UserError, match=r'None of the .*: w is not finite'):
      resuming.restore_newest(manager, shape, said.append, examples_per_step=0)
    _save(manager, 5, 1.0)
    _save(manager, 7, -jnp.inf)
    manager.wait_until_finished()
    state, _ = resuming.restore_newest(
      manager, shape, said.append, examples_per_step=0
    )
  assert int(state.step) == 5
  assert 'step 7 is damaged (w is not finite) and was moved to' in said[0]
  assert (tmp_path / 'damaged_checkpoints' / '7' / 'state').is_dir()
