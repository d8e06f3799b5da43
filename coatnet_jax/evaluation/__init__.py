"""What a trained model is worth, on the data sets of the field.

`data_sets.open_evaluation_data` says what is evaluated by which rule,
`classification.evaluate_classification` does it, or where images have several
labels `multi_label.evaluate_multi_label`; `few_shot` and `linear_probe` judge
the features instead of the logits. Command line: `tools.evaluate`.
"""
