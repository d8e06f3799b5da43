"""How cycles of kernels are counted, checked on one by hand."""

import pytest

pytestmark = [pytest.mark.tpu_compiler, pytest.mark.timeout(600)]

# Compiles a small kernel, plain or with a loop in it, and prints its figures
# and the address of the last bundle in its listing.
SCRIPT = """
import json, pathlib, re, sys, tempfile
import jax, jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.sharding import SingleDeviceSharding
from coatnet_jax.tpu_compiler import compiler_report, topologies
from coatnet_jax.errors import UserError

temporary = tempfile.TemporaryDirectory()
directory = pathlib.Path(temporary.name)
topologies.start_compiler(temporary.name)
device = topologies.create_abstract_devices('v5e')[0]

def plain(x_ref, out_ref):
  out_ref[...] = jnp.exp(x_ref[...])

def looped(x_ref, out_ref):
  def add(i, total):
    return total + jnp.exp(x_ref[pl.ds(8 * i, 8)])
  out_ref[:8] = jax.lax.fori_loop(0, 16, add, jnp.zeros((8, 128)))

def trace(kernel, steps):
  block = pl.BlockSpec((128, 128), lambda i: (i, 0))
  x = jax.ShapeDtypeStruct(
    (128 * steps, 128), jnp.float32, sharding=SingleDeviceSharding(device))
  return jax.jit(lambda x: pl.pallas_call(
    kernel, grid=(steps,), in_specs=[block], out_specs=block, out_shape=x,
    name='small_kernel')(x)).trace(x)

def figures(steps):
  (kernel,) = compiler_report.compile_report(
    trace(plain, steps), 'v5e').kernels
  return kernel.bundles, kernel.steps, kernel.cycles, kernel.hbm_bytes

result = {steps: figures(steps) for steps in (4, 8)}
for path in directory.iterdir():
  path.unlink()
trace(plain, 4).lower().compile()
(listing,) = (
  path.read_text()
  for path in directory.glob('*small_kernel*-final_bundles.txt')
  if 'analysis' not in path.name)
result['addresses'] = re.findall(r'^ *(0x[0-9a-f]+|0) ', listing, re.M)
try:
  figures_of_loop = compiler_report.compile_report(trace(looped, 4), 'v5e')
except UserError as error:
  result['error'] = str(error)
print(json.dumps(result))
"""


@pytest.fixture(scope='module')
def result(run_python):
  return run_python('-c', SCRIPT)


def test_cycles_are_the_listings_bundles_times_the_steps(result):
  bundles, steps, cycles, _ = result['4']
  addresses = [int(address, 16) for address in result['addresses']]
  assert bundles == max(addresses) + 1 == len(set(addresses))
  assert (steps, cycles) == (4, 4 * bundles)


def test_twice_the_steps_are_twice_the_cycles(result):
  (bundles, _, cycles, hbm_bytes), twice = result['4'], result['8']
  assert twice == [bundles, 8, 2 * cycles, 2 * hbm_bytes]
  # Each step reads a block and writes one.
  assert hbm_bytes in (0, 4 * 2 * 128 * 128 * 4)


def test_a_loop_in_a_kernel_is_refused(result):
  assert 'small_kernel' in result['error']
  assert 'has a loop of its own' in result['error']
