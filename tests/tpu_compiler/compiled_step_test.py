import os
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from coatnet_jax import compilation_cache
from coatnet_jax.errors import UserError
from coatnet_jax.tpu_compiler import compiled_step


@pytest.fixture(scope='module')
def mesh():
  return Mesh(np.array(jax.devices()), ('data',))


def _lower(mesh, factor=2.0):
  """Lowers a step with a donated state on a mesh."""
  sharding = NamedSharding(mesh, PartitionSpec('data'))

  def step(state, batch):
    total = state['total'] + factor * batch.sum()
    return {'total': total}, {'mean': batch.mean()}

  state = {'total': jax.ShapeDtypeStruct((), jnp.float32)}
  batch = jax.ShapeDtypeStruct((16, 4), jnp.float32, sharding=sharding)
  return jax.jit(step, donate_argnums=0).lower(state, batch)


@pytest.fixture(scope='module')
def path(mesh, tmp_path_factory):
  path = tmp_path_factory.mktemp('compiled') / 'step'
  lowered = _lower(mesh)
  with compilation_cache.switched_off():
    compiled = lowered.compile()
  compiled_step.save_compiled(path, lowered, compiled, mesh)
  return path


def test_what_is_loaded_computes_the_same(path, mesh):
  step = compiled_step.load_compiled(path, _lower(mesh), mesh)
  batch = jax.device_put(
    np.arange(64, dtype=np.float32).reshape(16, 4),
    NamedSharding(mesh, PartitionSpec('data')),
  )
  replicated = NamedSharding(mesh, PartitionSpec())
  state = {'total': jax.device_put(np.float32(1), replicated)}
  for expected in (1 + 2 * 2016, 1 + 4 * 2016):
    state, metrics = step(state, batch)
    assert float(state['total']) == expected
    assert float(metrics['mean']) == 31.5


def test_another_program_is_refused(path, mesh):
  with pytest.raises(
    compiled_step.CompiledProgramMismatch,
    match=r'step is for program \w{16}, n',
  ):
    compiled_step.load_compiled(path, _lower(mesh, factor=3.0), mesh)


def test_other_versions_and_devices_are_named(path, mesh, monkeypatch):
  monkeypatch.setattr(compiled_step, '_find_version', lambda name: '0.1')
  few = Mesh(np.array(jax.devices()[:1]), ('data',))
  with pytest.raises(compiled_step.CompiledProgramMismatch) as error:
    compiled_step.load_compiled(path, _lower(few), few)
  message = str(error.value)
  assert f'jax version {jax.__version__}, not 0.1; jaxlib version' in message
  kind = jax.devices()[0].device_kind
  count = jax.device_count()
  assert count == 1 or f'devices {count} x {kind}, not 1 x {kind}' in message


def test_a_file_that_is_no_program(path, mesh, tmp_path):
  with pytest.raises(UserError, match='cannot be read: No such file'):
    compiled_step.load_compiled(tmp_path / 'none', _lower(mesh), mesh)
  other = tmp_path / 'other'
  other.write_bytes(b'PK')
  with pytest.raises(UserError, match='not a compiled program; make one by'):
    compiled_step.load_compiled(other, _lower(mesh), mesh)
  lowered = _lower(mesh)
  compiled = lowered.compile()
  with pytest.raises(UserError, match='cannot be written: No such file'):
    compiled_step.save_compiled(
      tmp_path / 'none' / 'step', lowered, compiled, mesh
    )


def test_a_kernels_compiled_form_does_not_count():
  text = r'backend_config = "{\22body\22: \22TUz/+=\22, \22x\22: 1}"'
  assert compiled_step._KERNEL_BODY.sub('', text) == (
    r'backend_config = "{, \22x\22: 1}"'
  )


class _Lowered:
  """A program with a kernel, whose compiled form differs each time."""

  def __init__(self, body):
    self._text = r'backend_config = "{\22body\22: \22' + body + r'\22, 1}"'

  def as_text(self):
    return self._text


def test_programs_that_differ_in_a_kernels_compiled_form_are_the_same(mesh):
  first, second = (
    compiled_step.identify_program(_Lowered(body), mesh)
    for body in ('TUz/+=', 'abc=')
  )
  assert first == second


@pytest.mark.parametrize('count', [1, 2, 8])
def test_a_program_says_how_many_devices_it_is_for(count):
  device = types.SimpleNamespace(
    device_kind='chip', platform='cpu', process_index=0
  )
  mesh = types.SimpleNamespace(
    size=count, devices=np.array([device] * count, object)
  )
  facts = compiled_step.identify_program(_Lowered('a'), mesh)
  assert facts['devices'] == f'{count} x chip'


def test_a_program_that_anyone_can_change_is_refused(path, mesh, tmp_path):
  other = tmp_path / 'step'
  other.write_bytes(path.read_bytes())
  other.chmod(0o646)
  with pytest.raises(UserError, match=r'by every user of this.*chmod o-w'):
    compiled_step.load_compiled(other, _lower(mesh), mesh)
  other.unlink()
  os.mkfifo(other)
  with pytest.raises(UserError, match='is not a file'):
    compiled_step.load_compiled(other, _lower(mesh), mesh)


@pytest.mark.parametrize('facts', [b'{"a": ', b'3', b'["a"]', b'[' * 10**5])
def test_damaged_facts_are_a_sentence(facts, mesh, tmp_path):
  other = tmp_path / 'step'
  other.write_bytes(compiled_step._FIRST_LINE + facts + b'\n')
  with pytest.raises(UserError, match='is a damaged compiled program'):
    compiled_step.load_compiled(other, _lower(mesh), mesh)
