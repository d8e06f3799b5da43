import pytest

from coatnet_jax.planning import cycle_breakdown
from coatnet_jax.tpu_compiler.compiler_report import Operation

# Blocks that are functions, recomputed and in a loop.
LOOP = (
  'CoAtNet.apply_stage/s2_block_1_to_s2_block_2/while/body/checkpoint/'
  'rematted_computation/MBConvBlock'
)
STEP = 'jit(train_step)'
FORWARD, BACKWARD = f'{STEP}/jvp(CoAtNet)', f'{STEP}/transpose(jvp(CoAtNet))'


# Names as libtpu writes them.
@pytest.mark.parametrize(
  ('name', 'stage', 'kind'),
  [
    (f'{FORWARD}/CoAtNet.apply_stem/s0_conv_0/conv', 's0', 'stem convolutions'),
    (f'{FORWARD}/CoAtNet.apply_stem/s0_norm/reduce_sum', 's0', 'norms'),
    (f'{FORWARD}/CoAtNet.apply_stem/mul', 's0', 'rest'),
    (f'{BACKWARD}/s1_block_0/expand/dot_general', 's1', '1x1 convolutions'),
    (f'{BACKWARD}/s2_block_1/expand_norm/mul', 's2', 'norms'),
    (f'{FORWARD}/s2_block_1/depthwise/conv', 's2', 'depthwise convolutions'),
    (f'{FORWARD}/s2_block_1/se/excite/dot', 's2', 'squeeze-excitation'),
    (f'{FORWARD}/s2_block_1/mul', 's2', 'rest'),
    (f'{FORWARD}/s3_block_0/attention_norm/div', 's3', 'norms'),
    (f'{BACKWARD}/s3_block_0/attention/qkv/dot', 's3', 'attention'),
    (f'{BACKWARD}/s3_block_4/ffn_expand/dot', 's3', 'FFN'),
    (f'{FORWARD}/s3_block_0/reduce_window_max', 's3', 'pooling'),
    (f'{FORWARD}/s3_block_0/max_pool/select_n', 's3', 'pooling'),
    (f'{FORWARD}/CoAtNet.apply_head/head_logits/dot', 'head', 'head'),
    (f'{FORWARD}/CoAtNet.apply_head/head_norm/mul', 'head', 'norms'),
    (f'{BACKWARD}/{LOOP}/shrink/dot', 's2', '1x1 convolutions'),
    (f'{BACKWARD}/{LOOP}/expand_norm/mul', 's2', 'norms'),
    (f'{BACKWARD}/{LOOP}/mul', 's2', 'rest'),
    (f'{STEP}/jvp(jit(log_softmax))/log', 'loss', 'rest'),
    (f'{STEP}/jit(_beta)/jit(_gamma)/vmap()/while', 'input', 'rest'),
    (f'{STEP}/reduce_sum', 'optimizer', 'optimizer'),
    ('', 'rest', 'rest'),
  ],
)
def test_parts_by_name(name, stage, kind):
  assert cycle_breakdown.find_stage(name) == stage
  assert cycle_breakdown.find_kind(name) == kind


def test_every_cycle_is_in_one_part():
  operations = [
    Operation(
      name='x', op_name=name, is_kernel=False, cycles=cycles, hbm_bytes=0
    )
    for cycles, name in enumerate([FORWARD, f'{STEP}/mul', '', ''], start=1)
  ]
  stages = cycle_breakdown.sum_cycles(
    operations, cycle_breakdown.find_stage, cycle_breakdown.STAGES
  )
  assert tuple(stages) == cycle_breakdown.STAGES
  assert {stage: n for stage, n in stages.items() if n} == {
    'input': 1,
    'optimizer': 2,
    'rest': 7,
  }
