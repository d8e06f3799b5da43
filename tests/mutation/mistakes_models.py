"""Mistakes in the blocks, the stages, the head, and the variants."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/models/image_model.py',
    (
      'norms_train_in_frozen_parts',
      'return train and name not in self.frozen',
      'return train',
      'BatchNorm of frozen parts uses the batch.',
      'training/freezing_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/models/coatnet.py',
    (
      'every_block_drops_the_same',
      'key=jax.random.fold_in(key, index), rate=',
      'key=key, rate=',
      'Every block drops the branches of the same examples.',
      'whole_train_step_test.py::test_every_number_agrees',
    ),
    (
      'nothing_dropped',
      'shard_batch(x), trains, drop if trains else None',
      'shard_batch(x), trains, None',
      'No branch is ever dropped.',
      'models/coatnet_test.py',
    ),
    (
      'one_rate_for_all_blocks',
      'self.stochastic_depth_rate * index / self.variant.num_blocks',
      'self.stochastic_depth_rate',
      'The first block drops as much as the last.',
      'models/coatnet_test.py',
    ),
    (
      'stem_strides_last',
      'stride=1 if index else options.stride,',
      'stride=options.stride if index == last else 1,',
      'The second convolution of the stem strides, and the first is of all'
      ' pixels.',
      'weights/timm_test.py',
    ),
    (
      'no_tanh',
      "jnp.tanh(maker.dense(x.shape[-1], name='head_pre_logits')(x))",
      "maker.dense(x.shape[-1], name='head_pre_logits')(x)",
      'Two linear layers follow each other in the head.',
      'weights/timm_test.py',
    ),
    (
      'logits_in_bfloat16',
      'float32 = dataclasses.replace(maker, dtype=jnp.float32)',
      'float32 = maker',
      'The logits are computed in bfloat16.',
      'models/coatnet_test.py',
    ),
    (
      'mean_in_bfloat16',
      'x = norm(x.mean((1, 2), dtype=jnp.float32))',
      'x = norm(x.mean((1, 2)))',
      'The mean of the last map is rounded to bfloat16.',
      'models/dtypes_test.py',
    ),
    (
      'head_bias_at_zero',
      'bias_init=nn.initializers.constant(self.head_bias_init),',
      'bias_init=nn.initializers.zeros,',
      'The biases of the logits start at 0, whatever the config says.',
      'models/factory_test.py',
    ),
    (
      'grey_statistics_by_scan',
      'frozen=name in self.frozen,',
      'frozen=False,',
      'Frozen blocks train where blocks are scanned.',
      'training/freezing_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/models/mbconv.py',
    (
      'squeezed_from_expanded',
      'self.se_ratio * basis[self.se_basis]',
      "self.se_ratio * basis['expanded']",
      'Squeeze-and-excitation is four times as wide.',
      'models/variants_test.py models/factory_test.py',
    ),
    (
      'stride_in_depthwise',
      "'pool'))] = 'expand'",
      "'pool'))] = 'depthwise'",
      "The paper's models stride in the depthwise convolution, against Eq. 5.",
      'models/blocks_test.py models/cost_test.py',
    ),
    (
      'expanded_from_input',
      "('output', 'input'))] = 'output'",
      "('output', 'input'))] = 'input'",
      'The first block of a stage expands its input, not its output width.',
      'models/variants_test.py',
    ),
    (
      'no_activation_after_depthwise',
      "x = activation(norm(x, 'depthwise_norm'))",
      "x = norm(x, 'depthwise_norm')",
      'MBConv has one activation less.',
      'models/blocks_test.py',
    ),
    (
      'shortcut_dropped_too',
      'return shortcut + drop_branch(x, drop)',
      'return drop_branch(shortcut + x, drop)',
      'Stochastic depth drops the whole block, and an example is 0 from'
      ' there on.',
      'whole_train_step_test.py::test_every_number_agrees',
    ),
    (
      'layer_norm_epsilon_in_mbconv',
      'norm_epsilon: Epsilon = 1e-3',
      'norm_epsilon: Epsilon = 1e-5',
      "BatchNorm of the paper's models has PyTorch's epsilon.",
      'models/blocks_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/models/transformer.py',
    (
      'pooled_before_the_norm',
      "pool(norm(x, 'attention_norm'), options.branch_pool, self.stride)",
      "norm(pool(x, options.branch_pool, self.stride), 'attention_norm')",
      'Attention pools its input before it normalises it, against Eq. 4.',
      'models/blocks_test.py models/known_mistakes_test.py',
    ),
    (
      'ffn_drops_with_attention',
      "scale(x, 'ffn_layer_scale'), drop, 1)",
      "scale(x, 'ffn_layer_scale'), drop, 0)",
      'The FFN drops the examples that attention dropped.',
      'whole_train_step_test.py::test_every_number_agrees',
    ),
    (
      'half_flipped_table',
      'table[:, ::-1, ::-1] if kind',
      'table[:, ::-1] if kind',
      'The bias by key - query is turned over in rows alone.',
      'models/blocks_test.py',
    ),
    (
      'flat_tables',
      'self.param(name, nn.initializers.normal(0.02), shape)',
      'self.param(name, nn.initializers.zeros, shape)',
      'Relative positions start at 0.',
      'models/initialisation_test.py',
    ),
    (
      'fan_of_one_head',
      'self.maker.kernel_init(key, (in_width, 3 * width)).reshape(shape)',
      'self.maker.kernel_init(key, shape)',
      'Kernels of queries, keys and values start by the fan of one head.',
      'models/initialisation_test.py',
    ),
    (
      'offsets_without_sign',
      'np.sign(offsets) * np.log1p(np.abs(offsets))',
      'np.log1p(np.abs(offsets))',
      'The MLP of relative positions cannot tell left from right.',
      'models/layers_test.py',
    ),
    (
      'position_dropout_off',
      'nn.Dropout(self.dropout_rate, deterministic=not train)',
      'nn.Dropout(self.dropout_rate, deterministic=True)',
      'The MLP of relative positions drops nothing in training.',
      'models/layers_test.py',
    ),
    (
      'residual_of_the_norm',
      'shortcut = x\n    hidden_width = options.expansion_ratio * self.width\n'
      "    x = norm(x, 'ffn_norm')",
      'hidden_width = options.expansion_ratio * self.width\n'
      "    x = shortcut = norm(x, 'ffn_norm')",
      'The shortcut of the FFN is normalised: post-norm, half of it.',
      'models/blocks_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/models/block_sequence.py',
    (
      'statistics_of_the_first',
      'lambda array, i=i: array[i], updates',
      'lambda array, i=i: array[0], updates',
      'All blocks of a loop get the running statistics of the first.',
      'models/block_sequence_test.py training/freezing_test.py',
    ),
    (
      'frozen_scanned_with_others',
      'if group and (block.module, block.frozen) != (\n'
      '      group[0].module,\n'
      '      group[0].frozen,\n'
      '    ):',
      'if group and block.module != group[0].module:',
      'Frozen blocks are in one loop with those that train.',
      'training/freezing_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/models/convnext.py',
    (
      'channels_in_turn',
      'jnp.repeat(x, self.width // x.shape[-1], axis=-1)',
      'jnp.tile(x, (1, 1, 1, self.width // x.shape[-1]))',
      'Channels meet other depthwise kernels than in PyTorch.',
      'weights/timm_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/models/cnn_stem_vit.py',
    (
      'mean_for_class_token',
      'x = jax.lax.index_in_dim(x, 0, 1, keepdims=False)  # [B, width]',
      'x = x.mean(1)',
      'The head reads the mean of the tokens, not the class token.',
      'models/cnn_stem_vit_test.py',
    ),
    (
      'dropout_in_evaluation',
      'nn.Dropout(self.dropout_rate, deterministic=not train)',
      'nn.Dropout(self.dropout_rate, deterministic=False)',
      'Encoder blocks drop in evaluation too.',
      'models/cnn_stem_vit_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/models/cost.py',
    (
      'loops_count_once',
      "times = equation.params['length']",
      'times = 1',
      'Multiply-adds of a loop are those of one block.',
      'models/cost_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/models/factory.py',
    (
      'float32_always',
      'dtype=DTYPES[dtype],',
      'dtype=jnp.float32,',
      'The model computes in float32, whatever is asked for.',
      'models/coatnet_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/models/paper_variants.py',
    (
      'small_heads_in_coatnet_5',
      "{'head_dim': 64},\n    ),",
      '{},\n    ),',
      'CoAtNet-5 has heads of 32.',
      'models/variants_test.py',
    ),
    (
      'no_mbconv_in_s3',
      'groups[number - 1] = (opener, *groups[number - 1])',
      'groups[number - 1] = (*groups[number - 1], opener)',
      'S3 of CoAtNet-6 has its MBConv blocks after attention.',
      'models/variants_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/models/timm_variants.py',
    (
      'relu_gate_everywhere',
      "_SILU_SE = {**_RELU_SE, 'se_activation': 'silu'}",
      "_SILU_SE = {**_RELU_SE, 'se_activation': 'relu'}",
      "Gates of timm's larger models have the wrong activation.",
      'weights/timm_test.py models/variants_test.py',
    ),
  ),
)
