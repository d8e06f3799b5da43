"""Which part of a train step an operation is: by stage, and by kind of layer.

Read from the names of scopes and modules that the compiler keeps with every
operation. A fusion has the name of one of its operations, so what XLA has put
together counts where that one is.
"""

import collections
import re
from collections.abc import Callable, Iterable

from coatnet_jax.tpu_compiler.compiler_report import Operation

# In the order in which they are shown.
STAGES = (
  *('input', 's0', 's1', 's2', 's3', 's4', 'head', 'loss', 'optimizer'),
  'rest',
)
KINDS = (
  'attention',
  'FFN',
  '1x1 convolutions',
  'depthwise convolutions',
  'squeeze-excitation',
  'norms',
  'stem convolutions',
  'pooling',
  'head',
  'optimizer',
  'rest',
)

# The first pattern found in a name decides.
_STAGE_PATTERNS = (
  (r'/(s[0-4])_', None),
  (r'/CoAtNet\.apply_stem/', 's0'),
  (r'/head_|/CoAtNet\.apply_head/', 'head'),
  # Between the stem and the first block: images in the compute dtype.
  (r'jvp\(CoAtNet\)', 'input'),
  (r'jvp\(', 'loss'),
  (r'_beta|_gamma|threefry|_bernoulli|_roll|mixup|normalize_images', 'input'),
)
_KIND_PATTERNS = (
  (r'/(\w+_)?norm(_\d+)?(/|$)', 'norms'),
  (r'/attention/', 'attention'),
  (r'/ffn_(expand|shrink)/', 'FFN'),
  (r'/se/', 'squeeze-excitation'),
  (r'/depthwise/', 'depthwise convolutions'),
  (r'/max_pool/|reduce_window|select_and_(scatter|gather)', 'pooling'),
  (r'/(expand|shrink|shortcut|project)/', '1x1 convolutions'),
  (r'/s0_conv', 'stem convolutions'),
)


def find_stage(op_name: str) -> str:
  """Returns one of `STAGES` by an operation's name; 'rest' has no name.

  >>> find_stage('jit(train_step)/jvp(CoAtNet)/s3_block_0/attention/dot')
  's3'
  """
  if not op_name:
    return 'rest'
  for pattern, stage in _STAGE_PATTERNS:
    if found := re.search(pattern, op_name):
      return stage or found[1]
  return 'optimizer'


def find_kind(op_name: str) -> str:
  """Returns one of `KINDS` by an operation's name.

  'rest' has activations, residuals, stochastic depth, MixUp and the loss, as
  far as they are not fused into something else.
  """
  for pattern, kind in _KIND_PATTERNS:
    if re.search(pattern, op_name):
      return kind
  stage = find_stage(op_name)
  return stage if stage in KINDS else 'rest'


def sum_cycles(
  operations: Iterable[Operation],
  find_part: Callable[[str], str],
  parts: tuple[str, ...],
) -> dict[str, int]:
  """Returns the cycles of each part, in the order of `parts`.

  Args:
    operations: operations of a compiler report.
    find_part: function of an operation's `op_name`: `find_stage` or
      `find_kind`.
    parts: names of all parts: `STAGES` or `KINDS`.
  """
  cycles: collections.Counter[str] = collections.Counter()
  for operation in operations:
    cycles[find_part(operation.op_name)] += operation.cycles
  return {part: cycles[part] for part in parts}
