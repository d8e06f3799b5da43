"""The kernel on a mesh of eight devices, against the same on one."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[4]

# Prints, for each mesh, the errors of the output and four gradients, whether
# they lie where the inputs do, and the collectives of the compiled program.
SCRIPT = """
import functools, json, re
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from coatnet_jax.ops.relative_attention import relative_attention
from tests.ops.relative_attention import numpy_reference as reference

GRID = (3, 4)

def differentiate(*inputs):
  attend = functools.partial(
    relative_attention, grid=GRID, implementation='pallas', interpret=True)
  out, pullback = jax.vjp(attend, *inputs[:4])
  return out, *pullback(inputs[4])

def report(mesh_shape, tokens, table, batch, function=differentiate):
  mesh = jax.make_mesh(
    tuple(mesh_shape.values()), tuple(mesh_shape),
    axis_types=(jax.sharding.AxisType.Auto,) * len(mesh_shape))
  inputs = reference.create_inputs(GRID, batch=batch, heads=2, head_dim=128)
  expected = (
    reference.attend(*inputs[:4], GRID), *reference.gradients(*inputs, GRID))
  specs = [tokens, tokens, tokens, table, tokens]
  arrays = [
    jax.device_put(jnp.asarray(x, jnp.float32), NamedSharding(mesh, spec))
    for x, spec in zip(inputs, specs)]
  with jax.set_mesh(mesh):
    compiled = jax.jit(function).lower(*arrays).compile()
  actual = compiled(*arrays)
  kinds = r'(all-gather|all-reduce|all-to-all|collective-permute)[-a-z]*\\('
  return dict(
    errors=[reference.relative_error(x, y) for x, y in zip(actual, expected)],
    stays=[
      x.sharding.is_equivalent_to(NamedSharding(mesh, spec), x.ndim)
      for x, spec in zip(actual, [tokens, *specs])],
    collectives=sorted(set(re.findall(kinds, compiled.as_text()))))

both = ('data', 'fsdp')
print(json.dumps({
  'batch': report({'data': 8}, P('data'), P(), 8),
  'batch and heads': report(
    {'data': 2, 'fsdp': 2, 'tensor': 2},
    P(both, None, 'tensor'), P('tensor'), 4),
  # Eight devices do not divide three images: each computes all of them.
  'neither': report({'data': 8}, P(), P(), 3),
  'in a shard_map': report(
    {'data': 8}, P('data'), P(), 8,
    jax.shard_map(
      lambda *x: (lambda *y, d: (*y, jax.lax.psum(d, 'data')))(
        *(y := differentiate(*x))[:4], d=y[4]),
      in_specs=(P('data'),) * 3 + (P(), P('data')),
      out_specs=(P('data'),) * 4 + (P(),), check_vma=False)),
}))
"""


@pytest.fixture(scope='module')
def reports():
  flags = os.environ.get('XLA_FLAGS', '')
  flags += ' --xla_force_host_platform_device_count=8'
  result = subprocess.run(
    [sys.executable, '-c', SCRIPT],
    cwd=ROOT,
    # More threads than cores: eight devices wait for each other.
    env={
      **os.environ,
      'XLA_FLAGS': flags,
      'JAX_PLATFORMS': 'cpu',
      'NPROC': '64',
    },
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  return json.loads(result.stdout)


@pytest.mark.parametrize(
  'name', ['batch', 'batch and heads', 'neither', 'in a shard_map']
)
def test_equals_one_device(reports, name):
  assert max(reports[name]['errors']) < 2e-5


def test_nothing_is_gathered(reports):
  """Only the table's gradient is summed over the batch."""
  for name in ('batch', 'batch and heads'):
    assert reports[name]['collectives'] == ['all-reduce']
    assert all(reports[name]['stays'])
  assert reports['neither']['collectives'] == []
