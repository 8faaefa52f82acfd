"""Which run several processes train together, who of them writes it, and what they need."""

from __future__ import annotations

from pathlib import Path

from visus.data.batches import BatchShard
from visus.errors import RecipeError
from visus.networks.machine import Machine
from visus.training.distribution import Group, refuse_shared_device
from visus.training.resolve import ResolvedRecipe
from visus.training.runs import RunFolder

_RUN = "run"


def run_to_go_on_with(group: Group) -> Path | None:
    """The run that these processes trained before they were started again, where it got as far as a checkpoint."""
    known = group.recall(_RUN)
    is_begun = bool(known) and RunFolder(Path(known), {}).checkpoint.is_file()
    return Path(known) if group.numbers([is_begun])[0] else None


def new_run(group: Group, root: Path, name: str, metadata: dict[str, str]) -> RunFolder:
    """The folder of a new run, which the first process makes and writes; the one that was made before they were started again, if any.

    Raises:
        StorageError: it cannot be made.
    """
    known = group.recall(_RUN)
    path = Path(known)
    if group.is_first and not (known and path.is_dir()):
        path = RunFolder.create(root, name, metadata).path
        group.remember(_RUN, str(path.resolve()))
    return RunFolder(Path(group.text(str(path))), metadata, is_ours=group.is_first)


def share_of(group: Group) -> BatchShard:
    """This process's slice of every batch."""
    return BatchShard(group.rank, group.size)


def refuse_too_many(group: Group, recipe: ResolvedRecipe, machine: Machine) -> None:
    """Refuse more processes than there are samples in a batch, or graphics processors to compute on.

    Raises:
        RecipeError: the batch is too small.
        UsageError: there are too few graphics processors.
    """
    if recipe.batch_size < group.size:
        raise RecipeError(
            f"batches of {recipe.batch_size} cannot be shared by {group.size} processes. "
            f"Take a --batch-size of at least {group.size}, or fewer processes."
        )
    refuse_shared_device(group, machine.device)
