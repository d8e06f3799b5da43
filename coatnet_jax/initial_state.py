"""How the state of a new run starts, on its mesh."""

import functools

import jax

from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.run import Run
from coatnet_jax.training.train_state import create_train_state


def abstract_train_state(run: Run):
  """Returns a function that creates the state, and what it will create.

  Args:
    run: from `create_run`.

  Returns:
    A function without arguments that makes the state on the mesh, no array of
    it ever whole on one device; and its tree of `jax.ShapeDtypeStruct` with
    shardings.

  Raises:
    UserError: the image size does not fit the model.
  """
  create = functools.partial(
    create_train_state,
    model=run.model,
    tx=run.tx,
    image_size=run.preprocessing.image_size,
    use_ema=run.training.ema_decay > 0,
  )
  key = jax.random.key(run.seed)
  shapes = jax.eval_shape(create, key)
  shardings = mesh_lib.compute_state_shardings(shapes, run.mesh)
  abstract_state = jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    shapes,
    shardings,
  )
  jitted = jax.jit(create, out_shardings=shardings)
  return functools.partial(jitted, key), abstract_state
