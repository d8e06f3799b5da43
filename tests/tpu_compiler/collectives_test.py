import pytest

from coatnet_jax.tpu_compiler.collectives import (
  Collective,
  find_collectives,
  read_group_size,
)
from coatnet_jax.tpu_compiler.compiled_text import parse_hlo_module

# As libtpu writes it, shortened: a gather in the background, another in the
# fusions that are computed meanwhile, a reduction of two arrays in a loop of
# three, what is a reduce-scatter inside a fusion, and a permutation.
PROGRAM = """\
%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[]{:T(128)} parameter(0)
  %b = f32[]{:T(128)} parameter(1)
  ROOT %add = f32[]{:T(128)} add(%a, %b)
}

%all-reduce-scatter.1 (x.1: f32[16,128]) -> f32[4,128] {
  %x.1 = f32[16,128]{1,0:T(8,128)} parameter(0)
  %all-reduce.9 = f32[16,128]{1,0:T(8,128)} all-reduce(%x.1), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%sum, metadata={op_name="jit(f)/grad"}
  ROOT %slice = f32[4,128]{1,0:T(8,128)} dynamic-slice(%all-reduce.9), dynamic_slice_sizes={4,128}
}

%gather-step.1 (x.2: f32[16,128]) -> f32[128,128] {
  %x.2 = f32[16,128]{1,0:T(8,128)} parameter(0)
  ROOT %gather.1 = f32[128,128]{1,0:T(8,128)} all-gather(%x.2), channel_id=7, replica_groups=mesh['axis_0'=4,'axis_1'=2,'axis_2'=8], device_ids=([8,8]T(1,0)) {'axis_0','axis_1'}, dimensions={0}
}

%gather-step.2 (x.3: f32[16,128]) -> f32[128,128] {
  %x.3 = f32[16,128]{1,0:T(8,128)} parameter(0)
  ROOT %gather.2 = f32[128,128]{1,0:T(8,128)} all-gather(%x.3), channel_id=7, replica_groups=mesh['axis_0'=4,'axis_1'=2,'axis_2'=8], device_ids=([8,8]T(1,0)) {'axis_0','axis_1'}, dimensions={0}
}

%body (arg: (s32[], f32[64], bf16[8])) -> (s32[], f32[64], bf16[8]) {
  %arg = (s32[]{:T(128)}, f32[64]{0:T(128)}, bf16[8]{0:T(128)}) parameter(0)
  %counter = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %first = f32[64]{0:T(128)} get-tuple-element(%arg), index=1
  %second = bf16[8]{0:T(128)} get-tuple-element(%arg), index=2
  %all-reduce = (f32[64]{0:T(128)}, bf16[8]{0:T(128)}) all-reduce(%first, %second), replica_groups=mesh['axis_0'=2,'axis_1'=4,'axis_2'=1] {'axis_0','axis_2'}, to_apply=%sum, metadata={op_name="jit(f)/while/body/norm"}
  ROOT %next = (s32[]{:T(128)}, f32[64]{0:T(128)}, bf16[8]{0:T(128)}) tuple(%counter, %all-reduce)
}

%condition (arg.1: (s32[], f32[64], bf16[8])) -> pred[] {
  %arg.1 = (s32[]{:T(128)}, f32[64]{0:T(128)}, bf16[8]{0:T(128)}) parameter(0)
  %limit = s32[]{:T(128)} constant(3)
  %counter.1 = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%counter.1, %limit), direction=LT
}

ENTRY %main (x: f32[16,128]) -> f32[16,128] {
  %x = f32[16,128]{1,0:T(8,128)} parameter(0)
  %start = (s32[]{:T(128)}, f32[64]{0:T(128)}, bf16[8]{0:T(128)}) tuple(%x)
  %loop = (s32[]{:T(128)}, f32[64]{0:T(128)}, bf16[8]{0:T(128)}) while(%start), condition=%condition, body=%body
  %gather-start = (f32[16,128]{1,0:T(8,128)}, f32[128,128]{1,0:T(8,128)}) all-gather-start(%x), replica_groups=[1,8]<=[8], dimensions={0}
  %gather-done = f32[128,128]{1,0:T(8,128)} all-gather-done(%gather-start)
  %during.1 = f32[128,128]{1,0:T(8,128)} fusion(%x), kind=kOutput, calls=%gather-step.1
  %during.2 = f32[128,128]{1,0:T(8,128)} fusion(%x), kind=kOutput, calls=%gather-step.2
  %scattered = f32[4,128]{1,0:T(8,128)} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
  ROOT %permute = f32[16,128]{1,0:T(8,128)} collective-permute(%x), source_target_pairs={{0,1},{1,0}}
}
"""  # noqa: E501


