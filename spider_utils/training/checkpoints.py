"""Trained networks and training states on disk: safetensors and JSON, never pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from spider_utils.errors import DataError
from spider_utils.files import atomic_path, read_json, write_json
from spider_utils.models import CLASSIFIERS, available_models, build_from_card
from spider_utils.models.network import Network

WEIGHTS_FILE, CARD_FILE = "model.safetensors", "model.json"
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x1f\x8b")  # torch.save, pickle, gzip
_HDF5_START = b"\x89HDF"


# ------------------------------------------------------------------------------------------------------------ tensor files


def write_tensors(path: str | Path, tensors: dict[str, torch.Tensor], notes: dict[str, Any] | None = None) -> None:
    """Write named tensors, with ``notes`` (anything JSON can hold) in the header, so that both change in one rename.

    Raises:
        DataError: the folder cannot be written.
    """
    # safetensors stores plain row-major tensors; the memory format is the business of whoever reads them.
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry only: the library writes several in random order, and equal runs should give equal files.
    header = {"notes": json.dumps(notes)} if notes else {"format": "pt"}
    with atomic_path(path) as partial:
        try:
            save_file(plain, str(partial), metadata=header)
        except SafetensorError as error:  # how the library reports a full disk
            raise DataError(path, f"cannot be written ({error})", "Free some space or choose another folder.") from error
        mask = os.umask(0)  # can only be read by setting it
        os.umask(mask)
        partial.chmod(0o666 & ~mask)  # the library makes files that only their owner can read


def read_tensors(path: str | Path, fix: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and notes of a file of ``write_tensors``.

    Args:
        path: the file.
        fix: what the user should do when it is not as it should be; ends the error message.

    Raises:
        DataError: the file is missing, truncated, or something else than safetensors, such as a pickle, which is not opened
            because opening it could run a stranger's code.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        if start.startswith(_PICKLE_STARTS):
            raise DataError(path, "is a pickle (or a torch.save file), not safetensors; it was not opened", fix)
        if start == _HDF5_START:
            raise DataError(path, "is an HDF5 file, not safetensors", fix)
        with safe_open(str(path), framework="pt", device="cpu") as file:
            notes = json.loads((file.metadata() or {}).get("notes", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, notes
    except FileNotFoundError as error:
        raise DataError(path, "the file does not exist", fix) from error
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror or error})", fix) from error
    except (SafetensorError, ValueError) as error:
        raise DataError(path, f"is damaged or no safetensors file ({error})", fix) from error


# ---------------------------------------------------------------------------------------------------------- trained models


def complete_card(model: Network, card: dict[str, Any]) -> dict[str, Any]:
    """``card`` with what ``model.spec`` knows about the network filled in.

    Raises:
        ValueError: the card says something else than the model about the network, or holds what JSON cannot.
    """
    plain_card, spec = json.loads(json.dumps(card)), json.loads(json.dumps(model.spec))
    for key, value in spec.items():
        if plain_card.get(key, value) != value:
            raise ValueError(f"the card says {key} = {plain_card[key]!r}, but the model was built with {value!r}")
    return spec | plain_card


def save_model(folder: str | Path, model: Network, card: dict[str, Any]) -> None:
    """Write ``model.safetensors`` (weights) and ``model.json`` (the card, with ``model.spec`` filled in) into ``folder``.

    Args:
        folder: made when it does not exist.
        model: a network of ``build_model`` or ``build_classifier``.
        card: what a user of the model must know: scheme, slice size, data, split, ...; anything JSON can hold.

    Raises:
        DataError: the folder cannot be written.
        ValueError: the card contradicts the model.
    """
    folder = Path(folder)
    complete = complete_card(model, card)
    write_tensors(folder / WEIGHTS_FILE, model.state_dict())
    write_json(folder / CARD_FILE, complete)


def copy_matching_weights(source: torch.nn.Module, target: torch.nn.Module, class_of: Sequence[int] | None = None) -> list[str]:
    """Copy every weight of ``source`` into ``target`` whose name and shape both networks share (transfer learning).

    Args:
        source, target: networks of one architecture.
        class_of: for each class of ``target`` the class of ``source`` that it is a part of. The last layer then starts with
            that class's weights, so that all parts of a class are equally likely at first. None leaves the last layer alone.

    Returns:
        Names of the target's weights that found no partner and keep their values.

    Raises:
        ValueError: no weight at all fits.
    """
    theirs, mine = source.state_dict(), target.state_dict()
    fitting = {name: value for name, value in theirs.items() if name in mine and mine[name].shape == value.shape}
    if class_of is not None:
        for name, value in theirs.items():
            if name not in fitting and name in mine and mine[name].shape == (len(class_of), *value.shape[1:]):
                fitting[name] = value[list(class_of)]
    if not fitting:
        raise ValueError("the two networks share no weight of the same name and shape: are they of one architecture?")
    target.load_state_dict(fitting, strict=False)
    return sorted(set(mine) - set(fitting))


def read_card(folder: str | Path) -> dict[str, Any]:
    """The card of a model folder, checked to describe a network that this version can build.

    Raises:
        DataError: no such folder or card, damaged card, missing entries, unknown architecture.
    """
    folder = Path(folder)
    path = folder / CARD_FILE
    if not path.is_file():
        problem = "holds no model.json" if folder.is_dir() else "the folder does not exist"
        raise DataError(folder, problem, "Name the folder of a trained model: it holds model.json and model.safetensors.")
    card = read_json(path)
    fix = "Get the model's folder again from where it was trained."
    needed = {"architecture": str, "in_channels": int, "n_classes": int, "options": dict}
    wrong = [key for key, kind in needed.items() if not isinstance(card, dict) or not isinstance(card.get(key), kind)]
    if wrong:
        raise DataError(path, f"lacks a proper {', '.join(wrong)}", fix)
    known = [*available_models(), *CLASSIFIERS]
    if card["architecture"] not in known:
        raise DataError(
            path,
            f"names the unknown architecture '{card['architecture']}' (known: {', '.join(known)})",
            "Use the version of the kit that trained it.",
        )
    card["options"].pop("transformer_pace", None)  # a setting of the training; earlier cards have it among the network's
    return card


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> tuple[Network, dict[str, Any]]:
    """Build the network of a model folder and give it its trained weights.

    Args:
        folder: holds ``model.json`` and ``model.safetensors``.
        device: where the network goes.

    Returns:
        The network in evaluation mode, and its card.

    Raises:
        DataError: a file is missing, truncated, a pickle, or does not fit the other; the message names it.
    """
    folder = Path(folder)
    card = read_card(folder)
    try:
        model = build_from_card(card)
    except (ValueError, TypeError) as error:
        raise DataError(folder / CARD_FILE, str(error), "Use the version of the kit that trained it.") from error
    path = folder / WEIGHTS_FILE
    fix = "Get the model's folder again from where it was trained, or train the model again."
    weights, _ = read_tensors(path, fix)
    _check_fits(path, weights, model.state_dict(), fix)
    model.load_state_dict(weights)
    model.spec = {key: card.get(key, value) for key, value in model.spec.items()}
    return model.to(device).eval(), card


def _check_fits(path: Path, found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], fix: str) -> None:
    """DataError that names the first tensor that is missing, of another shape, or too many."""
    for name, tensor in wanted.items():
        if name not in found:
            raise DataError(path, f"lacks the tensor {name} that model.json asks for", fix)
        if found[name].shape != tensor.shape:
            shapes = f"{tuple(found[name].shape)}, model.json asks for {tuple(tensor.shape)}"
            raise DataError(path, f"tensor {name} has shape {shapes}", fix)
    if surplus := sorted(set(found) - set(wanted)):
        raise DataError(path, f"holds {len(surplus)} tensors that model.json knows nothing of, such as {surplus[0]}", fix)


# --------------------------------------------------------------------------------------------------------- training states


def write_training_state(path: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer, notes: dict[str, Any]) -> None:
    """Write all that training needs to go on as if never interrupted, as one file, whole or not at all.

    Args:
        path: the file.
        model, optimizer: their tensors, and the optimizer's plain numbers, are stored.
        notes: anything else, as JSON can hold it (epoch, scheduler, history, ...).

    Raises:
        DataError: the folder cannot be written.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    state = optimizer.state_dict()
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for key, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
            else:
                numbers.setdefault(str(index), {})[key] = value
    optimizer_notes = {"param_groups": state["param_groups"], "numbers": numbers}
    write_tensors(path, tensors, {"optimizer": optimizer_notes, "training": notes})


def read_training_state(path: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer, fix: str) -> dict[str, Any]:
    """Put a stored training state back into ``model`` and ``optimizer`` and return the notes.

    Raises:
        DataError: the file is missing, damaged, or belongs to another network; ``fix`` ends the message.
    """
    path = Path(path)
    tensors, notes = read_tensors(path, fix)
    weights = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    _check_fits(path, weights, model.state_dict(), fix)
    model.load_state_dict(weights)
    stored = notes["optimizer"]
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in stored["numbers"].items()}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": stored["param_groups"]})
    # Averages must have each weight's memory format: the fused optimizers walk through both in step, without looking at strides.
    for weight, values in optimizer.state.items():
        for key, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                values[key] = torch.empty_like(weight).copy_(value)
    return notes["training"]
