import dataclasses

import pytest

from coatnet_jax.tpu_compiler import compiler_report
from coatnet_jax.tpu_compiler.collectives import find_collectives
from coatnet_jax.tpu_compiler.compiled_text import Array, parse_hlo_module
from coatnet_jax.tpu_compiler.pallas_schedules import KernelCall

# As libtpu writes it, shortened: a slice goes to VMEM in the background, a
# product takes it there, a kernel runs twice, and its result is summed.
PROGRAM = """\
ENTRY %main (x: bf16[16,128], w: bf16[32,128]) -> bf16[16,128] {
  %x = bf16[16,128]{1,0:T(8,128)(2,1)} parameter(0)
  %w = bf16[32,128]{1,0:T(8,128)(2,1)} parameter(1)
  %slice-start = ((bf16[32,128]{1,0:T(8,128)(2,1)}), bf16[16,128]{1,0:T(8,128)(2,1)S(1)}, s32[]{:S(2)}) slice-start(%w), slice={[0:16], [0:128]}
  %slice-done = bf16[16,128]{1,0:T(8,128)(2,1)S(1)} slice-done(%slice-start)
  %product = f32[64,128]{1,0:T(8,128)} fusion(%x, %slice-done), kind=kOutput, calls=%f, metadata={op_name="jit(f)/dense/dot_general"}, backend_config={"window_config":{"estimated_cycles":"250"}}
  %kernel.1 = (bf16[16,128]{1,0:T(8,128)(2,1)}, f32[8]{0:T(128)S(1)}) custom-call(%x, %slice-done), custom_call_target="tpu_custom_call", metadata={op_name="jit(f)/attention/kernel/pallas_call"}, backend_config={"custom_call_config":{"body":"TUzv"}}
  %kernel.2 = (bf16[16,128]{1,0:T(8,128)(2,1)}, f32[8]{0:T(128)S(1)}) custom-call(%x, %slice-done), custom_call_target="tpu_custom_call", metadata={op_name="jit(f)/attention/kernel/pallas_call"}, backend_config={"custom_call_config":{"body":"TUzv"}}
  %element = bf16[16,128]{1,0:T(8,128)(2,1)} get-tuple-element(%kernel.1), index=0
  %reduce-start = bf16[16,128]{1,0:T(8,128)(2,1)} all-reduce-start(%element), channel_id=1
  %reduce-done = bf16[16,128]{1,0:T(8,128)(2,1)} all-reduce-done(%reduce-start)
  ROOT %out = bf16[16,128]{1,0:T(8,128)(2,1)} all-reduce(%reduce-done), channel_id=2
}
"""  # noqa: E501
KERNEL = KernelCall(
  name='kernel',
  results=(('bfloat16', (16, 128)), ('float32', (8,))),
  steps=6,
  fetched_bytes=(8192, 4096, 4096, 32),
)


@pytest.fixture
def program():
  return parse_hlo_module(PROGRAM)


def _count(program, bundles=((KERNEL, 70),)):
  operations = compiler_report.count_operations(program, dict(bundles))
  return {operation.name: operation for operation in operations}


def test_operations_of_xla_have_the_compilers_estimate(program):
  product = _count(program)['product']
  assert (product.cycles, product.is_kernel) == (250, False)
  # x and the result; the other operand is in VMEM.
  assert product.hbm_bytes == 16 * 128 * 2 + 64 * 128 * 4


def test_a_copy_in_the_background_counts_what_it_moves(program):
  start = _count(program)['slice-start']
  assert (start.cycles, start.hbm_bytes) == (0, 16 * 128 * 2)


def test_a_trip_of_a_loop_touches_one_part_of_what_is_stacked():
  text = """\
ENTRY %main (x: f32[8], stacked: f32[5,8]) -> f32[5,8] {
  %x = f32[8]{0} parameter(0)
  %stacked = f32[5,8]{1,0} parameter(1)
  ROOT %updated = f32[5,8]{1,0} fusion(%stacked, %x), kind=kLoop, calls=%f
}
"""
  computation = parse_hlo_module(text).computations['main']
  updated = computation['updated']
  assert compiler_report.count_hbm_bytes(computation, updated) == 4 * 88
  assert compiler_report.count_hbm_bytes(computation, updated, 5) == 4 * 24


def test_a_kernel_is_bundles_times_steps(program):
  operations = _count(program)
  kernel = operations['kernel.1']
  assert (kernel.is_kernel, kernel.bundles, kernel.steps) == (True, 70, 6)
  assert kernel.cycles == 420
  # Blocks of x and of the first result; the others lie in VMEM.
  assert kernel.hbm_bytes == 8192 + 4096
  assert operations['kernel.2'].cycles == 420


def test_a_kernel_in_a_loop_counts_as_often_as_it_runs(program, monkeypatch):
  once = _count(program)['kernel.1']
  walk = type(program).walk

  def walk_in_a_loop(self):
    for visit in walk(self):
      yield visit._replace(times=5 * visit.times)

  monkeypatch.setattr(type(program), 'walk', walk_in_a_loop)
  often = _count(program)['kernel.1']
  assert often.cycles == 5 * once.cycles
  assert often.hbm_bytes == 5 * once.hbm_bytes
  assert often.bundles == once.bundles


def test_kernels_are_told_apart_by_their_results(program):
  other = KernelCall(
    name='kernel',
    results=(('bfloat16', (32, 128)), ('float32', (8,))),
    steps=12,
    fetched_bytes=(0, 0, 0, 0),
  )
  operations = _count(program, [(other, 70), (KERNEL, 70)])
  assert operations['kernel.1'].steps == 6
  with pytest.raises(ValueError, match='0 kernels'):
    _count(program, [(other, 70)])


def test_kernels_that_cannot_be_told_apart_are_an_error(program):
  twin = dataclasses.replace(KERNEL, body='another')
  assert _count(program, [(twin, 70), (KERNEL, 70)])['kernel.1'].cycles == 420
  with pytest.raises(ValueError, match='2 kernels'):
    _count(program, [(twin, 80), (KERNEL, 70)])


def test_a_report_sums_up(program):
  report = compiler_report.Report(
    operations=tuple(_count(program).values()),
    temporary_bytes=0,
    argument_bytes=0,
    output_bytes=0,
    largest_array=compiler_report.find_largest_array(program),
    collectives=tuple(find_collectives(program)),
  )
  assert report.cycles == 250 + 2 * 420
  assert report.kernel_cycles == report.count_cycles('attention') == 2 * 420
  assert report.largest_array == Array('f32', (64, 128), in_hbm=True)
  assert [c.kind for c in report.collectives] == ['all-reduce'] * 2


def test_the_compilers_message_says_how_much_is_missing():
  message = (
    'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in'
    ' memory space hbm. Used 25.81G of 15.75G hbm. Exceeded hbm capacity by'
    ' 10.06G.'
  )
  sizes = compiler_report.parse_out_of_memory(message)
  assert sizes == (int(25.81 * 2**30), int(15.75 * 2**30))
  error = compiler_report.OutOfMemoryError(*sizes)
  assert 'needs 25.81 GiB of HBM; there are 15.75 GiB.' in str(error)
  assert compiler_report.parse_out_of_memory('INTERNAL: no') is None


def test_a_program_that_cannot_fit_is_known_before_it_is_laid_out():
  message = (
    'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required'
    ' for HLO temporaries (400.00G) exceeds available HBM (30.75G).'
  )
  assert compiler_report.parse_out_of_memory(message) == (
    400 * 2**30,
    int(30.75 * 2**30),
  )