@pytest.fixture
def collectives():
  return {c.kind: c for c in find_collectives(parse_hlo_module(PROGRAM))}


def test_every_collective_is_found_once():
  kinds = [c.kind for c in find_collectives(parse_hlo_module(PROGRAM))]
  assert sorted(kinds) == [
    'all-gather',
    'all-gather',
    'all-reduce',
    'collective-permute',
    'reduce-scatter',
  ]


def test_a_reduction_in_a_loop_counts_as_often_as_it_runs(collectives):
  assert collectives['all-reduce'] == Collective(
    kind='all-reduce',
    times=3,
    num_bytes=64 * 4 + 8 * 2,
    group_size=2,
    op_name='jit(f)/while/body/norm',
  )
  assert collectives['all-reduce'].total_bytes == 3 * 272


def test_bytes_are_the_larger_side(collectives):
  array = 16 * 128 * 4
  assert collectives['all-gather'].num_bytes == 8 * array
  assert collectives['all-gather'].group_size == 8
  assert collectives['reduce-scatter'].num_bytes == array
  assert collectives['collective-permute'].num_bytes == array


def test_what_goes_around_a_ring(collectives):
  array = 16 * 128 * 4
  assert collectives['all-gather'].sent_bytes == 8 * array * 7 / 8
  assert collectives['reduce-scatter'].sent_bytes == array * 3 / 4
  assert collectives['all-reduce'].sent_bytes == 3 * 272 * 2 * 1 / 2
  assert collectives['collective-permute'].sent_bytes == array


def test_what_goes_to_other_slices_is_of_its_own_kind():
  program = parse_hlo_module("""\
ENTRY %main (x: f32[16,128]) -> f32[16,128] {
  %x = f32[16,128]{1,0:T(8,128)} parameter(0)
  %token = token[] after-all()
  %part = f32[4,128]{1,0:T(8,128)} reduce-scatter(%x), channel_id=5, replica_groups={{0,1,2,3}}, dimensions={0}, to_apply=%sum
  %send = (f32[4,128]{1,0:T(8,128)}, u32[], token[]) send(%part, %token), channel_id=5, is_host_transfer=true, frontend_attributes={_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %recv = (f32[4,128]{1,0:T(8,128)}, u32[], token[]) recv(%token), channel_id=4, is_host_transfer=true, frontend_attributes={_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}
  ROOT %recv-done = (f32[4,128]{1,0:T(8,128)}, token[]) recv-done(%recv), channel_id=4, is_host_transfer=true
}
""")  # noqa: E501
  found = [(c.kind, c.num_bytes) for c in find_collectives(program)]
  assert found == [
    ('reduce-scatter', 16 * 128 * 4),
    ('all-reduce between slices', 4 * 128 * 4),
  ]


@pytest.mark.parametrize(
  ('text', 'size'),
  [
    ('replica_groups={{0,1,2},{3,4,5}}, ', 3),
    ('replica_groups=[2,4]<=[4,2]T(1,0)', 4),
    ("replica_groups=mesh['a'=4,'b'=8] {'b'}", 8),
    ("replica_groups=mesh['a'=4,'b'=8] {'a':(1)2,'b'}", 16),
    ('source_target_pairs={{0,1}}', 2),
    ('channel_id=1', 0),
  ],
)
def test_groups_in_all_their_forms(text, size):
  program = parse_hlo_module(
    f'ENTRY %f (x: f32[]) -> f32[] {{\n  ROOT %y = f32[] all-reduce(), {text}\n'
  )
  assert read_group_size(program.computations['f']['y']) == size
