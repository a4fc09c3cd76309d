"""Backward rules: LRP, Libra-Grad, DeepLift, guided backpropagation and deconvolution on the network's own autograd graph.

All these methods are one backward pass in which some operations hand back something other than their gradient. The
classical way to do this, hooks on modules, misses functions (`x.relu()`), breaks with in-place and re-used modules and
is silently wrong for operations that it does not know. Here the rule is set while the graph is built:

1. The forward pass runs inside a `rule_mode.RuleMode`, a torch function mode, which sees every call of a torch function.
2. `calls` says what a call computes: an affine layer, an elementwise function, or neither; `transformer_calls` knows
   attention, normalisations and products of activations. Functions that torch writes in Python are run step by step.
3. A call that needs another rule runs as a `rule_mode.RuleOp`: an autograd function with the network's own result and
   a backward of its own. All other operations keep their gradient.
4. Every node that enters the autograd graph is checked against the operations whose gradient is right for the method;
   any other is refused by name, together with the module that called it.
5. `torch.autograd.grad` of the score then carries relevance, multipliers or rectified gradients to the image.

`balanced` is what LRP and Libra-Grad share. The fronts, which the methods call, are `lrp.compute_relevance`,
`libra.balance_gradients`, `deep_lift.compute_multipliers` and `rectifiers.compute_rectified_gradient`.
"""
