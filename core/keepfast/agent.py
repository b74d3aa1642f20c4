"""Agent: an experiment with an agent's calls."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from keepfast._system.arguments.checks import names, table
from keepfast._system.arguments.forms import mapping_of
from keepfast._system.arguments.guarding import guarded_calls, tell
from keepfast._system.notebook.tables import facts
from keepfast.config import LEVEL, Settings, Source, agent_settings
from keepfast.errors import InvalidValue, as_given
from keepfast.experiment import Experiment
from keepfast.interfaces.checkpoint_store import Checkpoint
from keepfast.interfaces.loading.report import LoadReport
from keepfast.memories.fitting import Fit
from keepfast.memories.memory import Memory
from keepfast.migration.calls import migrate_modules, options_of
from keepfast.migration.report import MigrationReport
from keepfast.modules.modes import Modes, evaluate_loaded, gives_arrays_of_jax
from keepfast.modules.options import LoadOptions
from keepfast.modules.parts import Module, description
from keepfast.modules.reading import checkpoint_at
from keepfast.modules.registered import RegisteredModule, metadata, view_all
from keepfast.modules.restoring import restore_all
from keepfast.modules.table import CheckedModules, ModuleTable, name_places
from keepfast.plugins.formats import format_of
from keepfast.plugins.locations import located, writable
from keepfast.runs.directory import run_directory
from keepfast.tracking.multi_writer import MultiWriter


@guarded_calls("__init__", inside=("post_interaction", "record_transition"))
class Agent(Modes):
    """Keeps an agent's metrics and checkpoints; a base class for agents of any framework, and usable as it is.

    Args:
        models: the agent's models by role; each is registered in `checkpoint_modules` under its role.
        memory: the agent's memory; its files tell the agent's class, unless its metadata names an agent already. Of a
            list, the others are `secondary_memories`.
        observation_space: the environment's observation space.
        action_space: the environment's action space.
        device: where the agent computes, and where a load puts what it restores; whatever its framework takes for a
            device. None leaves each module where it is.
        cfg: the agent's configuration, with the experiment's settings under ``"experiment"``; in any form
            that `ExperimentConfig` takes.
        state_space: the space of the environment's states, where agents tell them from observations.

    Attributes:
        cfg: the agent's own settings and the experiment's, by key and by attribute.
        training: whether the agent trains or is evaluated; see `set_running_mode`.

    Raises:
        ConfigError: if a setting is wrong.
        InvalidValue: if there is no such device.

    Example::

        class PPO(keepfast.Agent):
            def __init__(self, models, memory=None, observation_space=None, action_space=None, device=None, cfg=None):
                super().__init__(models, memory, observation_space, action_space, device, cfg)
                self.optimizer = torch.optim.Adam(models["policy"].parameters())
                self.checkpoint_modules["optimizer"] = self.optimizer
    """

    def __init__(
        self,
        models: Mapping[str, Any] | None = None,
        memory: Any = None,
        observation_space: Any = None,
        action_space: Any = None,
        device: Any = None,
        cfg: Source = None,
        state_space: Any = None,
    ) -> None:
        if mapping_of(cfg) is not None and callable(expand := getattr(cfg, "expand", None)):
            expand()  # settings that stand for several become so many, as agents of skrl 2 expect
        self._experiment_config, settings = agent_settings(cfg)
        self.cfg = Settings(settings, cfg)
        self.models = table("models", models, "a mapping from role to model")
        several = list(memory) if isinstance(memory, list | tuple) else [memory]
        self.memory, self.secondary_memories = (several or [None])[0], several[1:]
        memory = self.memory
        self.training, self._jax = True, gives_arrays_of_jax()
        if isinstance(told := getattr(memory, "metadata", None), MutableMapping):
            told.setdefault("agent", type(self).__name__)  # the memory's files then tell whose it is
        self.observation_space = observation_space
        self.state_space = state_space
        self.action_space = action_space
        self.device = device
        self._checkpoint_modules = CheckedModules(self.models)
        self._table = ModuleTable.of(self._checkpoint_modules, self._experiment_config, device)
        self._directory = run_directory(self._experiment_config, type(self).__name__)
        self._experiment: Experiment | None = None

    def __repr__(self) -> str:
        of = str(self._experiment or f"not started, {str(self._directory)!r}")
        return f"{type(self).__name__}({', '.join(self._checkpoint_modules) or 'no modules'}; {of})"

    def _repr_html_(self) -> str:
        if self._experiment is not None:
            return self._experiment._repr_html_()
        about = [("directory", self._directory), ("modules", ", ".join(self._checkpoint_modules) or "none")]
        return facts(f"{type(self).__name__}, not started", about)

    @property
    def checkpoint_modules(self) -> dict[str, Module]:
        """Return what checkpoints hold, by name; agents add their optimizers, schedulers and preprocessors.

        What cannot be kept is refused by `init`, and after it as soon as it is put there. What is replaced as training
        goes on, as an optimizer on JAX is, stands for the agent's attribute that holds it.
        """
        return self._checkpoint_modules

    @checkpoint_modules.setter
    def checkpoint_modules(self, modules: Mapping[str, Module]) -> None:
        kept = table("checkpoint_modules", modules, "a mapping from names to modules")
        self._checkpoint_modules.replace(kept)  # the experiment has this very table

    @property
    def experiment_dir(self) -> Path:
        """Return the experiment's directory, which `init` makes; after `resume("last")` the other run's."""
        return self._directory if self._experiment is None else self._experiment.directory

    @property
    def experiment(self) -> Experiment:
        """Return the experiment that keeps everything, started now if `init` was not called."""
        return self._experiment or self._start({}, None)

    @property
    def writer(self) -> MultiWriter:
        """Return all writers behind one, with the calls of torch's SummaryWriter, past all intervals.

        It is the same one from the start of the run to its end, through every `resume`.
        """
        return self.experiment.writer

    def init(self, trainer_cfg: Source = None, env: object = None) -> None:
        """Start the experiment: make its directory, start its writers, fix its intervals.

        In a directory that holds an earlier run the writers are started by `resume`, or else by the first write. Called
        again, by the trainer of an evaluation for example, it begins another pass: see `Experiment.begin_pass`.

        Args:
            trainer_cfg: the trainer's configuration, in any form that `cfg` may have but a path; ``timesteps`` is the
                length of the training.
            env: the environment, which tells when it resets; see `Experiment.set_environment`. The agent's memory is
                told as well.

        Raises:
            UnknownPlugin: if the configuration names a backend, writer or format that nobody provides.
            DirectoryError: if the experiment's directory cannot be written in.
        """
        given = {} if trainer_cfg is None else mapping_of(trainer_cfg)
        if given is None:
            raise InvalidValue(
                f"`trainer_cfg` is {as_given(trainer_cfg)}; allowed: a mapping, with the key `timesteps`"
            )
        if self._experiment is None:
            self._start(given, env)
            return
        if env is not None:
            self._experiment.set_environment(env)
            self._tell_memory()
        if given:
            self._experiment.begin_pass()
            self._experiment.set_timesteps(given.get("timesteps", self._experiment.timesteps))
            self._experiment.describe(self._described(given))

    def _start(self, trainer_cfg: Mapping[str, Any], env: object) -> Experiment:
        name_places(self, self._checkpoint_modules)
        self._table.check()
        self._checkpoint_modules.check = self._table.check
        self._experiment = Experiment(
            {**self._described(trainer_cfg), LEVEL: self._experiment_config},  # which knows what was set
            name=type(self).__name__,
            timesteps=trainer_cfg.get("timesteps"),
            directory=self._directory,
            modules=self._checkpoint_modules,
            on_write=lambda completed: self.write_tracking_data(completed, self.experiment.timesteps),
            on_checkpoint=lambda completed: self.write_checkpoint(completed, self.experiment.timesteps),
            env=env,
            device=self.device,
        )
        self._tell_memory()
        return self._experiment

    def _look_up(self) -> list[RegisteredModule]:
        name_places(self, self._checkpoint_modules)
        return self._table.look_up()

    def _tell_memory(self) -> None:
        """Have the memory know where its run is, and when the environments reset, so that it gives no reset."""
        if isinstance(self.memory, Memory):
            self.memory.belong_to(self.experiment.directory)
            if self.experiment.autoreset is not None:
                self.memory.autoreset = self.experiment.autoreset

    def _described(self, trainer_cfg: Mapping[str, Any]) -> dict[str, Any]:
        """Return the whole configuration: the agent's, its models' and the trainer's."""
        models = {role: description(model) for role, model in self.models.items() if model is not None}
        return {**self.cfg, "models": models, "trainer": dict(trainer_cfg)}

    def _running(self, timesteps: int | None) -> Experiment:
        experiment = self.experiment
        if timesteps is not None and experiment.timesteps is None:
            experiment.set_timesteps(timesteps)
        return experiment

    @property
    def write_interval(self) -> int | str:
        """Return the timesteps between writes, 0 where disabled; before `init`, what the configuration says."""
        return self._experiment_config.write_interval if self._experiment is None else self._experiment.write_interval

    @property
    def checkpoint_interval(self) -> int | str:
        """Return the timesteps between checkpoints, as `write_interval`."""
        if self._experiment is None:
            return self._experiment_config.checkpoint_interval
        return self._experiment.checkpoint_interval

    def track_data(self, tag: str, value: Any) -> None:
        """Track a number until the next write.

        Tags ending in "(max)" or "(min)", in any case, take that statistic over the interval, all others are averaged.

        Args:
            tag: what it is, ``"Resource / CPU usage"`` for example.
            value: a number, or an array or tensor on any device that holds one; it is not waited for.

        Raises:
            InvalidValue: if it is no single number.
        """
        self.experiment.track_data(tag, value)

    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Write a dict of values at once, past all intervals; see `Experiment.log`."""
        self.experiment.log(values, step)

    def record_transition(
        self,
        states: Any,
        actions: Any,
        rewards: Any,
        next_states: Any,
        terminated: Any,
        truncated: Any,
        infos: Any,
        timestep: int,
        timesteps: int | None,
        valid: Any = None,
        *,
        observations: Any = None,
        next_observations: Any = None,
    ) -> None:
        """Record one step of every environment: its rewards, and the episodes that ended with it.

        Args:
            states: observations before the step; not looked at here, but there for subclasses.
            actions: actions taken; as `states`.
            rewards: of shape (num_envs,) or (num_envs, 1), on any device; a number for a single environment; or a dict
                of these by agent.
            next_states: observations after the step; as `states`.
            terminated: of as many elements as `rewards`; whether the episode ended in a terminal state.
            truncated: of as many elements as `rewards`; whether it was cut short.
            infos: what the environment tells besides; as `states`.
            timestep: the running timestep, counted from 0.
            timesteps: the length of the training.
            valid: of as many elements as `rewards`; whether the row is a transition; all are if None. See
                `Experiment.record_transition`, which takes dicts by agent too.
            observations: as `states`, for agents that tell them from states.
            next_observations: as `next_states`.

        Raises:
            ShapeMismatch: if the numbers of elements differ.
            InvalidValue: if dicts have different agents, or the rewards are no numbers.
        """
        try:
            self._running(timesteps).record_transition(rewards, terminated, truncated, valid)
        except Exception as error:  # noqa: BLE001  (it is told)
            tell("Agent.record_transition", error)

    def reset_episodes(self, envs: Any = None) -> None:
        """Be told that environments were reset in mid-run, by an evaluation for example: count their episodes anew.

        The agent's memory is told too: no sequence goes from the one episode to the other.

        Args:
            envs: which ones: a mask of shape (num_envs,), or their numbers; all of them if None.

        Raises:
            InvalidValue: if there is no such environment.
        """
        self.experiment.reset_episodes(envs)
        if isinstance(self.memory, Memory):
            self.memory.reset_episodes(envs)

    def pre_interaction(self, timestep: int, timesteps: int | None) -> None:
        """Be told that a timestep begins; nothing here, but there for subclasses."""

    def post_interaction(self, timestep: int, timesteps: int | None) -> None:
        """Complete a timestep, and write and checkpoint if that is due.

        Args:
            timestep: counted from 0; timestep + 1 are complete then, and that is the number events and files carry.
            timesteps: the length of the training.

        Raises:
            Exception: what went wrong with an earlier checkpoint behind training.
        """
        try:
            self._running(timesteps).step(timestep)
        except Exception as error:  # noqa: BLE001  (it is told)
            tell("Agent.post_interaction", error)

    def write_tracking_data(self, timestep: int | None = None, timesteps: int | None = None) -> None:
        """Write what was tracked since the last write, due or not; when it is due, `post_interaction` calls this.

        Args:
            timestep: the completed timesteps, which the events carry; by default those of the last step.
            timesteps: the length of the training.
        """
        experiment = self._running(timesteps)
        experiment.write_tracking_data(experiment.completed if timestep is None else timestep)

    def write_checkpoint(self, timestep: int | None = None, timesteps: int | None = None) -> None:
        """Checkpoint every module, due or not; `wait` returns when it is on disk.

        When a checkpoint is due, `post_interaction` calls this.

        Args:
            timestep: the completed timesteps, which the file's name carries; by default those of the last step.
            timesteps: the length of the training.
        """
        experiment = self._running(timesteps)
        experiment.write_checkpoint(experiment.completed if timestep is None else timestep)

    def save(self, path: str | Path) -> Path:
        """Save every module to one file, durable when this returns; the extension chooses the format.

        Args:
            path: where to; an existing file is replaced only once the new one is complete.

        Returns:
            The path.

        Raises:
            ConfigError: if the extension is of no known format.
            MissingDependency: if its format needs a package that is not installed; says what to run.
            WriteFailed: if the operating system refused; what was there before is untouched.
        """
        path = writable(path)
        store = format_of("checkpoint format", path)
        modules = self._look_up()
        completed = 0 if self._experiment is None else self._experiment.completed
        store.save(Checkpoint(view_all(modules), metadata(modules, timestep=completed).as_mapping()), path)
        return path

    def load(
        self,
        path: str | Path,
        *,
        modules: Sequence[str] | None = None,
        strict: bool = True,
        cast: bool = False,
        rename: Mapping[str, str] | None = None,
        fit: Fit = "error",
    ) -> LoadReport:
        """Load modules from a checkpoint, onto the agent's device; without one each stays on the device it is on.

        Networks that have a mode are in that of evaluation then, as where agents are loaded to act; `resume` goes on in
        the mode that they are in.

        Modules of the file that the agent lacks are warned of and passed over.

        Args:
            path: a checkpoint of this or another agent, on this or another device; or a run's directory, of which it is
                the best, or else the latest.
            modules: the names of the modules to load; all of the agent's if None, or the one that the file holds.
            strict: whether any difference is an error; else what fits is loaded.
            cast: whether another dtype is converted.
            rename: file path -> own path; a path also stands for all below it, and may begin with a module's name.
            fit: what to do with a memory of another size or number of environments; see `Memory.load`.

        Returns:
            What was loaded and what was not.

        Raises:
            LoadMismatch: if anything differs (when strict) or nothing matches; lists everything, nothing was loaded.
            CorruptCheckpoint: if the file is damaged.
            NotFound: if there is no such file.
        """
        if self._experiment is not None:
            self._experiment.wait()
        options, modules_of_now = LoadOptions.of(modules, strict, cast, rename, self.device, fit), self._look_up()
        checkpoint, file = checkpoint_at(
            located(path, metrics=False), options.wanted(each.name for each in modules_of_now)
        )
        options = options.of_file(checkpoint.about.module)
        report = restore_all(modules_of_now, checkpoint, file, options, spent=True)
        evaluate_loaded(modules_of_now, report)
        return report

    def migrate(
        self,
        path: str | Path,
        name_map: Mapping[str, Mapping[str, str]] | None = None,
        auto_mapping: bool = True,
        verbose: bool = False,
        *,
        modules: Sequence[str] | None = None,
        reader: str | None = None,
        **options: Any,
    ) -> MigrationReport:
        """Load a checkpoint of another library, or of the other framework, into the agent's modules.

        An optimizer among them gets what the optimizers of the file keep for its parameters, where all were migrated;
        else it keeps its own state, and the report says why.

        Args:
            path: the checkpoint; its library is known by the content. No code of it is run.
            name_map: for a module by its name, own name -> name in the file, of entries or of whole layers; for an
                optimizer by its name, that of the file's.
            auto_mapping: whether what `name_map` does not name is looked for.
            verbose: whether the entries of both sides are printed, and what goes where.
            modules: the names of the modules to migrate into; all if None.
            reader: the name of the reader, where several know the file.
            **options: what else `keepfast.migrate` takes: ``dry_run``, ``check``, ``strict``, ``layers``, ``flatten``.

        Returns:
            What came from where; true when complete.

        Raises:
            LoadMismatch: if anything is ambiguous, missing or without a place; nothing was loaded.
            CorruptCheckpoint: if the file is damaged, of no known kind, or would have to run code.
            NotFound: if there is no such file.
        """
        if self._experiment is not None:
            self._experiment.wait()
        given = {"device": self.device, **options, "auto_mapping": auto_mapping, "verbose": verbose}
        chosen = None if modules is None else names("modules", modules)
        wanted = [module for module in self._look_up() if chosen is None or module.name in chosen]
        return migrate_modules(wanted, path, None, reader, options_of(name_map=name_map, **given))

    def resume(
        self,
        which: str | Path = "latest",
        *,
        modules: Sequence[str] | None = None,
        strict: bool = True,
        cast: bool = False,
        rename: Mapping[str, str] | None = None,
        fit: Fit = "error",
    ) -> int:
        """Go on exactly where a checkpoint was taken; see `Experiment.resume`.

        Returns:
            The timestep to go on with, counted from 0; 0 where there is nothing to resume.
        """
        timestep = self.experiment.resume(which, modules=modules, strict=strict, cast=cast, rename=rename, fit=fit)
        self._tell_memory()
        return timestep

    def wait(self) -> None:
        """Return when what was promised is on disk: checkpoints, events, and the memory's exports."""
        if self._experiment is not None:
            self._experiment.wait()
        if self.memory is not None and hasattr(self.memory, "wait"):
            self.memory.wait()

    def close(self) -> None:
        """Write what was tracked last, store the best, wait for all of it and release everything; twice is fine."""
        try:
            if self._experiment is not None:
                self._experiment.close()
        finally:
            if self.memory is not None and hasattr(self.memory, "close"):
                self.memory.close()
