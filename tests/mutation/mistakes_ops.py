"""Mistakes in attention, relative biases, convolutions and their kernels."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/ops/relative_attention/attention.py',
    (
      'traced_for_each_block',
      '@functools.cache\ndef _bind_kernel',
      'def _bind_kernel',
      'A model of 28 equal blocks takes 28 traces of one kernel to start.',
      'ops/relative_attention/attention_test.py',
    ),
    (
      'logits_unscaled',
      'scale = q.shape[-1] ** -0.5',
      'scale = 1.0',
      'Attention does not divide by the root of the head size.',
      'ops/relative_attention/attention_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/ops/relative_attention/definition.py',
    (
      'softmax_in_bfloat16',
      'return jax.nn.softmax(logits)',
      'return jax.nn.softmax(logits.astype(q.dtype))',
      'The softmax of the definition is computed in bfloat16.',
      'ops/relative_attention/attention_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/ops/relative_attention/bias_table.py',
    (
      'bias_transposed',
      'position[:, None] - position[None, :] + length - 1',
      'position[None, :] - position[:, None] + length - 1',
      'A query looks up the bias of the key as seen from the other side.',
      'ops/relative_attention/bias_table_test.py',
    ),
    (
      'gradient_in_other_rows',
      '(i, height - 1 - i)',
      '(height - 1 - i, i)',
      'The gradient of the table goes to the opposite rows.',
      'ops/relative_attention/bias_table_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/ops/relative_attention/xla.py',
    (
      'softmax_gradient_without_mean',
      'weights * (grad_weights - delta)',
      'weights * grad_weights',
      'The gradient of the softmax forgets that weights sum to 1.',
      'ops/relative_attention/xla_test.py',
    ),
    (
      'key_gradient_unscaled',
      'grad_k = scale * _multiply(',
      'grad_k = _multiply(',
      'Keys learn faster than queries.',
      'ops/relative_attention/xla_test.py',
    ),
    (
      'no_maximum_subtracted',
      'maximum = logits.max(-1, keepdims=True)',
      'maximum = jnp.zeros_like(logits[..., :1])',
      'Large logits overflow.',
      'ops/relative_attention/xla_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/ops/relative_attention/cudnn.py',
    (
      'odd_tokens_for_cudnn',
      '_TOKENS_MULTIPLE = 2',
      '_TOKENS_MULTIPLE = 1',
      'cuDNN refuses to train at 7x7 tokens, an odd number.',
      'ops/relative_attention/cudnn_test.py',
    ),
    (
      'padding_attended_to_by_cudnn',
      'is_key = jnp.arange(tokens + padding) < tokens',
      'is_key = jnp.arange(tokens + padding) <= tokens',
      'With cuDNN tokens attend to the padding of their number.',
      'ops/relative_attention/cudnn_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/ops/relative_attention/pallas/forward_kernel.py',
    (
      'chunks_not_rescaled',
      'decay = jnp.exp2(previous - largest)',
      'decay = jnp.ones_like(largest)',
      'The kernel adds chunks of keys that are relative to other maxima.',
      'ops/relative_attention/pallas/kernels_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/ops/relative_attention/pallas/backward_kernel.py',
    (
      'bias_gradient_of_the_last_image',
      'arrays.dbias[head, rows] +=',
      'arrays.dbias[head, rows] =',
      "The kernel's gradient of the table is that of the last image.",
      'ops/relative_attention/pallas/kernels_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/ops/relative_attention/pallas/layout.py',
    (
      'padding_attended_to',
      '_MASKED = -1e30',
      '_MASKED = 0.0',
      'Tokens attend to the padding of their block.',
      'ops/relative_attention/pallas/kernels_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/ops/relative_attention/pallas/blocks.py',
    (
      'images_left_over',
      'max(n for n in range(1, most + 1) if batch % n == 0)',
      'min(most, batch)',
      'Images that do not fill a step of the kernel are left out.',
      'ops/relative_attention/pallas/blocks_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/ops/relative_attention/pallas/per_shard.py',
    (
      'table_gradient_of_a_shard',
      'if shards.batch_axes:',
      'if not shards.batch_axes:',
      'Each device has the gradient of its own images for the table.',
      'ops/relative_attention/pallas/per_shard_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/ops/max_pool.py',
    (
      'each_largest_has_the_gradient',
      'is_largest & ~is_taken',
      'is_largest',
      'Where pixels of a window are equal, each has the whole gradient.',
      'ops/max_pool_test.py',
    ),
    (
      'scatter_on_a_gpu',
      'cuda=compare',
      'metal=compare',
      'On a GPU no run with max-pooling can be repeated bit for bit.',
      'ops/max_pool_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/ops/dense.py',
    (
      'rows_elsewhere_too',
      'cpu=differentiate_rows, default=differentiate_map',
      'cpu=differentiate_map, default=differentiate_rows',
      'On a CPU maps are transposed, and on a TPU they are laid out anew.',
      'ops/dense_test.py',
    ),
    (
      'precision_lost_backward',
      '(((0,), (0,)), ((), ())), precision)',
      '(((0,), (0,)), ((), ())))',
      'A kernel of a dense layer has its gradient in the default precision.',
      'ops/dense_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/ops/depthwise_conv.py',
    (
      'gradient_by_the_kernel_itself',
      'shift * taps[i, j]',
      'shift * taps[-1 - i, -1 - j]',
      'The gradient of the input is convolved with the kernel unturned.',
      'ops/depthwise_conv_test.py',
    ),
    (
      'sums_in_bfloat16',
      'kernel.reshape(-1, x.shape[-1]).astype(jnp.float32)',
      'kernel.reshape(-1, x.shape[-1]).astype(x.dtype)',
      'The nine products of a depthwise convolution are summed in bfloat16.',
      'ops/depthwise_conv_test.py',
    ),
    (
      'phases_exchanged',
      'reach = phase + length // 2',
      'reach = stride - 1 - phase + length // 2',
      'The pixels between two outputs get the gradients of those under one.',
      'ops/depthwise_conv_test.py',
    ),
    (
      'kernel_gradient_in_bfloat16',
      'shift.astype(jnp.float32) * grad',
      'shift * grad',
      "The products of a depthwise kernel's gradient are rounded to bfloat16.",
      'ops/depthwise_conv_test.py',
    ),
    (
      'grouped_kernel_gradient_on_a_gpu',
      'cuda=functools.partial(_gpu_gradients',
      'cuda=functools.partial(_xla_gradients',
      "A GPU starts a kernel for each channel in a depthwise convolution's"
      ' gradient.',
      'ops/depthwise_conv_test.py',
    ),
    (
      'strided_from_the_second',
      '(0, i, j, 0),\n      (batch, i + height, j + width, channels),',
      '(0, i + stride - 1, j + stride - 1, 0),\n'
      '      (batch, i + height, j + width, channels),',
      'A strided depthwise convolution begins one pixel late.',
      'ops/depthwise_conv_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/ops/batch_sharding.py',
    (
      'batch_over_heads',
      'if name != HEADS_AXIS and batch_size',
      'if batch_size',
      'The batch is divided over the axis of the heads too.',
      'ops/batch_sharding_test.py',
    ),
    (
      'devices_draw_alike',
      'start = batch_size * jax.lax.axis_index(BATCH_AXES)',
      'start = 0',
      'Each device drops the branches of the first device.',
      'training/slices_test.py',
    ),
    (
      'slices_apart',
      'part = jax.lax.psum(part, SLICES_AXIS)',
      'part = 2 * part',
      'Each slice trains a model of its own.',
      'training/slices_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/ops/tpu_only.py',
    (
      'zeros_elsewhere',
      'if otherwise is not None:',
      'if otherwise is None:',
      "A TPU's kernel that runs elsewhere gives zeros without a word.",
      'ops/tpu_only_test.py',
    ),
  ),
)
