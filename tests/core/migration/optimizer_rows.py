"""The optimizers that the suite takes from torch.optim to optax and back; `test_optimizers` tests every row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OptimizerRow:
    """One optimizer on both sides, as it is written there.

    Attributes:
        kind: what the test of it is called.
        torch: makes it of the parameters ``p``; ``kernels`` are those of more than one axis, ``biases`` the others.
        optax: makes the transformation.
        steps: how many steps are made before the state is taken.
        clipped: to what each gradient is clipped in PyTorch.
        decay: the factor by which a scheduler of PyTorch changes the rate with each step.
        is_exact: whether what is kept is the same bits after the way there and back; else it is to one rounding.
        is_counted: whether the state of optax counts its steps.
    """

    kind: str
    torch: str
    optax: str
    steps: int = 7
    clipped: float | None = None
    decay: float | None = None
    is_exact: bool = True
    is_counted: bool = False


OPTIMIZERS = (
    OptimizerRow("SGD with momentum", "SGD(p, lr=0.05, momentum=0.9)", "optax.sgd(0.05, momentum=0.9)"),
    OptimizerRow(
        "SGD with Nesterov's momentum",
        "SGD(p, lr=0.05, momentum=0.9, nesterov=True)",
        "optax.sgd(0.05, momentum=0.9, nesterov=True)",
    ),
    OptimizerRow(
        "SGD with dampening and decay",
        "SGD(p, lr=0.05, momentum=0.9, dampening=0.25, weight_decay=0.01)",
        "optax.chain(optax.add_decayed_weights(0.01), optax.scale(0.75), optax.sgd(0.05, momentum=0.9))",
    ),
    OptimizerRow("Adam", "Adam(p, lr=0.01, betas=(0.8, 0.95))", "optax.adam(0.01, b1=0.8, b2=0.95)", is_counted=True),
    OptimizerRow(
        "Adam with amsgrad",
        "Adam(p, lr=0.01, betas=(0.8, 0.9), amsgrad=True)",
        "optax.amsgrad(0.01, b1=0.8, b2=0.9)",
        steps=150,
        is_counted=True,
    ),
    OptimizerRow(
        "Adam with decay in the gradient",
        "Adam(p, lr=0.01, weight_decay=0.02)",
        "optax.chain(optax.add_decayed_weights(0.02), optax.adam(0.01))",
        is_counted=True,
    ),
    OptimizerRow(
        "AdamW", "AdamW(p, lr=0.01, weight_decay=0.1)", "optax.adamw(0.01, weight_decay=0.1)", is_counted=True
    ),
    OptimizerRow("RMSprop", "RMSprop(p, lr=0.01, alpha=0.95)", "optax.rmsprop(0.01, decay=0.95, eps_in_sqrt=False)"),
    OptimizerRow(
        "centered RMSprop",
        "RMSprop(p, lr=0.01, alpha=0.95, centered=True)",
        "optax.rmsprop(0.01, decay=0.95, eps_in_sqrt=False, centered=True)",
    ),
    OptimizerRow(
        "RMSprop with momentum",
        "RMSprop(p, lr=0.01, alpha=0.95, momentum=0.8)",
        "optax.rmsprop(0.01, decay=0.95, eps_in_sqrt=False, momentum=0.8)",
        is_exact=False,
    ),
    OptimizerRow(
        "centered RMSprop with momentum before the rate",
        "RMSprop(p, lr=0.01, alpha=0.95, centered=True, momentum=0.8)",
        "optax.chain(optax.scale_by_stddev(0.95, eps_in_sqrt=False), optax.trace(0.8), "
        "optax.scale_by_learning_rate(0.01))",
    ),
    OptimizerRow("Adagrad", "Adagrad(p, lr=0.05)", "optax.adagrad(0.05, initial_accumulator_value=0.0, eps=1e-20)"),
    OptimizerRow(
        "Adam behind a clipping",
        "Adam(p, lr=0.01)",
        "optax.chain(optax.clip(0.5), optax.adam(0.01))",
        clipped=0.5,
        is_counted=True,
    ),
    OptimizerRow(
        "Adam with a schedule",
        "Adam(p, lr=0.02)",
        "optax.adam(optax.exponential_decay(0.02, 1, 0.98))",
        decay=0.98,
        is_counted=True,
    ),
    OptimizerRow(
        "SGD with a schedule",
        "SGD(p, lr=0.05, momentum=0.9)",
        "optax.sgd(optax.exponential_decay(0.05, 1, 0.98), momentum=0.9)",
        decay=0.98,
        is_counted=True,
    ),
    OptimizerRow(
        "AdamW with injected hyperparameters",
        "AdamW(p, lr=0.02, betas=(0.8, 0.95), weight_decay=0.1)",
        "optax.inject_hyperparams(optax.adamw)(0.5, weight_decay=0.3)",
        is_counted=True,
    ),
    OptimizerRow(
        "Adam of two groups",
        "Adam([{'params': kernels, 'lr': 0.01}, {'params': biases, 'lr': 0.03}])",
        "optax.multi_transform({2: optax.adam(0.01), 1: optax.adam(0.03)}, axes)",
        is_counted=True,
    ),
    OptimizerRow(
        "RMSprop of the kernels alone",
        "RMSprop(kernels, lr=0.01)",
        "optax.chain(optax.masked(optax.rmsprop(0.01, decay=0.99, eps_in_sqrt=False), kernels), "
        "optax.masked(optax.set_to_zero(), biases))",
    ),
)
