"""Records a training and prints how often each call was made: ``python -m tests.powerloss.traced DIRECTORY SETTINGS``.

`strace` looks on from outside; see `tests/crash/test_power_loss.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.powerloss.playing import recorded
from tests.powerloss.training import TIMESTEPS, Training


def main() -> None:
    directory, settings = Path(sys.argv[1]), json.loads(sys.argv[2])

    def train(directory: Path, _recorder: object) -> None:
        for last in (TIMESTEPS // 2, TIMESTEPS):
            training = Training(directory, **settings)
            training.run(training.experiment.resume(), last)
            training.experiment.close()

    print(json.dumps(recorded(train, directory).counts))


if __name__ == "__main__":
    main()
