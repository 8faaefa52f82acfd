"""Training in several processes: their common run, the process that writes it, and their requirements."""

from __future__ import annotations

from pathlib import Path

from visus.data.batches import BatchShard
from visus.errors import RecipeError
from visus.networks.machine import Machine
from visus.training.distribution import Group, refuse_shared_device
from visus.training.resolved_recipe import ResolvedRecipe
from visus.training.runs import RunFolder

_RUN = "run"


def run_to_go_on_with(group: Group) -> Path | None:
    """The run that these processes trained before a restart, if it has a checkpoint."""
    known = group.recall(_RUN)
    is_begun = bool(known) and RunFolder(Path(known), {}).checkpoint.is_file()
    return Path(known) if group.broadcast([is_begun])[0] else None


def new_run(group: Group, root: Path, name: str, metadata: dict[str, str]) -> RunFolder:
    """The folder of a new run, created and written by the first process; after a restart, the earlier folder.

    Raises:
        StorageError: the folder cannot be created.
    """
    known = group.recall(_RUN)
    path = Path(known)
    if group.is_first and not (known and path.is_dir()):
        path = RunFolder.create(root, name, metadata).path
        group.remember(_RUN, str(path.resolve()))
    return RunFolder(Path(group.broadcast_text(str(path))), metadata, is_ours=group.is_first)


def share_of(group: Group) -> BatchShard:
    """This process's slice of every batch."""
    return BatchShard(group.rank, group.size)


def refuse_too_many(group: Group, recipe: ResolvedRecipe, machine: Machine) -> None:
    """Raise an error for more processes, or slices of each, than samples in a batch, or for more processes than GPUs.

    Raises:
        RecipeError: the batch is too small.
        UsageError: there are too few GPUs.
    """
    if recipe.batch_size < group.size:
        raise RecipeError(
            f"batches of {recipe.batch_size} cannot be shared by {group.size} processes. "
            f"Take a --batch-size of at least {group.size}, or fewer processes."
        )
    if recipe.accumulate > max(1, recipe.batch_size // group.size):
        raise RecipeError(
            f"accumulate={recipe.accumulate} divides the {recipe.batch_size // group.size} samples of a process into more slices than samples. "
            f"Take at most {recipe.batch_size // group.size}, or fewer processes."
        )
    refuse_shared_device(group, machine.device)
