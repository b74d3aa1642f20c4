"""KeepfastObserver: an observer for the runner of rl_games, which attaches the agent that the runner makes."""

from __future__ import annotations

from typing import Any, final

from rl_games.common.algo_observer import AlgoObserver, DefaultAlgoObserver

from keepfast._system.finishing import finish
from keepfast.adapters.attaching import attach
from keepfast.adapters.rl_games.adapter import SAC
from keepfast.config import Source
from keepfast.errors import UsageError
from keepfast.experiment import Experiment
from keepfast.interfaces.adapter import descends


@final
class KeepfastObserver(AlgoObserver):  # type: ignore[misc]
    """Gives the agent that a runner makes an experiment, for the one training that the runner runs.

    Args:
        cfg: the experiment's settings, in any form that `keepfast.attach` takes.
        observed: the observer that is told all the same, Isaac Lab's ``IsaacAlgoObserver`` for example; rl_games' own
            by default.
        resume: whether to go on with an earlier run of the same ``experiment_name``, where there is one.

    Attributes:
        observed: that observer.
        experiment: the experiment, once the runner has made its agent; closed at the end of the training.

    Example::

        runner = Runner(KeepfastObserver({"experiment_name": "walk", "checkpoint_interval": 50}))
        runner.load(configuration)
        runner.run({"train": True})
    """

    def __init__(self, cfg: Source = None, observed: Any = None, *, resume: bool = True) -> None:
        super().__init__()
        self.observed = DefaultAlgoObserver() if observed is None else observed
        self.experiment: Experiment | None = None
        self._cfg, self._resume = cfg, resume

    def before_init(self, base_name: Any, config: Any, experiment_name: Any) -> None:
        """Tell the other observer."""
        self.observed.before_init(base_name, config, experiment_name)

    def after_init(self, algo: Any) -> None:
        """Attach the agent, and close its experiment at the end of its training.

        Raises:
            UsageError: if it is an agent of SAC, of which observers are told in the midst of its training.
        """
        if descends(algo, SAC):
            raise UsageError(
                "rl_games tells observers of its SAC when it trains already; attach the agent before: `agent = "
                'runner.algo_factory.create(runner.algo_name, base_name="run", params=runner.params)`, '
                "`experiment = keepfast.attach(agent, cfg)`, `experiment.resume()`, `agent.train()`"
            )
        self.observed.after_init(algo)
        experiment = self.experiment = attach(algo, self._cfg)
        if self._resume:
            experiment.resume()
        train = algo.train

        def train_and_close() -> Any:
            try:
                result = train()
            except BaseException as error:
                finish(experiment.close, after=error)
                raise
            experiment.close()
            return result

        algo.train = train_and_close

    def process_infos(self, infos: Any, done_indices: Any) -> None:
        """Tell the other observer."""
        self.observed.process_infos(infos, done_indices)

    def after_steps(self) -> None:
        """Tell the other observer."""
        self.observed.after_steps()

    def after_clear_stats(self) -> None:
        """Tell the other observer."""
        self.observed.after_clear_stats()

    def after_print_stats(self, frame: int, epoch_num: int, total_time: float) -> None:
        """Tell the other observer."""
        self.observed.after_print_stats(frame, epoch_num, total_time)
