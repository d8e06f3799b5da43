import pytest

from coatnet_jax.tpu_compiler.compiled_text import (
  Array,
  parse_arrays,
  parse_hlo_module,
)

# As libtpu writes it, shortened.
PROGRAM = """\
HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[64,128]{1,0})->f32[64,128]{1,0}}

%fused_computation (param_0: f32[64,128]) -> f32[64,128] {
  %param_0 = f32[64,128]{1,0:T(8,128)} parameter(0)
  ROOT %copy.9 = f32[64,128]{1,0:T(8,128)} copy(%param_0), backend_config={"window_config":{"estimated_cycles":"77"}}
}

%body (arg: (s32[], f32[64,128])) -> (s32[], f32[64,128]) {
  %arg = (s32[]{:T(128)}, f32[64,128]{1,0:T(8,128)S(1)}) parameter(0)
  %counter = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %value = f32[64,128]{1,0:T(8,128)S(1)} get-tuple-element(%arg), index=1
  %tanh_fusion = f32[64,128]{1,0:T(8,128)S(1)} fusion(%value), kind=kLoop, calls=%fused_computation, metadata={op_name="jit(f)/while/body/tanh" stack_frame_id=3}, backend_config={"flag_configs":[],"window_config":{"estimated_cycles":"100"}}
  ROOT %next = (s32[]{:T(128)}, f32[64,128]{1,0:T(8,128)S(1)}) tuple(%counter, %tanh_fusion)
}

%condition (arg.1: (s32[], f32[64,128])) -> pred[] {
  %arg.1 = (s32[]{:T(128)}, f32[64,128]{1,0:T(8,128)S(1)}) parameter(0)
  %limit = s32[]{:T(128)} constant(5)
  %counter.1 = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%counter.1, %limit), direction=LT
}

%yes (x.1: f32[64,128]) -> f32[64,128] {
  %x.1 = f32[64,128]{1,0:T(8,128)} parameter(0)
  ROOT %gather = f32[64,128]{1,0:T(8,128)} all-gather(%x.1), channel_id=1, dimensions={0}
}

%no (x.2: f32[64,128]) -> f32[64,128] {
  %x.2 = f32[64,128]{1,0:T(8,128)} parameter(0)
  ROOT %same = f32[64,128]{1,0:T(8,128)} fusion(%x.2), kind=kLoop, calls=%fused_computation, backend_config={"window_config":{"estimated_cycles":"40"}}
}

ENTRY %main (x: f32[64,128], p: pred[]) -> f32[64,128] {
  %x = f32[64,128]{1,0:T(8,128)} parameter(0), metadata={op_name="x"}
  %p = pred[]{:T(512)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %copy-start = (f32[64,128]{1,0:T(8,128)S(1)}, f32[64,128]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%x)
  %copy-done = f32[64,128]{1,0:T(8,128)S(1)} copy-done(%copy-start)
  %start = (s32[]{:T(128)}, f32[64,128]{1,0:T(8,128)S(1)}) tuple(%zero, %copy-done)
  %loop = (s32[]{:T(128)}, /*index=1*/f32[64,128]{1,0:T(8,128)S(1)}) while(%start), condition=%condition, body=%body
  %looped = f32[64,128]{1,0:T(8,128)S(1)} get-tuple-element(%loop), index=1
  %out = f32[64,128]{1,0:T(8,128)} copy(%looped), backend_config={"window_config":{"estimated_cycles":"9"}}
  ROOT %conditional = f32[64,128]{1,0:T(8,128)} conditional(%p, %out, %out), branch_computations={%yes, %no}
}
"""  # noqa: E501


@pytest.fixture
def program():
  return parse_hlo_module(PROGRAM)


def test_arrays_know_their_bytes_and_whether_they_lie_in_hbm():
  text = '(bf16[2,3]{1,0:T(8,128)(2,1)S(1)}, pred[]{:T(512)}, s4[8], token[])'
  arrays = parse_arrays(text)
  assert arrays == (
    Array('bf16', (2, 3), in_hbm=False),
    Array('pred', (), in_hbm=True),
    Array('s4', (8,), in_hbm=True),
  )
  assert [array.num_bytes for array in arrays] == [12, 1, 4]
  assert str(arrays[0]) == 'bf16[2,3]'


def test_an_instruction_is_read_whole(program):
  fusion = program.computations['body']['tanh_fusion']
  assert (fusion.opcode, fusion.operands) == ('fusion', ('value',))
  assert (fusion.cycles, fusion.op_name) == (100, 'jit(f)/while/body/tanh')
  start = program.computations['main']['copy-start']
  assert (start.opcode, start.operands) == ('copy-start', ('x',))
  assert [array.in_hbm for array in start.results] == [False, True, False]


def test_what_runs_is_walked_as_often_as_it_runs(program):
  cycles = {
    instruction.name: (instruction.cycles, times, trips)
    for _, instruction, times, trips in program.walk()
    if instruction.cycles
  }
  # Not what is in a fusion.
  assert cycles == {
    'tanh_fusion': (100, 5, 5),
    'same': (40, 1, 1),
    'out': (9, 1, 1),
  }


def test_a_loop_without_a_limit_counts_once():
  text = PROGRAM.replace('direction=LT', 'direction=NE')
  runs = {
    visit.instruction.name: visit.times
    for visit in parse_hlo_module(text).walk()
  }
  assert runs['tanh_fusion'] == 1
