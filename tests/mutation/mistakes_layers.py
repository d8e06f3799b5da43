"""Mistakes in the layers that all blocks are made of, and how they start."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/models/layers.py',
    (
      'both_branches_drop_the_same',
      'jax.random.fold_in(drop.key, branch),',
      'drop.key,',
      'Attention and FFN of a block drop the same examples.',
      'models/layers_test.py',
    ),
    (
      'kept_branches_unscaled',
      'jnp.where(kept, (x / keep).astype(x.dtype), 0)',
      'jnp.where(kept, x, 0)',
      'Branches that are kept are not scaled up, so evaluation sees larger'
      ' ones.',
      'models/layers_test.py',
    ),
    (
      'dropout_for_stochastic_depth',
      '(x.shape[0],) + (1,) * (x.ndim - 1),',
      'x.shape,',
      'Single values are dropped instead of whole branches.',
      'models/layers_test.py',
    ),
    (
      'exact_gelu',
      'functools.partial(nn.gelu, approximate=True)',
      'functools.partial(nn.gelu, approximate=False)',
      'GELU is exact where the tanh form is asked for.',
      'models/blocks_test.py',
    ),
    (
      'uniform_kernels',
      '_use_everywhere(nn.initializers.normal(0.02))',
      '_use_everywhere(nn.initializers.uniform(0.02))',
      "The paper's models start from another distribution.",
      'models/initialisation_test.py',
    ),
    (
      'he_for_lecun',
      '_use_everywhere(nn.initializers.lecun_normal())',
      '_use_everywhere(nn.initializers.he_normal())',
      'Small models start with twice the variance.',
      'models/initialisation_test.py',
    ),
    (
      'fan_in_for_fan_out',
      "variance_scaling(2, 'fan_out', 'normal')",
      "variance_scaling(2, 'fan_in', 'normal')",
      "timm's convolutions start by the wrong side's width.",
      'models/initialisation_test.py',
    ),
    (
      'depthwise_like_dense',
      'kernel_init=self.depthwise_init,',
      'kernel_init=self.kernel_init,',
      'Depthwise kernels start as those of 1x1 convolutions do.',
      'models/initialisation_test.py',
    ),
    (
      'batch_norm_momentum_ignored',
      '=not train,\n      momentum=self.batch_norm_momentum,',
      '=not train,\n      momentum=0.99,',
      'Running statistics move at the default rate, whatever the config says.',
      'models/coatnet_test.py',
    ),
    (
      'layer_norm_epsilon_ignored',
      'LayerNorm(epsilon=epsilon, dtype=self.dtype, name=name)',
      'LayerNorm(epsilon=1e-6, dtype=self.dtype, name=name)',
      "LayerNorm has flax's epsilon.",
      'models/layers_test.py',
    ),
    (
      'squeezed_by_maximum',
      'gate = x.mean((1, 2), keepdims=True)',
      'gate = x.max((1, 2), keepdims=True)',
      'Squeeze-and-excitation takes the maximum of a map for its mean.',
      'models/blocks_test.py',
    ),
    (
      'hard_gate',
      'x * nn.sigmoid(gate)',
      'x * nn.hard_sigmoid(gate)',
      'The gate of squeeze-and-excitation is piecewise linear.',
      'models/blocks_test.py',
    ),
    (
      'patches_are_padded',
      'padding = 0 if kernel_size == stride else kernel_size // 2',
      'padding = kernel_size // 2',
      'Patches of ViT-rel overlap the border.',
      'models/variants_test.py models/factory_test.py models/cost_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/models/residual_block.py',
    (
      'projected_in_every_block',
      'always = self.first and options',
      'always = options',
      'Every block projects its shortcut where the first one should.',
      'weights/keras_cv_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/models/norms.py',
    (
      'variance_between_groups_lost',
      'whole = vars_of.mean(0) + means_of.var(0)',
      'whole = vars_of.mean(0)',
      'The running variance leaves out how the means of groups differ.',
      'models/norms_test.py',
    ),
    (
      'statistics_forget_at_once',
      'kept * means.value + (1 - kept) * means_of.mean(0)',
      '(1 - kept) * means.value + kept * means_of.mean(0)',
      'The running mean is nearly that of the last batch.',
      'models/norms_test.py',
    ),
    (
      'large_mean',
      'if not _may_square_first(values.dtype):',
      'if False:',
      'BatchNorm subtracts a squared mean from a mean of squares.',
      'models/norms_test.py',
    ),
    (
      'large_mean_in_layer_norm',
      'use_fast_variance=_may_square_first(x.dtype)',
      'use_fast_variance=True',
      'LayerNorm subtracts a squared mean from a mean of squares.',
      'models/norms_test.py',
    ),
    (
      'statistics_in_half_precision',
      'distance = values.astype(jnp.float32) - center',
      'distance = values - center',
      'BatchNorm computes its statistics in bfloat16.',
      'models/dtypes_test.py',
    ),
  ),
)
