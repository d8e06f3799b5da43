"""A run that cannot fit in memory is refused before anything is allocated."""

import jax
import jax.numpy as jnp
import pytest

from coatnet_jax import memory, run
from coatnet_jax.distributed.mesh import create_mesh, create_replicated_sharding
from coatnet_jax.errors import UserError
from tests.quick_configs import create_synthetic_config


def _refusal(changes, gibibytes, monkeypatch):
  monkeypatch.setattr(memory, 'read_memory_bytes', lambda: gibibytes * 2**30)
  config = create_synthetic_config((64, 64), 10, changes)
  with pytest.raises(UserError) as error:
    run.create_run(config)
  return str(error.value)


@pytest.mark.parametrize(
  ('changes', 'needed', 'key'),
  [
    ({'training.global_batch_size': 2**17}, '6.0 GiB', 'training.global_batch'),
    ({'evaluation.global_batch_size': 2**19}, '6.0 GiB', 'evaluation.global_b'),
    ({'data.prefetch_batches': 2**14}, '6.0 GiB', 'data.prefetch_batches'),
    ({'data.num_workers': 30}, '5.9 GiB', 'data.num_workers'),
  ],
)
def test_what_is_too_large_is_named(
  tiny_variant, changes, needed, key, monkeypatch
):
  said = _refusal(changes, 4, monkeypatch)
  assert 'does not fit in the 4.0 GiB of memory that this machine has' in said
  assert needed in said
  assert f'config.{key}' in said


def test_a_state_is_counted_as_it_is_sharded(monkeypatch):
  mesh = create_mesh(replica=-1, data=-1, fsdp=1, tensor=1)
  state = {
    'w': jax.ShapeDtypeStruct(
      (1024, 1024), jnp.float32, sharding=create_replicated_sharding(mesh)
    )
  }
  monkeypatch.setattr(memory, 'read_memory_bytes', lambda: 5 * 2**20)
  memory.check_state(state, {'others': 2**20})
  with pytest.raises(UserError, match=r'4\.0 MiB for .* \(config.model.name\)'):
    memory.check_state(state, {'others': 2**20 + 1})


def test_this_machine_has_memory():
  assert 2**28 < memory.read_memory_bytes() < 2**60
