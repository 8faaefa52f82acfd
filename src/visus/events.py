"""The events of a training, and the answers to them.

``visus.Training`` yields the events, and ``on_event`` of ``visus.train`` and ``visus.resume``
receives them. Each is a frozen value. In the order in which they come:

    Progress           so many samples of a stage are done, such as decoding
    DataOpened         the data is opened and the network is built
    Pricing            the time and memory of steps is measured, for a time limit
    HeadFitted         the head of a pretrained network was fitted
    Planned            every setting is decided
    FirstLoss          the loss of a new network before any step
    Prepared           the run folder exists
    Started            the steps begin
    StartScored        a pretrained network was validated before its first step
    StepDone           a step is done
    EpochDone          an epoch is validated; row has the columns of results.csv
    CheckpointWritten  everything up to here is safe
    StepDivided        a step did not fit into memory, so steps are computed in slices
    Answered           an answer was carried out
    Stopped            the training stopped with a checkpoint
    Finished           the last epoch is done
    Tracked            an experiment tracker is done, or stopped
    Scored             the run is scored, and its report is written

The answers are methods of ``visus.Training``, and ``on_event`` returns them. They are carried out
before the next step:

    Stop               end with a checkpoint; visus.resume goes on
    Finish             end as if the last epoch were done: score and report
    ScaleLearningRate  multiply every learning rate by a factor from now on
    SaveWeights        write the weights of now to a file
    KeepWeights        keep the weights of this epoch as the best ones

>>> import visus
>>> visus.events.ScaleLearningRate(0.5)
ScaleLearningRate(factor=0.5)
"""

from __future__ import annotations

from visus.progress import Progress
from visus.training.answers import Finish, KeepWeights, SaveWeights, ScaleLearningRate, Stop
from visus.training.events import (
    Answered,
    CheckpointWritten,
    EpochDone,
    Finished,
    HeadFitted,
    Pricing,
    Started,
    StartScored,
    StepDivided,
    StepDone,
    Stopped,
)
from visus.workbench.train.events import DataOpened, FirstLoss, Planned, Prepared, Scored, Tracked

__all__ = [
    "Answered",
    "CheckpointWritten",
    "DataOpened",
    "EpochDone",
    "Finish",
    "Finished",
    "FirstLoss",
    "HeadFitted",
    "KeepWeights",
    "Planned",
    "Prepared",
    "Pricing",
    "Progress",
    "SaveWeights",
    "ScaleLearningRate",
    "Scored",
    "StartScored",
    "Started",
    "StepDivided",
    "StepDone",
    "Stop",
    "Stopped",
    "Tracked",
]
