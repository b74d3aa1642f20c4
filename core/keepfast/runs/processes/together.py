"""The processes of a run that store together what is spread over them: at the same timesteps, the same checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, final

from keepfast.errors import ConfigError, WriteFailed
from keepfast.interfaces.checkpoint_store import CheckpointStore
from keepfast.interfaces.sharding.format import ShardedFormat, Troubles
from keepfast.interfaces.sharding.peers import Peers
from keepfast.modules.registered import RegisteredModule, sharded_backend
from keepfast.plugins.backends import group_ranks

_T = TypeVar("_T")


@final
class Together:
    """Asks the other processes of a run, where a module is spread over them, so that all do the same.

    Each asks at the same points of the loop: at writes and at checkpoints. Where one of them is gone, nothing is stored
    together any more, and each question says so at once.
    """

    def __init__(self) -> None:
        self._peers: Peers | None = None
        self._behind: Peers | None = None
        self._lost: WriteFailed | None = None

    @property
    def is_on(self) -> bool:
        """Say whether a module is spread over several processes."""
        return self._peers is not None

    def find(self, modules: Callable[[], Sequence[RegisteredModule]], *, first: bool) -> None:
        """Look whether a module is spread over processes, until one is; all of them look at the same time.

        Args:
            modules: looks up the modules of now.
            first: whether this process is the one that writes.

        Raises:
            ConfigError: if the setting ``distributed`` has another process write than the framework's group.
        """
        if self._peers is not None or not group_ranks() or (backend := sharded_backend(modules())) is None:
            return
        # One conversation for the thread that trains, one for that behind it: neither hears what the other says.
        self._peers, self._behind = backend.peers(), backend.peers()
        if self._peers is not None and self._peers.first is not first:
            raise ConfigError(
                f"modules are spread over a group in which this process is of rank {self._peers.rank}, and the setting "
                f'`distributed` has it {"write" if first else "not write"}; set it to "auto"'
            )

    def connect(self, store: CheckpointStore) -> None:
        """Tell a format who else writes."""
        if isinstance(store, ShardedFormat):
            store.peers = self._behind

    def every(self, value: _T) -> list[_T]:
        """Return what each process gives, by rank; of one by itself, that.

        Raises:
            WriteFailed: if a process is gone.
        """
        with self._noting_loss() as peers:
            return [value] if peers is None else peers.every(value)

    def agree(self, trouble: str | None, timestep: int | None) -> None:
        """Return where each process can store, and all of them what is of one timestep.

        Args:
            trouble: why this one cannot; None where it can.
            timestep: that of what is to be stored; None where there is no telling.

        Raises:
            WriteFailed: if one cannot, or is at another timestep, or gone.
        """
        said = self.every((trouble, timestep))
        if (told := next((each for each, _ in said if each is not None), None)) is not None:
            raise WriteFailed(told)
        if len(timesteps := {each for _, each in said}) > 1:
            listed = ", ".join(map(str, sorted(each for each in timesteps if each is not None)))
            raise WriteFailed(
                f"the processes of this run are at the timesteps {listed}, and what is spread over them can be stored "
                "at one alone: call `write_checkpoint` in all of them at the same; `checkpoint_seconds` needs a "
                "`write_interval` or a `checkpoint_interval`, at which they meet"
            )

    def first(self, value: _T) -> _T:
        """Return what the first process gives.

        Raises:
            WriteFailed: if a process is gone.
        """
        with self._noting_loss() as peers:
            said: _T = value if peers is None else peers.share(value)
            return said

    @contextlib.contextmanager
    def _noting_loss(self) -> Iterator[Peers | None]:
        if self._lost is not None:
            raise WriteFailed(str(self._lost))
        try:
            yield self._peers
        except WriteFailed as error:
            self._lost = error
            raise

    def leading(self, store: CheckpointStore) -> contextlib.AbstractContextManager[Troubles]:
        """Have the others write with this process in the block; what goes wrong is added to what it gives."""
        if isinstance(store, ShardedFormat):
            return store.leading()
        return contextlib.nullcontext(Troubles())
