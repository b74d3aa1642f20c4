"""Lightning, the real one: a fit that is killed and started again is the one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import keepfast
from keepfast.testing.checkpoint_store import assert_same

pytest.importorskip("lightning")

PROGRAM = """
import os, random, signal, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from keepfast.adapters.lightning import KeepfastCallback, KeepfastLogger

class Noisy(Dataset):
    def __len__(self):
        return 22

    def __getitem__(self, at):
        return torch.randn(4) * 0.1 + at / 22 + random.random() + np.random.rand()


class Stream(IterableDataset):
    def __iter__(self):
        return (Noisy()[at] for at in range(22))


class Placed:
    at = 0

    def __len__(self):
        return 6

    def __iter__(self):
        self.at %= 6
        while self.at < 6:
            self.at += 1
            yield torch.full((4, 4), self.at / 6)

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


class Module(LightningModule):
    def __init__(self, case):
        super().__init__()
        self.case = case
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
        self.automatic_optimization = case != "manual"

    def training_step(self, batch, batch_idx):
        loss = self.net(batch.float()).pow(2).mean()
        self.log("loss", loss, on_step=True, on_epoch=False)
        if self.case == "manual":
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.net(batch.float()).pow(2).mean())

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.net.parameters(), 1e-2)
        if self.case == "manual":
            return [torch.optim.Adam(self.net[0].parameters(), 1e-2), torch.optim.SGD(self.net[2].parameters(), 1e-2)]
        if self.case == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]

    def train_dataloader(self):
        if self.case == "placed":
            return Placed()
        if self.case == "stream":
            return DataLoader(Stream(), 4)
        return DataLoader(Noisy(), 4, shuffle=True, num_workers=2 if self.case == "workers" else 0)

    def val_dataloader(self):
        return DataLoader([torch.randn(4) for _ in range(22)], 8)


def fit(case, directory, kill_at):
    seed_everything(3, verbose=False)
    more = {"accumulate_grad_batches": 2} if case == "accumulated" else {}
    more |= {"val_check_interval": 3} if case == "validated within" else {}
    cfg = {"directory": directory, "experiment_name": "run", "checkpoint_interval": 1, "writers": ["jsonl"]}
    cfg |= {"best_metric": "val_loss", "best_mode": "min"}
    logger = False if case == "alone" else KeepfastLogger(cfg)
    if kill_at:
        logger.experiment.when_durable(
            lambda it: it.is_best or it.timestep < kill_at or os.kill(os.getpid(), signal.SIGKILL)
        )
    callbacks = [*([KeepfastCallback()] if logger else []), EarlyStopping("val_loss", patience=9)]
    trainer = Trainer(
        max_epochs=3, logger=logger, callbacks=callbacks, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=1, accelerator="cpu", **more,
    )
    trainer.fit(Module(case))
    if logger:
        logger.close()
    else:
        os.makedirs(directory)
        torch.save(trainer.lightning_module.state_dict(), os.path.join(directory, "alone.pt"))


for case, directory, kill_at in eval(sys.argv[1]):  # each in a process of its own, which need not import all that
    if os.fork() == 0:
        try:
            fit(case, directory, kill_at)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""

CASES = ("plain", "plateau", "accumulated", "validated within", "stream", "workers", "placed", "manual")
KILLED_AT = (2, 6, 9)
"""At which steps a fit is killed and started again: in an epoch, at the end of one, and in another."""


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a fit of each case that ran through, and one that was killed and started again and again."""
    folder = tmp_path_factory.mktemp("fits")
    starts: list[tuple[str, str, int]] = [("alone", str(folder / "alone"), 0)]
    for case in CASES:
        starts += [(case, str(folder / case / "through"), 0)]
        starts += [(case, str(folder / case / "killed"), at) for at in (*KILLED_AT, 0)]
    command = [sys.executable, "-c", PROGRAM, repr(starts)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=1500, env=environment)
    codes = [int(line) for line in done.stdout.splitlines() if line.lstrip("-").isdigit()]
    assert codes == [-signal.SIGKILL if at else 0 for _, _, at in starts], done.stderr
    return folder


def last(directory: Path) -> dict[str, Any]:
    paths = (directory / "run" / "checkpoints").glob("agent_*.pt")
    return dict(keepfast.read_checkpoint(max(paths, key=lambda path: int(path.stem.rpartition("_")[2]))))


@pytest.mark.parametrize("case", CASES)
def test_a_fit_that_is_killed_and_started_again_is_the_one_that_was_not(case: str, fits: Path) -> None:
    """Modules, optimizers, schedulers, loops, callbacks and all metrics are the same, bit for bit."""
    killed, through = fits / case / "killed", fits / case / "through"
    assert_same(last(killed), last(through))
    found, expected = (keepfast.read_metrics(each / "run") for each in (killed, through))
    assert found.keys() == expected.keys() >= {"loss", "val_loss"}
    for tag in expected:
        for ours, theirs in zip(found[tag][:2], expected[tag][:2], strict=True):
            np.testing.assert_array_equal(ours, theirs, tag)


def test_a_fit_that_is_kept_becomes_what_it_becomes_without(fits: Path) -> None:
    """The same seeds, the same parameters, bit for bit."""
    alone = torch.load(fits / "alone" / "alone.pt")
    kept = last(fits / "plain" / "through")["module"]
    assert_same(dict(kept), {name: each.numpy() for name, each in alone.items()})


def test_the_logger_alone_writes_what_a_module_logs(tmp_path: Path) -> None:
    """Without the callback, values are written as they come; hyperparameters are in config.json."""
    from keepfast.adapters.lightning import KeepfastLogger

    logger = KeepfastLogger({"directory": str(tmp_path), "experiment_name": "run", "writers": ["jsonl"]})
    logger.log_hyperparams({"lr": 0.5})
    for step in range(3):
        logger.log_metrics({"loss": step / 2}, step)
    logger.finalize("success")
    logger.close()
    steps, values, _ = keepfast.read_metrics(tmp_path / "run")["loss"]
    assert (list(steps), list(values)) == ([1, 2, 3], [0.0, 0.5, 1.0])
    assert '"lr": 0.5' in (tmp_path / "run" / "config.json").read_text("utf-8")


def test_a_callback_without_the_logger_says_what_it_needs() -> None:
    """It has its experiment from there."""
    from lightning.pytorch import Trainer
    from lightning.pytorch.demos.boring_classes import BoringModel

    from keepfast.adapters.lightning import KeepfastCallback

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(logger=False, callbacks=[KeepfastCallback()], enable_checkpointing=False, accelerator="cpu")
        with pytest.raises(keepfast.UsageError, match="needs a `KeepfastLogger`"):
            trainer.fit(BoringModel())
