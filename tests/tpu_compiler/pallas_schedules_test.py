import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from coatnet_jax.errors import UserError
from coatnet_jax.tpu_compiler import pallas_schedules

# As libtpu writes them, shortened.
ANALYSIS = """\
Schedule analysis:
	total scheduled bundles:    3147
	empty scheduled bundles:    10
	non empty scheduled bundles: 3137
	3137.00 scheduled bundles (100.00%): %sum_kernel.1 = f32[16,128]{1,0} \
custom-call(%copy.1), custom_call_target="tpu_custom_call"
"""
LISTING = """\
     0   :  { %s36442_s0 = inlined_call_operand.hbm [shape: f32[16,128]] }
   0x1   :  { %11 = vsyncpa [#allocation6], 0 }
   0xf LB: > { %s22857 = sadd.s32 4294967295, %s22773  }
  0x10   : > { %s16106 = sadd.s32 4294967294, %s22773  }
 0xc4a   :  { %15955 = vsyncpa [#allocation13 + $0x1], 1 }
"""
INNER_LOOP = '  0x29 LB: >> { %s256_s28 = sshll.u32 %s448_s27, 3  }\n'


def _write_schedule(directory, name, analysis, listing):
  paths = {
    directory / f'17-{name}-71-schedule-analysis_final_bundles.txt': analysis,
    directory / f'17-{name}-72-final_bundles.txt': listing,
  }
  for path, text in paths.items():
    path.write_text(text)
  return set(paths)


def test_bundles_of_kernels_are_read_by_the_instructions_name(tmp_path):
  paths = _write_schedule(tmp_path, 'sum_kernel.1', ANALYSIS, LISTING)
  fusion = ANALYSIS.replace('custom-call', 'fusion')
  paths |= _write_schedule(tmp_path, 'fusion.1', fusion, LISTING)
  # The whole program's, with a loop of a collective.
  paths |= _write_schedule(tmp_path, 'TLP', ANALYSIS, LISTING + INNER_LOOP)
  schedules = pallas_schedules.read_schedules(paths)
  assert schedules == {'sum_kernel.1': 3147}


def test_a_loop_in_a_kernel_is_an_error(tmp_path):
  listing = LISTING + INNER_LOOP
  paths = _write_schedule(tmp_path, 'sum_kernel.1', ANALYSIS, listing)
  with pytest.raises(UserError, match=r'sum_kernel\.1 has a loop of its own'):
    pallas_schedules.read_schedules(paths)


def _sum_kernel(x_ref, bias_ref, out_ref):
  out_ref[...] = x_ref[...] + bias_ref[...]


def _add_bias(x, bias):
  """Adds a [2, 8, 128] bias to [2, B, 8, 128], one image per step."""
  return pl.pallas_call(
    _sum_kernel,
    grid=(2, x.shape[1]),
    in_specs=[
      pl.BlockSpec((None, None, 8, 128), lambda g, b: (g, b, 0, 0)),
      pl.BlockSpec((None, 8, 128), lambda g, b: (g, 0, 0)),
    ],
    out_specs=pl.BlockSpec((None, None, 8, 128), lambda g, b: (g, b, 0, 0)),
    out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=('parallel', 'arbitrary')
    ),
    name='sum_kernel',
  )(x, bias)


@pytest.mark.parametrize('batch', [4, 8])
def test_steps_and_fetches_come_from_the_grid(batch):
  def f(x, bias):  # Within a loop and a conditional.
    def body(carry, _):
      return jax.lax.cond(
        carry.sum() > 0, lambda c: _add_bias(c, bias), lambda c: c, carry
      ), None

    return jax.lax.scan(body, x, None, length=3)

  x = jax.ShapeDtypeStruct((2, batch, 8, 128), jnp.bfloat16)
  bias = jax.ShapeDtypeStruct((2, 8, 128), jnp.bfloat16)
  (call,) = pallas_schedules.find_kernel_calls(jax.jit(f).trace(x, bias).jaxpr)
  assert call.name == 'sum_kernel'
  assert call.results == (('bfloat16', (2, batch, 8, 128)),)
  assert call.steps == 2 * batch
  block = 8 * 128 * 2
  # The bias stays while the grid runs over the batch.
  assert call.fetched_bytes == (
    2 * batch * block,
    2 * block,
    2 * batch * block,
  )


@pytest.mark.parametrize(
  ('semantics', 'num_cores', 'steps'),
  [
    (None, 2, 24),
    (('arbitrary', 'arbitrary'), 2, 24),
    (('parallel', 'arbitrary'), 1, 24),
    (('parallel', 'arbitrary'), 2, 16),
    (('arbitrary', 'parallel'), 2, 12),
    (('parallel', 'parallel'), 2, 16),
  ],
)
def test_two_cores_share_one_axis(semantics, num_cores, steps):
  assert pallas_schedules.count_steps((3, 8), semantics, num_cores) == steps
