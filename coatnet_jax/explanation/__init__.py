"""What a trained model looks at, as maps over its input.

    class_activation.py      Grad-CAM of a stage
    attention_maps.py        rollout, relevance to a class, one head's attention
    integrated_gradients.py  each pixel's part in a class's logit
    overlay.py               a map laid over the whole picture

All of it looks into the models from outside, by Flax's interception of methods
(`interception.py`): a model that is not looked into computes what it always
does. Command line: `tools.explain`.
"""
