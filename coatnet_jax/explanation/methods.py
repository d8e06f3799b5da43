"""The kinds of maps there are, by name; imports nothing that takes time."""

import types

# Name -> what it is called.
METHODS = types.MappingProxyType(
  {
    'grad_cam': 'Grad-CAM',
    'rollout': 'Attention rollout',
    'relevance': "Attention's relevance to the class",
    'head': 'Attention of a position',
    'integrated_gradients': 'Integrated gradients',
  }
)
# Gradients that integrated gradients average where nothing else is asked for.
NUM_STEPS = 128
# What only models with attention have.
OF_ATTENTION = ('rollout', 'relevance', 'head')
# What is the same for every class.
OF_NO_CLASS = ('rollout', 'head')
