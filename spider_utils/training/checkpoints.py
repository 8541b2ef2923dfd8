"""Trained networks and training states on disk: safetensors and JSON, never pickle."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from spider_utils.errors import DataError
from spider_utils.files import atomic_path, read_json_object, write_json
from spider_utils.models import CLASSIFIERS, available_models, build_from_card
from spider_utils.models.network import Network

WEIGHTS_FILE, CARD_FILE = "model.safetensors", "model.json"
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x1f\x8b")  # torch.save, pickle, gzip
MOST_CHANNELS = 512  # of a network's input
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
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
    # Of a header that is JSON but means nothing the library makes an error of any kind.
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError, RuntimeError) as error:
        raise DataError(path, f"is damaged or no safetensors file ({str(error)[:160]})", fix) from error


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
        class_of: for each class of ``target`` the class of ``source`` that it is a part of, every one of these at least once.
            The last layer then starts with that class's weights, so that all parts of a class are equally likely at first. None
            leaves the last layer alone.

    Returns:
        Names of the target's weights that found no partner and keep their values.

    Raises:
        ValueError: no weight at all fits.
    """
    theirs, mine = source.state_dict(), target.state_dict()
    fitting = {name: value for name, value in theirs.items() if name in mine and mine[name].shape == value.shape}
    if class_of is not None:
        n_theirs = max(class_of) + 1
        for name, value in theirs.items():
            each = len(value) // n_theirs if value.ndim else 0  # rows of a class: several where one score is many pixels'
            if name not in fitting and name in mine and mine[name].shape == (each * len(class_of), *value.shape[1:]):
                fitting[name] = torch.cat([value[k * each : (k + 1) * each] for k in class_of])
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
    card = read_json_object(path)
    fix = "Get the model's folder again from where it was trained."
    needed = {"architecture": str, "in_channels": int, "n_classes": int, "options": dict}
    wrong = [key for key, kind in needed.items() if not isinstance(card.get(key), kind)]
    if wrong:
        raise DataError(path, f"lacks a proper {', '.join(wrong)}", fix)
    # A library makes the first convolution before it could be planned without memory: a bound, far above any network's.
    if not 1 <= card["in_channels"] <= MOST_CHANNELS:
        raise DataError(path, f"asks for {card['in_channels']} channels of input, not 1 to {MOST_CHANNELS}", fix)
    known = [*available_models(), *CLASSIFIERS]
    if card["architecture"] not in known:
        raise DataError(
            path,
            f"names the unknown architecture '{card['architecture'][:60]}' (known: {', '.join(known)})",
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
    path = folder / WEIGHTS_FILE
    fix = "Get the model's folder again from where it was trained, or train the model again."
    weights, _ = read_tensors(path, fix)
    try:
        # First without memory: a card may ask for any size, and only what the file of weights holds is made.
        with torch.device("meta"):
            planned = build_from_card(card).state_dict()
        _check_fits(path, weights, planned, fix)
        model = build_from_card(card)
    except DataError:
        raise
    except Exception as error:  # settings that nobody meant are refused by whichever library trips over them
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            folder / CARD_FILE,
            f"describes a network that cannot be built ({reason[:200]})",
            "Use the version of the kit that trained it.",
        ) from error
    if broken := [name for name, tensor in weights.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]:
        raise DataError(path, f"tensor {broken[0]} holds NaN or infinite values", fix)
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
        if (found[name].dtype in _FLOATS) != tensor.is_floating_point():
            raise DataError(path, f"tensor {name} holds {found[name].dtype}, not {tensor.dtype}", fix)
    if surplus := sorted(set(found) - set(wanted)):
        raise DataError(path, f"holds {len(surplus)} tensors that model.json knows nothing of, such as {surplus[0][:80]}", fix)


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
    try:
        state = _optimizer_state(tensors, notes["optimizer"]["numbers"], optimizer)
        groups = _param_groups(notes["optimizer"]["param_groups"], optimizer.state_dict()["param_groups"])
        training = dict(notes["training"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(path, f"is no training state of this network ({reason[:200]})", fix) from error
    model.load_state_dict(weights)
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    # Averages must have each weight's memory format: the fused optimizers walk through both in step, without looking at strides.
    for weight, values in optimizer.state.items():
        for key, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                values[key] = torch.empty_like(weight).copy_(value)
    return training


def _optimizer_state(
    tensors: dict[str, torch.Tensor], numbers: dict[str, dict[str, Any]], optimizer: torch.optim.Optimizer
) -> dict[int, dict[str, Any]]:
    """What the optimizer remembers of each weight. Raises ValueError, TypeError or KeyError where it cannot be this one's."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in numbers.items()}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    keys = {frozenset(values) for values in state.values()}
    if len(keys) > 1 or not set(state) <= set(range(len(weights))):
        raise ValueError("it remembers other things of one weight than of the next, or of more weights than there are")
    for index, values in state.items():
        for key, value in values.items():
            if not isinstance(value, torch.Tensor):
                _demand_like(f"{key} of weight {index}", value, 0.0)
            elif value.shape not in ((), weights[index].shape) or not value.is_floating_point():
                raise ValueError(f"{key} of weight {index} has shape {tuple(value.shape)} of {value.dtype}")
    return state


def _param_groups(stored: list[dict[str, Any]], own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The optimizer's groups with the stored numbers; how it computes (its flags) stays its own business.

    Raises ValueError, TypeError or KeyError where the stored ones are of other groups or hold no numbers.
    """
    if len(stored) != len(own) or any(one["params"] != other["params"] for one, other in zip(stored, own, strict=True)):
        raise ValueError("its groups of weights are not this optimizer's")
    groups = []
    for one, other in zip(stored, own, strict=True):
        numbers = {key: one[key] for key, value in other.items() if value is not None and not isinstance(value, bool)}
        for key, value in numbers.items():
            _demand_like(key, value, other[key])
        groups.append(other | numbers)
    return groups


def _demand_like(name: str, value: Any, own: Any) -> None:
    """Raise ValueError unless ``value`` is a finite number, or as many as ``own`` holds."""
    values, owns = (list(one) if isinstance(one, list | tuple) else [one] for one in (value, own))
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in values)
    if not numbers or len(values) != len(owns) or isinstance(value, list | tuple) != isinstance(own, list | tuple):
        raise ValueError(f"{name} is {str(value)[:40]}")
